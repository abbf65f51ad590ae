"""``socket-site doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def doctor(
    site_file: Annotated[Path, typer.Argument(metavar="SITE.YAML", help="The site's own configuration.")],
    config: Annotated[Path | None, typer.Option("--config", help="Experiment: is it allowed, does it fit.")] = None,
    server: Annotated[str, typer.Option(help="HOST:PORT, in place of connection.superlink.")] = "",
    ca: Annotated[Path | None, typer.Option("--ca", help="In place of connection.ca.")] = None,
    release: Annotated[list[Path] | None, typer.Option("--release", help="A release not held yet.")] = None,
    node_key: Annotated[Path | None, typer.Option("--node-key", help="In place of connection.node_key.")] = None,
    name_files: Annotated[bool, typer.Option("--name-files", help="Name images that cannot be used.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Look at all that a site needs: machine, images, policy, releases, records, network. Nothing is changed or sent.

    Ends with 0 if nothing failed, else with the code of the first failure (docs/doctor.md).

    Example: socket-site doctor site.yaml --config experiment.yaml
    """
    from client.doctor import examine

    found = examine(
        site_file,
        config=config,
        server=server,
        ca=ca,
        releases=release or (),
        node_key=node_key,
        name_files=name_files,
    )
    print(json.dumps(found.plain()) if as_json else "\n".join(found.lines()))
    raise typer.Exit(found.exit_code)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)
