"""Commands of ``socket-owner`` that set up, serve and use a deployment; :mod:`deploy` does the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The deployment's folder.")]
Days = Annotated[int, typer.Option("--days", min=1, max=3650, help="Validity of the server certificate.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(init_deployment)
    app.command()(renew_certificate)
    app.command()(serve)
    app.command()(run)
    app.command()(unit)


def init_deployment(
    folder: Folder,
    sites: Annotated[str, typer.Option("--sites", help="Comma-separated names of the sites.")],
    host: Annotated[str, typer.Option("--host", help="Name or IP address under which sites reach this owner.")],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The one port that faces the sites.")] = 9092,
    control_port: Annotated[int, typer.Option(min=1, max=65535, help="On loopback only.")] = 9093,
    bind: Annotated[str, typer.Option(help="Address that the port listens on.")] = "0.0.0.0",
    home: Annotated[Path | None, typer.Option(help="Existing folder of keys and releases; default DIR/runs.")] = None,
    days: Days = 825,
    as_json: Json = False,
) -> None:
    """Make certificates, keys and one start kit for each site. Nothing is overwritten.

    Example: socket-owner init-deployment plants --sites north,south --host owner.example.org
    """
    from deploy.create import create_deployment
    from deploy.layout import DeploymentFile

    place = home.expanduser().resolve() if home is not None else Path("runs")
    names = tuple(word.strip() for word in sites.split(",") if word.strip())
    name = folder.expanduser().resolve().name
    file = DeploymentFile(
        name=name, host=host, port=port, bind=bind, control_port=control_port, sites=names, home=place
    )
    sums = create_deployment(folder, file, days=days)
    if as_json:
        print(json.dumps({"folder": str(folder.expanduser().resolve()), "kits": sums}))
        return
    print(f"{folder}: certificates for {host}, valid for {days} days; one kit for each site:")
    for site, digest in sums.items():
        print(f"  {folder / 'kits' / site}.tar.gz\n    sha256 {digest}")
    print("Give each kit to its site only, tell the sha256 by another way, then delete the kit here.")
    print(f"Next: socket-owner serve {folder}")


def renew_certificate(folder: Folder, days: Days = 825) -> None:
    """Replace the server certificate; sites need nothing new. Restart socket-owner serve afterwards.

    Example: socket-owner renew-certificate plants
    """
    from deploy.create import renew_certificate as renew
    from deploy.layout import open_deployment

    renew(open_deployment(folder), days=days)
    print(f"renewed for {days} days at most; restart socket-owner serve {folder}")


def serve(
    folder: Folder,
    every: Annotated[float, typer.Option(min=1.0, help="Seconds between health lines when nothing changes.")] = 300.0,
) -> None:
    """Run the SuperLink and keep it running, until Ctrl-C or a termination signal.

    Example: socket-owner serve plants
    """
    from deploy.layout import open_deployment
    from deploy.owner_service import serve_owner

    serve_owner(open_deployment(folder), every=every)


def run(
    folder: Folder,
    config: Annotated[Path, typer.Option("--config", help="The experiment.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest finished round.")] = False,
    as_json: Json = False,
) -> None:
    """Run an experiment on the served sites and follow it to its end; ends with an error if the run does.

    Example: socket-owner run plants --config experiment.yaml
    """
    from deploy.layout import open_deployment
    from deploy.run import run_experiment

    try:
        facts = run_experiment(open_deployment(folder), config, resume=resume, quiet=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(facts))


def unit(
    folder: Folder,
    user: Annotated[str, typer.Option(help="System user of the service; default: the folder's owner.")] = "",
) -> None:
    """Print a systemd unit that serves the deployment after each start of the machine.

    Example: socket-owner unit plants | sudo tee /etc/systemd/system/socket-owner.service
    """
    from deploy.layout import open_deployment
    from deploy.units import owner_unit

    print(owner_unit(open_deployment(folder).folder, user), end="")
