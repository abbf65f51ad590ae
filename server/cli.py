"""``socket-owner``: the model owner's command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from server import cli_compare, cli_completion, cli_deploy, cli_doctor, cli_report, cli_watch
from server.progress import Display
from socket_core.command_line import run
from socket_core.config import load_experiment
from socket_core.run_config import overrides

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="""Train and publish a source model, and compare federated adaptation with the alternatives.

A first path:

1. What can be gained, on embedded scenes, in minutes:  socket-owner compare --methods unadapted,adabn,shot,socket

2. The same on your own images, cost first:  socket-owner compare --config my.yaml --seeds 3 --dry-run

3. With real sites:  socket-owner init-deployment plants --sites north,south --host owner.example.org,
then  socket-owner serve plants  and  socket-owner run plants --config my.yaml

Each command has examples: socket-owner COMMAND --help. Completion in your shell: socket-owner --install-completion""",
)

Config = Annotated[
    Path,
    typer.Option("--config", help="Experiment, for example configs/demo.yaml.", autocompletion=cli_completion.configs),
]
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
    from server.cli_options import find
    from server.owner import release_folder, require_confirmation, train_and_release
    from socket_core.data.catalogue import load_task

    display = Display(quiet=quiet)
    experiment = load_experiment(find(config), overrides(seed="" if seed is None else str(seed), data=data))
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


cli_compare.register(app)
cli_deploy.register(app)
cli_doctor.register(app)
cli_report.register(app)
cli_watch.register(app)


def main() -> None:
    """Entry point."""
    run(app)
