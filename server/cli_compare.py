"""``socket-owner compare``."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from server import cli_completion as complete
from server.progress import Display

ALL = "unadapted,adabn,shot,socket,tgkt,oracle"


def compare(
    config: Annotated[Path, typer.Option("--config", help="Experiment.", autocompletion=complete.configs)] = Path(
        "configs/demo.yaml"
    ),
    out: Annotated[Path | None, typer.Option("--out", help="Default: runs/NAME in the working directory.")] = None,
    methods: Annotated[
        str, typer.Option(help="Comma-separated; none: variants alone.", autocompletion=complete.methods)
    ] = ALL,
    seeds: Annotated[
        str, typer.Option(help="3: seeds 0, 1, 2. 0,4: these. 3,: seed 3. Each trains its own source model.")
    ] = "",
    epsilon: Annotated[
        str,
        typer.Option(help="Privacy budgets on TI pairs, such as 1,3,8,none (without DP). For socket and tgkt."),
    ] = "",
    sites: Annotated[str, typer.Option(help="Numbers of simulated sites, such as 2,4,8.")] = "",
    partition: Annotated[
        str,
        typer.Option(
            help="How images are spread over them: iid, dirichlet:ALPHA, sensor; comma-separated.",
            autocompletion=complete.partitions,
        ),
    ] = "",
    modes: Annotated[
        str,
        typer.Option(help="Comma-separated; unadapted and oracle have one mode anyway.", autocompletion=complete.modes),
    ] = "local,federated,centralised",
    variants: Annotated[
        str, typer.Option(help="Comma-separated experiments, or folders of them: further rows, called by their names.")
    ] = "",
    data: Annotated[str, typer.Option("--data", help="Folder of images, in place of the experiment's data.root.")] = "",
    cache: Annotated[Path | None, typer.Option(help="Rendered or decoded images; default OUT/cache.")] = None,
    in_process: Annotated[bool, typer.Option(help="Run federations without Flower's SuperLink and Ray.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes side by side; default: what cores and free memory allow.")
    ] = None,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm-batchnorm-statistics",
            help="Publish BatchNorm statistics, knowing that they make inversion of the source images easier.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print plan, cost and what would be written; run and write nothing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no table, errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")] = False,
) -> None:
    """Adapt with each method alone at each site, federated and centralised, and print one table.

    What is finished is kept: after Ctrl-C, or if it is killed, the same command goes on where it was.

    First look:  socket-owner compare --methods unadapted,adabn,shot,socket

    What it would take:  socket-owner compare --config configs/compare.yaml --seeds 3 --dry-run

    A grid:  socket-owner compare --config configs/compare.yaml --seeds 3 --epsilon 1,3,8,none --sites 2,4,8
    --partition iid,dirichlet:0.5,dirichlet:0.1

    Own settings as further rows:  socket-owner compare --variants configs/ablations --modes federated
    """
    started = time.monotonic()
    display = Display(quiet=quiet)
    home = Path()
    try:
        from server import cli_options as options
        from server.capacity import workers_for
        from server.compare import Plan
        from server.compare import compare as run_plan
        from server.comparison_report import publish
        from server.federate import FlowerFederator, LocalFederator
        from server.grid import common, lines_of
        from server.variants import load_variants
        from socket_core.config import load_experiment
        from socket_core.run_config import overrides

        given = load_experiment(options.find(config), overrides(data=data))
        home = (out or Path("runs") / given.name).resolve()
        axes = options.axes(epsilon, sites, partition)
        files = [options.find(Path(word)) for word in options.words(variants)]
        further = load_variants(files, given, overrides(data=data))
        names = options.methods(methods, needed=not further)
        plan = Plan(
            common(given, axes),
            names,
            options.seeds(seeds, given.seed),
            home,
            (cache or home / "cache").resolve(),
            workers=workers or workers_for(given),
            confirm_batchnorm=confirm,
            variants=further,
            modes=options.modes(modes),
            grid=lines_of(given, names, axes),
        )
        if dry_run:
            from server.dry_run import describe, look

            found = look(plan, flower=not in_process, start=time.monotonic() - started)
            print(json.dumps(found.plain(), indent=1) if as_json else "\n".join(describe(found)))
            return
        display.say(f"writing to {home}")
        rows = run_plan(plan, LocalFederator() if in_process else FlowerFederator(), display)
        publish(plan, rows, display, command=command(), started=started, show=not as_json)
        if as_json:
            print((home / "results.json").read_text(encoding="utf-8"))
    except KeyboardInterrupt:
        _stopped(display, home)


def command() -> str:
    """What was typed."""
    return shlex.join(["socket-owner", *sys.argv[1:]])


def _stopped(display: Display, home: Path) -> NoReturn:
    """Says how to go on, even if nothing but errors is to be shown: what was asked for is not done."""
    kept = len(list(home.glob("cells/*.json"))) if home.is_absolute() else 0
    what = f"stopped; {kept} finished results are kept in {home}" if kept else "stopped; no result was finished yet"
    display.insist(f"{what}; the same command goes on from here:\n  {command()}")
    raise typer.Exit(130)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(compare)
