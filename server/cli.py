"""``socket-owner``: the model owner's command line."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server import cli_deploy, cli_doctor, cli_report, cli_watch
from server.progress import Display
from socket_core.command_line import run
from socket_core.config import Experiment, MethodName, load_experiment
from socket_core.errors import ConfigError
from socket_core.run_config import APP, overrides

if TYPE_CHECKING:
    from server.results import Mode

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train and publish a source model, and compare federated adaptation with the alternatives.",
)

Config = Annotated[Path, typer.Option("--config", help="Experiment, for example configs/demo.yaml.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for everything that is written.")]
Data = Annotated[str, typer.Option("--data", help="Folder of images, in place of the experiment's data.root.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Confirm = Annotated[
    bool,
    typer.Option(
        "--confirm-batchnorm-statistics",
        help="Publish BatchNorm statistics, knowing that they make inversion of the source images easier.",
    ),
]


@app.command()
def train(
    config: Config,
    out: Out,
    confirm: Confirm = False,
    seed: Annotated[int | None, typer.Option(help="In place of the experiment's seed.")] = None,
    source: Annotated[str, typer.Option(help="One of further_sources, under its own key; default: the first.")] = "",
    data: Data = "",
    cache: Annotated[Path | None, typer.Option(help="Rendered or decoded images; default OUT/cache.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a source model on the owner's RGB images and write a signed release.

    Example: socket-owner train --config configs/demo.yaml --out runs/mine --confirm-batchnorm-statistics
    """
    from server.owner import release_folder, require_confirmation, train_and_release
    from socket_core.data.catalogue import load_task

    display = Display(quiet=quiet)
    experiment = load_experiment(_find(config), overrides(seed="" if seed is None else str(seed), data=data))
    experiment.trainer(source)  # an unknown name is refused before minutes of rendering, not after
    folder = release_folder(out, experiment, source)
    require_confirmation(confirm, folder)  # before minutes of training, not after
    with display.task("images") as progress:
        task = load_task(experiment.data, cache=cache or out / "cache", progress=progress)
    with display.task("source model, epochs") as progress:
        info, report = train_and_release(
            experiment,
            task,
            out,
            confirm_batchnorm=confirm,
            source=source,
            on_epoch=lambda done, of, _: progress(done, of),
        )
    facts = {
        "release": str(folder),
        "digest": info.digest,
        "best_epoch": report.best_epoch,
        "validation_accuracy": report.validation_accuracy,
        "test_accuracy": report.test_accuracy,
    }
    if as_json:
        print(json.dumps(facts))
    else:
        print(f"release {folder}\ndigest {info.digest}")
        print(f"held-out RGB accuracy {report.test_accuracy:.1%}, epoch {report.best_epoch} of {info.epochs}")


@app.command()
def inspect(
    release: Annotated[Path, typer.Argument(help="Folder of a release.")],
    key: Annotated[Path | None, typer.Option("--key", help="The owner's public key, to check the signature.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a release contains and whether its signature holds.

    Example: socket-owner inspect runs/demo/release-seed0 --key runs/demo/keys/owner.pub.pem
    """
    from server.inspection import describe

    facts = describe(release, key)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):24} {value}")


@app.command()
def compare(
    config: Config = Path("configs/demo.yaml"),
    out: Annotated[Path | None, typer.Option("--out", help="Default: runs/NAME in the working directory.")] = None,
    methods: Annotated[str, typer.Option(help="Comma-separated; none: variants alone.")] = (
        "unadapted,adabn,shot,socket,tgkt,oracle"
    ),
    variants: Annotated[
        str, typer.Option(help="Comma-separated experiments, or folders of them: further rows, called by their names.")
    ] = "",
    modes: Annotated[str, typer.Option(help="Comma-separated; unadapted and oracle have one mode anyway.")] = (
        "local,federated,centralised"
    ),
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds; each trains its own source model.")] = "",
    data: Data = "",
    cache: Annotated[Path | None, typer.Option(help="Rendered or decoded images; default OUT/cache.")] = None,
    in_process: Annotated[bool, typer.Option(help="Run federations without Flower's SuperLink and Ray.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes side by side; default: all cores.")] = None,
    confirm: Confirm = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Adapt with each method alone at each site, federated and centralised, and print one table.

    What is finished is kept: after Ctrl-C the same command goes on where it was.

    Example: socket-owner compare --config configs/demo.yaml --seeds 0,1,2 --out runs/demo
    """
    from server.compare import Plan
    from server.compare import compare as run_plan
    from server.comparison_report import publish
    from server.federate import FlowerFederator, LocalFederator
    from server.variants import load_variants

    started = time.monotonic()
    experiment = load_experiment(_find(config), overrides(data=data))
    home = (out or Path("runs") / experiment.name).resolve()
    further = load_variants([_find(Path(w)) for w in _words(variants)], experiment, overrides(data=data))
    plan = Plan(
        experiment,
        _methods(methods, needed=not further),
        _seeds(seeds, experiment),
        home,
        (cache or home / "cache").resolve(),
        confirm_batchnorm=confirm,
        variants=further,
        modes=_modes(modes),
        **({"workers": workers} if workers is not None else {}),
    )
    display = Display(quiet=quiet)
    display.say(f"writing to {home}")
    try:
        rows = run_plan(plan, LocalFederator() if in_process else FlowerFederator(), display)
    except KeyboardInterrupt:
        display.say("stopped; finished results are kept, the same command goes on from here")
        raise typer.Exit(130) from None
    command = shlex.join(["socket-owner", *sys.argv[1:]])
    publish(plan, rows, display, command=command, started=started, show=not as_json)
    if as_json:
        print((home / "results.json").read_text(encoding="utf-8"))


def _find(config: Path) -> Path:
    """A file of the working directory, else one of the app's own."""
    return config if config.exists() or config.is_absolute() else APP / config


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _methods(text: str, *, needed: bool) -> tuple[MethodName, ...]:
    from socket_core.methods import METHODS

    names = [] if text == "none" else _words(text)
    for name in names:
        if name not in METHODS:
            raise ConfigError(f"unknown method {name!r}", where="--methods", remedy=f"known: {', '.join(METHODS)}")
    if needed and not names:
        raise ConfigError("nothing to compare", where="--methods", remedy="name methods here, or give --variants")
    return tuple(names)  # type: ignore[arg-type]  # checked against the registry just above


def _modes(text: str) -> tuple[Mode, ...]:
    from server.results import MODES

    names = _words(text)
    for name in names:
        if name not in MODES:
            raise ConfigError(f"unknown mode {name!r}", where="--modes", remedy=f"known: {', '.join(MODES)}")
    if not names:
        raise ConfigError("no mode is left", where="--modes", remedy=f"give at least one of {', '.join(MODES)}")
    return tuple(mode for mode in MODES if mode in names)


def _seeds(text: str, experiment: Experiment) -> tuple[int, ...]:
    if not text:
        return (experiment.seed,)
    try:
        seeds = tuple(dict.fromkeys(int(word) for word in text.split(",")))
        if min(seeds) < 0:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"expected numbers from 0 on, found {text!r}", where="--seeds", remedy="for example 0,1,2"
        ) from None
    return seeds


cli_deploy.register(app)
cli_doctor.register(app)
cli_report.register(app)
cli_watch.register(app)


def main() -> None:
    """Entry point."""
    run(app)
