"""What a comparison is to run: the lines of its table, and the cells that they need."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from server.cells import Cell
from server.grid import Line
from server.results import MODES, Mode, Row
from socket_core.config import Experiment, MethodName
from socket_core.methods import METHODS


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        experiment: All but method and seed.
        methods: In the order of the table; none if there are variants.
        seeds: Each trains its own source model.
        home: Where everything is written.
        cache: Rendered or decoded images.
        workers: Processes side by side.
        confirm_batchnorm: The owner's word that the releases made here may be published; embedded scenes need none.
        variants: Further rows after those of the methods, each called by its experiment's name; they share the
            source model, see :func:`server.variants.load_variants`.
        modes: Those of methods that can be run in several; unadapted and oracle have one anyway.
        grid: Lines in place of one for each method, from :func:`server.grid.lines_of`.
    """

    experiment: Experiment
    methods: tuple[MethodName, ...]
    seeds: tuple[int, ...]
    home: Path
    cache: Path
    workers: int = field(default_factory=cores)
    confirm_batchnorm: bool = False
    variants: tuple[Experiment, ...] = ()
    modes: tuple[Mode, ...] = MODES
    grid: tuple[Line, ...] = ()

    @property
    def log(self) -> Path:
        """What simulated sites warn of."""
        return self.home / "sites.log"

    def variant(self, method: MethodName, seed: int) -> Experiment:
        """The experiment with this method and seed."""
        chosen = self.experiment.method.model_copy(update={"name": method})
        return as_compared(self.experiment.model_copy(update={"method": chosen}), seed)

    def lines(self) -> list[Line]:
        """The lines of the table; their seed is not set yet."""
        plain = [self.experiment.method.model_copy(update={"name": m}) for m in self.methods]
        own = [self.experiment.model_copy(update={"method": method}) for method in plain]
        found = list(self.grid) or [Line(e.method.name, e, e) for e in own]
        return found + [Line(v.name, v, v) for v in self.variants]

    def cells(self, seed: int) -> list[Cell]:
        """The cells of one seed, in the order of the table."""
        out = []
        for line in self.lines():
            for mode in modes_of(line.experiment.method.name, self.modes):
                own = line.central if mode == "centralised" else line.experiment
                out.append(Cell(as_compared(own, seed), mode, line.label, line.experiment.federation.partition))
        return out

    def named(self) -> dict[str, Experiment]:
        """By its label, the experiment of each line that is not simply a method with the settings of all."""
        return {x.label: x.experiment for x in self.lines() if x.label != x.experiment.method.name}


def job_of(cell: Cell) -> Cell:
    """The work behind a cell; cells of several lines that share a result have one."""
    return replace(cell, label="", partition="")


def shown(row: Row, cell: Cell) -> Row:
    """The row of a job as its line of the table has it."""
    return replace(row, label=cell.label, partition=cell.partition or row.partition)


def as_compared(experiment: Experiment, seed: int) -> Experiment:
    """The experiment with this seed, with every site in every round, and a point on the curve after each."""
    all_sites = {"quorum": experiment.federation.sites, "evaluate_every": 1}
    federation = experiment.federation.model_copy(update=all_sites)
    return experiment.model_copy(update={"seed": seed, "federation": federation})


def modes_of(method: MethodName, among: Sequence[Mode] = MODES) -> tuple[Mode, ...]:
    """Which modes make sense: nothing to federate without adaptation, and the oracle is one bound.

    Args:
        method: Name of the method.
        among: Modes that are asked for, where there is a choice.
    """
    if method == "unadapted":
        return ("unadapted",)
    return ("centralised",) if METHODS[method].oracle else tuple(mode for mode in MODES if mode in among)
