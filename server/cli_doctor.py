"""``socket-owner doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from socket_core.errors import ConfigError


def doctor(
    home: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Of a deployment, or of keys and releases (--out of training)."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Experiment: images, device, do releases fit.")
    ] = None,
    data: Annotated[str, typer.Option("--data", help="Folder of images, in place of the experiment's.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Look at all that an owner needs: machine, experiment, images, keys, releases, deployment. Nothing is changed.

    Ends with 0 if nothing failed, else with the code of the first failure (docs/doctor.md).

    Example: socket-owner doctor plants --config experiment.yaml
    """
    from deploy.doctor import examine as examine_deployment
    from deploy.layout import FILE
    from server.doctor import examine

    if home is None and config is None:
        raise ConfigError("nothing to look at", where="socket-owner doctor", remedy="give DIR, --config or both")
    if home is not None and (home / FILE).is_file():
        found = examine_deployment(home, config=config, data=data)
    else:
        found = examine(home, config=config, data=data)
    print(json.dumps(found.plain()) if as_json else "\n".join(found.lines()))
    raise typer.Exit(found.exit_code)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)
