"""``socket-site doctor``: all that must be right before a site takes part, in the order that explains failures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from client import doctor_site as own
from client.doctor_connection import check_trusted_apps, examine_connection
from client.site import Site, site_of
from client.site_file import SiteFile, read_site_file
from socket_core import checks_machine as machine
from socket_core.checks import Check, Examination, ok, warning
from socket_core.checks_software import examine_experiment, examine_software
from socket_core.config import Experiment
from socket_core.privacy.chain import Chain
from socket_core.release import WEIGHTS

RECORDS = ("owner keys", "ledger", "whole-site ledger", "egress journal")
"""Checks without which nobody knows when something was last written down."""

KEPT = 2 * 2**20
"""Bytes that a job keeps besides images and releases: journal, ledger, BatchNorm state of a few rounds."""


def examine(
    site_file: Path,
    *,
    config: Path | None = None,
    server: str = "",
    ca: Path | None = None,
    releases: Sequence[Path] = (),
    node_key: Path | None = None,
    name_files: bool = False,
) -> Examination:
    """Looks at everything and changes nothing.

    Args:
        site_file: ``site.yaml``.
        config: An experiment: whether its run would be allowed, would fit, and has room.
        server: ``HOST:PORT`` of the owner's Fleet API, in place of ``connection.superlink``; with neither, the
            network is not looked at.
        ca: The owner's certificate authority, in place of ``connection.ca``.
        releases: Folders of releases besides those that the site holds.
        node_key: The SuperNode's private key, in place of ``connection.node_key``.
        name_files: Whether images that cannot be used are named.
    """
    found, now = Examination(), datetime.now(UTC)
    files: list[SiteFile] = []
    sites: list[Site] = []
    examine_software(found)
    found.run("site file", partial(_read_file, site_file, files))
    found.run("owner keys", lambda: _read_keys(files[0], sites), after=["site file"])
    experiment = next(iter(examine_experiment(found, config, {})), None)
    found.run("device", lambda: machine.check_device(experiment.device if experiment else "auto", machine.gpus()))
    _machine(found, files, experiment)
    found.run("TR images", lambda: own.check_task_images(files[0], name_files=name_files), after=["site file"])
    found.run("TI pairs", lambda: own.check_pairs(files[0], name_files=name_files), after=["site file"])
    found.run("policy", lambda: own.check_policy(sites[0], experiment), after=["owner keys", "experiment"])
    _releases(found, sites, releases, experiment)
    _records(found, sites)
    found.run("clock", lambda: machine.check_clock(now, own.newest_entry(sites[0])), after=RECORDS)
    found.run("key permissions", lambda: _check_keys(sites[0], files[0], site_file, node_key), after=["owner keys"])
    found.run("home permissions", lambda: check_home_private(files[0].home), after=["site file"])
    if files and files[0].connection is not None:
        found.run("trusted apps", partial(check_trusted_apps, files[0].connection.trusted_apps))
    examine_connection(found, files[0].connection if files else None, server, ca, now)
    return found


def check_home_private(home: Path) -> Check:
    """Whether others can look into the folder that decoded images lie in."""
    name = "home permissions"
    if not home.exists():
        return ok(name, "not there yet, will be made for its owner alone")
    if home.stat().st_mode & 0o077:
        return warning(name, "group or others can look into it, and into decoded images", f"chmod 700 {home}")
    return ok(name, "for its owner alone")


def _read_file(path: Path, files: list[SiteFile]) -> Check:
    files.append(read_site_file(path))
    return ok("site file", f"site {files[0].name}, {files[0].modality}")


def _read_keys(file: SiteFile, sites: list[Site]) -> Check:
    sites.append(site_of(file))
    return ok("owner keys", f"{len(sites[0].pinned_keys)} pinned")


def _machine(found: Examination, files: list[SiteFile], experiment: Experiment | None) -> None:
    def images() -> int:
        return own.decoded_bytes(files[0], experiment.data.size) if experiment else 0

    found.run("memory", lambda: machine.check_memory(machine.available_memory(), images()), after=["site file"])
    found.run("home", lambda: machine.check_writable(files[0].home), after=["site file"])
    found.run("disk", lambda: machine.check_disk(files[0].home, images() + _kept(files[0].home)), after=["site file"])


def _kept(home: Path) -> int:
    """A new release is as large as the largest one held, and lies there twice for a moment."""
    return KEPT + 2 * max((path.stat().st_size for path in home.glob(f"releases/*/{WEIGHTS}")), default=0)


def _releases(found: Examination, sites: list[Site], given: Sequence[Path], experiment: Experiment | None) -> None:
    held = [p for site in sites for p in sorted(site.store.releases.glob("[!.]*")) if p.is_dir()]
    if not held and not given:
        found.run("release", lambda: ok("release", "none held yet; the owner's server sends it"), after=["owner keys"])
    # A release that is held may be of another experiment than this one.
    for folder, fits in [*((p, None) for p in held), *((p, experiment) for p in given)]:
        name = f"release {folder.resolve().name[:32]}"
        found.run(name, partial(_check_release, sites, name, folder, fits), after=["owner keys"])


def _check_release(sites: list[Site], name: str, folder: Path, experiment: Experiment | None) -> Check:
    return own.check_release(name, sites[0], folder, experiment)


def _records(found: Examination, sites: list[Site]) -> None:
    found.run("ledger", lambda: own.check_ledger("ledger", sites[0].ledger_file), after=["owner keys"])
    found.run("ledger writable", lambda: own.check_ledger_writable(sites[0].ledger_file), after=["ledger"])
    for site in sites:
        if Chain.begun(site.site_ledger_file):
            name = "whole-site ledger"
            found.run(name, partial(own.check_ledger, name, site.site_ledger_file))
    found.run("egress journal", lambda: own.check_journal(sites[0].journal_file), after=["owner keys"])


def _check_keys(site: Site, file: SiteFile, site_file: Path, node_key: Path | None) -> Check:
    found = machine.private_keys([site_file.resolve().parent, site.store.home])
    chains = [path.with_suffix(".key") for path in (site.ledger_file, site.site_ledger_file, site.journal_file)]
    found += [path for path in chains if path.exists()]
    node_key = node_key or (file.connection.node_key if file.connection else None)
    found += [node_key.resolve()] if node_key is not None else []
    return machine.check_private(list(dict.fromkeys(found)), absent="correct the path, or unpack the start kit again")
