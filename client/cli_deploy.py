"""Commands of ``socket-site`` that keep a site connected to its owner; :mod:`deploy` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SiteFile = Annotated[Path, typer.Argument(metavar="SITE.YAML", help="The site's own configuration.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(serve)
    app.command()(unit)


def serve(
    site_file: SiteFile,
    every: Annotated[float, typer.Option(min=1.0, help="Seconds between health lines when nothing changes.")] = 300.0,
) -> None:
    """Connect to the owner and stay connected, until Ctrl-C or a termination signal.

    Example: socket-site serve site.yaml
    """
    from deploy.site_service import serve_site

    serve_site(site_file, every=every)


def unit(
    site_file: SiteFile,
    user: Annotated[str, typer.Option(help="System user of the service; default: the file's owner.")] = "",
) -> None:
    """Print a systemd unit that serves the site after each start of the machine.

    Example: socket-site unit site.yaml | sudo tee /etc/systemd/system/socket-site.service
    """
    from deploy.units import site_unit

    print(site_unit(site_file, user), end="")
