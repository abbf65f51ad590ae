"""``socket-site``: the command line of a sensor site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from socket_core.command_line import run
from socket_core.config import Experiment, load_experiment
from socket_core.run_config import overrides

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Check a site's images and policy, and adapt a release without any server.",
)

SiteFile = Annotated[Path, typer.Argument(metavar="SITE.YAML", help="The site's own configuration.")]
Config = Annotated[Path, typer.Option("--config", help="Experiment: method, sizes, steps.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@app.command()
def check(site_file: SiteFile, config: Config, as_json: Json = False) -> None:
    """Read the site's images and say whether its policy allows the experiment. Nothing leaves.

    Example: socket-site check /srv/site/site.yaml --config configs/demo.yaml
    """
    from client import policy
    from client.site import open_deployed

    experiment = load_experiment(config)
    site = open_deployed(site_file)
    data = site.load(experiment).data
    policy.check(site.policy, experiment, experiment.federation.rounds)
    facts = {
        "site": site.name,
        "modality": site.modality,
        "task_relevant_images": len(data.tr),
        "task_irrelevant_pairs": len(data.ti),
        "bits": data.tr.pixels.dtype.itemsize * 8,
        "policy": f"allows {experiment.method.name} with bn_policy {experiment.federation.bn_policy}",
    }
    print(json.dumps(facts) if as_json else "\n".join(f"{k.replace('_', ' '):24} {v}" for k, v in facts.items()))


@app.command()
def adapt(
    site_file: SiteFile,
    config: Config,
    release: Annotated[list[Path], typer.Option("--release", help="Folder of a release; once for each source.")],
    out: Annotated[Path, typer.Option("--out", help="The adapted model, as safetensors.")],
    method: Annotated[str, typer.Option(help="In place of the experiment's.")] = "",
    as_json: Json = False,
) -> None:
    """Adapt one release, or several, on this site alone; the same loop as in a federation, without a server.

    Example: socket-site adapt site.yaml --config configs/demo.yaml --release release-seed0 --out adapted.safetensors
    """
    from rich.console import Console
    from rich.progress import Progress

    from client.alone import adapt_alone

    experiment: Experiment = load_experiment(config, overrides(method))
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(experiment.method.name, total=None)
        facts = adapt_alone(
            site_file, experiment, release, out, lambda done, total: bar.update(task, completed=done, total=total)
        )
    print(json.dumps(facts) if as_json else f"{facts['steps']} steps, {facts['visits']} images seen; wrote {out}")


def main() -> None:
    """Entry point."""
    run(app)
