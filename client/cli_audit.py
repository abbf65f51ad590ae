"""``socket-site audit`` and ``socket-site egress``: what an auditor asks a site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from socket_core.errors import ConfigError, PrivacyError

AnySiteFile = Annotated[Path | None, typer.Argument(metavar="[SITE.YAML]", help="The site's own configuration.")]
SiteFile = Annotated[Path, typer.Argument(metavar="SITE.YAML", help="The site's own configuration.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def audit(
    site_file: AnySiteFile = None,
    as_json: Json = False,
    export: Annotated[Path | None, typer.Option("--export", help="Write a signed file of evidence as well.")] = None,
    verify: Annotated[Path | None, typer.Option("--verify", help="Check a file of evidence; needs no site.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="The site's public key, site.pub.pem.")] = None,
    earlier: Annotated[
        Path | None, typer.Option("--earlier", help="Evidence of the same site from before: nothing may be gone.")
    ] = None,
) -> None:
    """Show what was spent on the TI pairs and whether ledger, journal and kept state agree; or check evidence.

    Ends with code 8 if the ledger is missing or altered or a check fails, with 7 if more is spent than the policy's
    cap.

    At the site:     socket-site audit site.yaml --export evidence.json

    At the auditor:  socket-site audit --verify evidence.json --key site.pub.pem
    """
    if verify is not None:
        if site_file is not None or export is not None:
            raise _unclear("--verify needs no site and writes nothing: leave SITE.YAML and --export out")
        if key is None:
            raise _unclear("--verify needs --key with the site's public key, received by another way than the file")
        _verify(verify, key, earlier, as_json=as_json)
        return
    if key is not None or earlier is not None:
        raise _unclear("--key and --earlier go with --verify alone")
    if site_file is None:
        raise _unclear("expected a site file, or --verify with --key")
    _audit(site_file, export, as_json=as_json)


def _audit(site_file: Path, export: Path | None, *, as_json: bool) -> None:
    from client import audit as auditing
    from client.evidence import export as write
    from client.site import open_deployed
    from client.verification import verify

    site = open_deployed(site_file)
    found = verify(site)
    if export is not None:
        public = write(site, found, export)
        if not as_json:
            print(f"wrote {export}; with {public} anyone can check it: socket-site audit --verify")
    # A ledger that is missing or altered has no table: this raises and says so.
    table = found.audit if found.audit is not None else auditing.audit(site)
    if as_json:
        print(json.dumps(table | {"verification": found.plain()}))
    else:
        checks = [f"{check.status:12} {check.name}: {check.text}" for check in found.checks]
        print("\n".join([*auditing.lines(table), "", *checks]))
    auditing.check_cap(table)
    found.insist()


def _verify(path: Path, key: Path, earlier: Path | None, *, as_json: bool) -> None:
    from client.evidence_format import lines, open_evidence

    evidence = open_evidence(path, key)
    failures = evidence.failures()
    if earlier is not None:
        failures += evidence.follows(open_evidence(earlier, key))
    if as_json:
        checks = [one.model_dump() for one in evidence.verification]
        print(json.dumps({"site": evidence.site, "time": evidence.time, "checks": checks, "failures": failures}))
    else:
        print("\n".join(lines(evidence, key)))
        if earlier is not None and not failures:
            print(f"  everything in {earlier} is still there")
    if failures:
        raise PrivacyError(
            f"the signature holds, but {len(failures)} checks fail; first {failures[0]}",
            where=str(path),
            remedy="do not rely on this site's updates until its operator has explained it",
        )


def egress(site_file: SiteFile, as_json: Json = False) -> None:
    """List what left the site, after checking the journal's chain; --json with each tensor and scalar.

    Example: socket-site egress site.yaml --json
    """
    from client.journal import Journal
    from client.site import open_deployed

    left = Journal(open_deployed(site_file).journal_file, create=False).read()
    if as_json:
        print(json.dumps(left))
        return
    print(
        f"{'time':25} {'kind':10} {'job':40} {'round':>5} {'TI pairs':8} {'tensors':>7} {'bytes':>12}  payload sha256"
    )
    for one in left:
        where = f"{one['time']:25} {one['kind']:10} {one['experiment'][:40]:40} {one['round']:>5} {one['pairs']:8}"
        print(f"{where} {len(one['tensors']):>7} {one['bytes']:>12}  {one['payload_sha256'][:16]}")
    print(f"{len(left)} messages of {sum(one['bytes'] for one in left)} bytes, chain intact")


def _unclear(what: str) -> ConfigError:
    return ConfigError(what, where="socket-site audit", remedy="see socket-site audit --help")
