"""``socket-site``: the command line of a sensor site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, get_args

import typer

from client import cli_audit, cli_deploy, cli_doctor, cli_model
from client.cli_audit import AnySiteFile, Json, SiteFile
from socket_core.command_line import run
from socket_core.config import Experiment, MethodName, load_experiment
from socket_core.errors import ConfigError
from socket_core.run_config import overrides

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="""Check a site's images and policy, connect it to its owner, or adapt a release without any server.

A first path:

1. Is all in order?  socket-site doctor site.yaml

2. What would a run do, and what may leave?  socket-site policy site.yaml --config experiment.yaml --explain

3. Take part:  socket-site serve site.yaml

4. What has left, and what was spent?  socket-site audit site.yaml

Each command has examples: socket-site COMMAND --help. Completion in your shell: socket-site --install-completion""",
)

AnyConfig = Annotated[Path | None, typer.Option("--config", help="Experiment: method, sizes, classes, list files.")]
Config = Annotated[Path, typer.Option("--config", help="Experiment: method, sizes, steps.")]


def _methods(incomplete: str) -> list[str]:
    """What the shell offers after Tab."""
    return [name for name in get_args(MethodName) if name.startswith(incomplete)]


@app.command()
def check(
    site_file: AnySiteFile = None,
    config: AnyConfig = None,
    data: Annotated[Path | None, typer.Option("--data", help="A data set's folder, in place of a site.")] = None,
    kind: Annotated[str, typer.Option(help="Its layout: folder, lists, sunrgbd, diml or epfl_nir.")] = "",
    modality: Annotated[str, typer.Option(help="Of its target images: depth or nir.")] = "",
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Broken files are listed, no error.")] = False,
    as_json: Json = False,
) -> None:
    """Read a site's images and say whether its policy allows the experiment; or read a data set. Nothing leaves.

    A site:     socket-site check /srv/site/site.yaml --config configs/demo.yaml

    A data set: socket-site check --data /data/SUNRGBD --kind sunrgbd
    """
    if data is not None and site_file is None:
        from client.data_check import check_data

        check_data(data, config, kind=kind, modality=modality, skip_broken=skip_broken, as_json=as_json)
        return
    if site_file is None or config is None or data is not None:
        raise ConfigError(
            "expected either a site file and --config, or --data with --kind or --config",
            where="socket-site check",
            remedy="see socket-site check --help",
        )
    if kind or modality or skip_broken:
        raise ConfigError(
            "--kind, --modality and --skip-broken go with --data alone",
            where="socket-site check",
            remedy="a site's images are what its site.yaml says; remove the files that are broken",
        )
    from client import policy
    from client.site import open_deployed

    experiment = load_experiment(config)
    site = open_deployed(site_file)
    own = site.load(experiment).data
    policy.check(site.policy, experiment, experiment.federation.rounds)
    facts = {
        "site": site.name,
        "modality": site.modality,
        "task_relevant_images": len(own.tr),
        "task_irrelevant_pairs": len(own.ti),
        "bits": own.tr.pixels.dtype.itemsize * 8,
        "policy": f"allows {experiment.method.name} with bn_policy {experiment.federation.bn_policy}",
    }
    print(json.dumps(facts) if as_json else "\n".join(f"{k.replace('_', ' '):24} {v}" for k, v in facts.items()))


@app.command()
def adapt(
    site_file: SiteFile,
    config: Config,
    release: Annotated[list[Path], typer.Option("--release", help="Folder of a release; once for each source.")],
    out: Annotated[Path, typer.Option("--out", help="The adapted model, as safetensors.")],
    method: Annotated[str, typer.Option(help="In place of the experiment's.", autocompletion=_methods)] = "",
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
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{facts['steps']} steps, {facts['visits']} images seen; wrote {out}")
    if facts["warning"]:
        print(f"warning: {facts['warning']}")


@app.command()
def policy(
    site_file: SiteFile,
    config: AnyConfig = None,
    explain: Annotated[bool, typer.Option("--explain", help="In sentences, in place of keys.")] = False,
) -> None:
    """Show what runs may do at this site; with --config, whether that run would be allowed and what it would cost.

    Example: socket-site policy site.yaml --config configs/demo.yaml --explain
    """
    import yaml

    from client import explain as words
    from client.site import open_deployed

    site = open_deployed(site_file)
    if not explain:
        print(yaml.safe_dump(site.policy.model_dump(mode="json"), sort_keys=False), end="")
    found = words.explain(site) if explain else []
    if config is not None:
        found += words.explain_run(site, load_experiment(config))
    for sentence in found:
        print(sentence)


app.command()(cli_audit.audit)
app.command()(cli_audit.egress)


cli_deploy.register(app)
cli_doctor.register(app)
cli_model.register(app)


def main() -> None:
    """Entry point."""
    run(app)
