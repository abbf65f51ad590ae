"""``socket-owner compare``."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from server import cli_completion as complete
from server.progress import Display

if TYPE_CHECKING:
    from server.plan import Plan

Config = Annotated[Path, typer.Option("--config", help="Experiment.", autocompletion=complete.configs)]
Out = Annotated[Path | None, typer.Option("--out", help="Default: runs/NAME in the working directory.")]
Methods = Annotated[str, typer.Option(help="Comma-separated; none: variants alone.", autocompletion=complete.methods)]
Seeds = Annotated[str, typer.Option(help="3: seeds 0, 1, 2. 0,4: these. 3,: seed 3. Each trains its own source model.")]
Epsilon = Annotated[
    str, typer.Option(help="Privacy budgets on TI pairs, such as 1,3,8,none (without DP). For socket and tgkt.")
]
Sites = Annotated[str, typer.Option(help="Numbers of simulated sites, such as 2,4,8.")]
Partition = Annotated[
    str,
    typer.Option(
        help="How images are spread over them: iid, dirichlet:ALPHA, sensor; comma-separated.",
        autocompletion=complete.partitions,
    ),
]
Modes = Annotated[
    str,
    typer.Option(help="Comma-separated; unadapted and oracle have one mode anyway.", autocompletion=complete.modes),
]
Variants = Annotated[
    str, typer.Option(help="Comma-separated experiments, or folders of them: further rows, called by their names.")
]
Data = Annotated[str, typer.Option("--data", help="Folder of images, in place of the experiment's data.root.")]
Cache = Annotated[Path | None, typer.Option(help="Rendered or decoded images; default OUT/cache.")]
InProcess = Annotated[bool, typer.Option(help="Run federations without Flower's SuperLink and Ray.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes side by side; default: what cores and free memory allow.")
]
Confirm = Annotated[
    bool,
    typer.Option(
        "--confirm-batchnorm-statistics",
        help="Publish BatchNorm statistics, knowing that they make inversion of the source images easier.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print plan, cost and what would be written; run and write nothing.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no table, errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]


def compare(
    config: Config = Path("configs/demo.yaml"),
    out: Out = None,
    methods: Methods = "unadapted,adabn,shot,socket,tgkt,oracle",
    seeds: Seeds = "",
    epsilon: Epsilon = "",
    sites: Sites = "",
    partition: Partition = "",
    modes: Modes = "local,federated,centralised",
    variants: Variants = "",
    data: Data = "",
    cache: Cache = None,
    in_process: InProcess = False,
    workers: Workers = None,
    confirm: Confirm = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Adapt with each method alone at each site, federated and centralised, and print one table.

    What is finished is kept: after Ctrl-C, or if it is killed, the same command goes on where it was.

    First look:  socket-owner compare --methods unadapted,adabn,shot,socket

    What it would take:  socket-owner compare --config configs/compare.yaml --seeds 3 --dry-run

    A grid:  socket-owner compare --config configs/compare.yaml --seeds 3 --epsilon 1,3,8,none --sites 2,4,8
    --partition iid,dirichlet:0.5,dirichlet:0.1

    Own settings as further rows:  socket-owner compare --variants configs/ablations --modes federated
    """
    started, display, home = time.monotonic(), Display(quiet=quiet), None
    try:
        axes = {"epsilon": epsilon, "sites": sites, "partition": partition}
        words = {"methods": methods, "seeds": seeds, "modes": modes, "variants": variants}
        plan = _plan(config, out, data, cache, workers=workers, confirm=confirm, axes=axes, words=words)
        home = plan.home
        if dry_run:
            _show(plan, display, as_json=as_json, flower=not in_process, start=time.monotonic() - started)
            return
        _run(plan, display, started, as_json=as_json, flower=not in_process)
    except KeyboardInterrupt:
        _stopped(display, home)


def command() -> str:
    """What was typed."""
    return shlex.join(["socket-owner", *sys.argv[1:]])


def _plan(
    config: Path,
    out: Path | None,
    data: str,
    cache: Path | None,
    *,
    workers: int | None,
    confirm: bool,
    axes: dict[str, str],
    words: dict[str, str],
) -> Plan:
    from server import cli_options as options
    from server.capacity import workers_for
    from server.grid import common, lines_of
    from server.plan import Plan
    from server.variants import load_variants
    from socket_core.config import load_experiment
    from socket_core.run_config import overrides

    given, varied = load_experiment(options.find(config), overrides(data=data)), options.axes(**axes)
    files = [options.find(Path(word)) for word in options.words(words["variants"])]
    variants = load_variants(files, given, overrides(data=data))
    methods = options.methods(words["methods"], needed=not variants)
    home = (out or Path("runs") / given.name).resolve()
    return Plan(
        common(given, varied),
        methods,
        options.seeds(words["seeds"], given.seed),
        home,
        (cache or home / "cache").resolve(),
        workers=workers or workers_for(given),
        confirm_batchnorm=confirm,
        variants=variants,
        modes=options.modes(words["modes"]),
        grid=lines_of(given, methods, varied),
    )


def _run(plan: Plan, display: Display, started: float, *, as_json: bool, flower: bool) -> None:
    from server.compare import compare as run_plan
    from server.comparison_report import publish
    from server.federate import FlowerFederator, LocalFederator

    display.say(f"writing to {plan.home}")
    rows = run_plan(plan, FlowerFederator() if flower else LocalFederator(), display)
    publish(plan, rows, display, command=command(), started=started, show=not as_json)
    if as_json:
        print((plan.home / "results.json").read_text(encoding="utf-8"))


def _show(plan: Plan, display: Display, *, as_json: bool, **rest: Any) -> None:
    from server.dry_run import describe, look

    display.say("working out what it would take; the noise for a privacy budget takes seconds each")
    found = look(plan, **rest)
    if as_json:
        print(json.dumps(found.plain(), indent=1))
    elif not display.console.quiet:
        print("\n".join(describe(found)))


def _stopped(display: Display, home: Path | None) -> NoReturn:
    """Says how to go on, even if nothing but errors is to be shown: what was asked for is not done."""
    kept = len(list(home.glob("cells/*.json"))) if home is not None else 0
    what = f"stopped; {kept} finished results are kept in {home}" if kept else "stopped; no result was finished yet"
    display.insist(f"{what}; the same command goes on from here:\n  {command()}")
    raise typer.Exit(130)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(compare)
