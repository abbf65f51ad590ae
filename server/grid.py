"""The grid of a comparison: each method with each privacy budget, number of sites and partition that is asked for.

A line of the table is one point of the grid. Lines share what does not depend on where they stand: the centralised arm
has the steps of all sites together, so it depends on their number, but not on how images are spread over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from server import grid_privacy
from socket_core.config import Experiment, MethodName, parse_experiment
from socket_core.errors import ConfigError
from socket_core.methods import METHODS, needs_pairs

LONGEST_NAME = 64
V = TypeVar("V")


@dataclass(frozen=True)
class Axes:
    """What a grid varies; an empty axis stays as the experiment has it.

    Attributes:
        epsilons: Record-level budgets of the whole job at each site; None is without DP. For methods with TI pairs.
        sites: Numbers of simulated sites.
        partitions: As ``federation.partition``.
    """

    epsilons: tuple[float | None, ...] = ()
    sites: tuple[int, ...] = ()
    partitions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        label: What it is called.
        experiment: What its sites run, alone or together.
        central: What its centralised arm runs; lines with the same one share the result.
    """

    label: str
    experiment: Experiment
    central: Experiment


def common(experiment: Experiment, axes: Axes) -> Experiment:
    """The experiment with the values of those axes that have just one: what all lines have in common.

    Raises:
        ConfigError: If they do not fit.
    """
    sites = axes.sites[0] if len(axes.sites) == 1 else experiment.federation.sites
    partition = axes.partitions[0] if len(axes.partitions) == 1 else experiment.federation.partition
    return _moved(experiment, sites, partition)


def lines_of(experiment: Experiment, methods: Sequence[MethodName], axes: Axes) -> tuple[Line, ...]:
    """The lines of a grid, methods outermost, then epsilon, sites and partition.

    Args:
        experiment: As its file says.
        methods: In the order of the table.
        axes: What varies.

    Raises:
        ConfigError: If a point is no valid experiment, or an axis of epsilons has no method to go with.
    """
    plain = {method: _of_method(experiment, method) for method in methods}
    if axes.epsilons and not any(needs_pairs(e.method) for e in plain.values()):
        raise ConfigError(
            "no method of this comparison learns from TI pairs",
            where="--epsilon",
            remedy="add socket or tgkt to --methods, or leave --epsilon out",
        )
    return tuple(line for own in plain.values() for line in _lines_of_method(own, axes))


def check_names(lines: Iterable[Line], variants: Iterable[Experiment]) -> None:
    """Refuses variants that are called as a point of the grid is: files go by the name, whatever its case.

    Raises:
        ConfigError: For the first such variant.
    """
    taken = {name.casefold() for line in lines for name in (line.label, line.experiment.name, line.central.name)}
    for variant in variants:
        if variant.name.casefold() in taken:
            raise ConfigError(
                f"{variant.name!r} is the name of a point of the grid",
                where="--variants",
                remedy="give the variant another name",
            )


def _lines_of_method(plain: Experiment, axes: Axes) -> list[Line]:
    own, kind = plain.federation, METHODS[plain.method.name]
    sites, partitions = axes.sites or (own.sites,), axes.partitions or (own.partition,)
    # Where it makes no difference it is as the experiment has it, or the first of the axis.
    usual_sites, usual = _among(own.sites, sites), _among(own.partition, partitions)
    if plain.method.name == "unadapted":
        sites, partitions = (usual_sites,), (usual,)
    elif kind.oracle:
        partitions = (usual,)
    lines = []
    for (words, here), number, partition in product(_budgets(plain, axes), sites, partitions):
        label = [plain.method.name, *words]
        label += [f"{number} site{'s' * (number > 1)}"] if len(sites) > 1 else []
        label += [partition] if len(partitions) > 1 else []
        central = _moved(here, number if kind.trains else usual_sites, usual)
        central = grid_privacy.pooled(central) if words else central
        lines.append(Line(", ".join(label), _moved(here, number, partition), central))
    return lines


def _budgets(plain: Experiment, axes: Axes) -> list[tuple[list[str], Experiment]]:
    """What a label says of each privacy budget, and the experiment with it; one without words if there is no axis."""
    if not axes.epsilons or not needs_pairs(plain.method):
        return [([], plain)]
    private = any(epsilon is not None for epsilon in axes.epsilons)
    return [([grid_privacy.words(e)], grid_privacy.with_epsilon(plain, e, private=private)) for e in axes.epsilons]


def _of_method(experiment: Experiment, method: MethodName) -> Experiment:
    return experiment.model_copy(update={"method": experiment.method.model_copy(update={"name": method})})


def _moved(experiment: Experiment, sites: int, partition: str) -> Experiment:
    """The experiment with these sites, under a name of its own if anything differs.

    What differs in nothing keeps its name, and with it the results of an earlier, smaller comparison.
    """
    own, name = experiment.federation, [experiment.name]
    if sites != own.sites:
        name.append(f"{sites}-site{'s' * (sites > 1)}")
    if partition != own.partition:
        name.append(partition.replace(":", "-"))
    if len(name) == 1:
        return experiment
    quorum = sites if own.quorum == own.sites else min(own.quorum, sites)
    federation = own.model_copy(update={"sites": sites, "partition": partition, "quorum": quorum})
    moved = grid_privacy.for_sites(experiment, sites).model_copy(
        update={"name": _short("-".join(name)), "federation": federation}
    )
    return parse_experiment(moved.model_dump(mode="json"), where=f"--sites {sites}, --partition {partition}")


def _short(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise ConfigError(
            f"a point of the grid would be called {name!r}, which is longer than {LONGEST_NAME} characters",
            where="key 'name'",
            remedy="give the experiment a shorter name",
        )
    return name


def _among(value: V, values: Sequence[V]) -> V:
    return value if value in values else values[0]
