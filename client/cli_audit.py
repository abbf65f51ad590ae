"""``socket-site audit`` and ``socket-site egress``: what an auditor asks a site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from client.audit_sections import Attack
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
    empirical: Annotated[bool, typer.Option("--empirical", help="Try the DP step of this code with canaries.")] = False,
    others_tr: Annotated[Path | None, typer.Option(help="Attack what left: task-relevant images not used.")] = None,
    others_ti_rgb: Annotated[Path | None, typer.Option(help="RGB halves of pairs not used.")] = None,
    others_ti_target: Annotated[Path | None, typer.Option(help="Their target halves.")] = None,
    job: Annotated[str, typer.Option(help="Which job to attack; default: the latest that was kept.")] = "",
    figure: Annotated[Path | None, typer.Option(help="Draw the attack's ROC curves, PNG.")] = None,
) -> None:
    """Show what was spent on the TI pairs and whether ledger, journal and kept state agree; or check evidence.

    Ends with code 8 if the ledger is missing or altered or a check fails, with 7 if more is spent than the policy's
    cap. With --empirical the DP step of this very code is audited with canaries (about 20 s). With --others-... the
    updates that a site with keep_sent: true has kept are attacked. All of it goes into --export.

    At the site:     socket-site audit site.yaml --empirical --export evidence.json

    At the auditor:  socket-site audit --verify evidence.json --key site.pub.pem
    """
    attack = Attack(others_tr, others_ti_rgb, others_ti_target, job, figure)
    if verify is not None:
        if site_file is not None or export is not None or empirical or attack != Attack():
            raise _unclear("--verify needs no site and writes nothing: leave all out but --key, --earlier and --json")
        if key is None:
            raise _unclear("--verify needs --key with the site's public key, received by another way than the file")
        _verify(verify, key, earlier, as_json=as_json)
        return
    if key is not None or earlier is not None:
        raise _unclear("--key and --earlier go with --verify alone")
    if site_file is None:
        raise _unclear("expected a site file, or --verify with --key")
    if not attack.asked and attack != Attack():
        raise _unclear("--job and --figure go with --others-tr or --others-ti-rgb and --others-ti-target")
    _audit(site_file, export, attack, empirical=empirical, as_json=as_json)


def _audit(site_file: Path, export: Path | None, attack: Attack, *, empirical: bool, as_json: bool) -> None:
    from client import audit as auditing
    from client import audit_sections
    from client.evidence import export as write
    from client.site import open_deployed
    from client.verification import verify

    site = open_deployed(site_file)
    found = verify(site)
    extra: dict[str, dict[str, Any]] = {}
    words: list[str] = []
    for name, asked, run in (
        ("empirical", empirical, audit_sections.empirical),
        ("membership", attack.asked, lambda: audit_sections.membership(site_file, attack)),
    ):
        if asked:
            extra[name], lines = run()
            words += ["", *lines]
    if export is not None:
        public = write(site, found, export, extra)
        if not as_json:
            print(f"wrote {export}; with {public} anyone can check it: socket-site audit --verify")
    table = found.audit
    if table is None and found.whole_site is None:
        found.insist()
        auditing.audit(site)  # raises: there is no ledger
    books = [book for book in (table, found.whole_site) if book is not None]
    if as_json:
        print(json.dumps((table or {}) | {"whole_site": found.whole_site, "verification": found.plain()} | extra))
    else:
        checks = [f"{check.status:12} {check.name}: {check.text}" for check in found.checks]
        print("\n".join([*(line for book in books for line in [*auditing.lines(book), ""]), *checks, *words]))
    for book in books:
        auditing.check_cap(book)
    found.insist()
    if extra.get("empirical", {}).get("ok") is False:
        raise PrivacyError(
            "the empirical audit found a leak, or did not see a fault that was put in",
            where="--empirical",
            remedy="run it again; if it stays so, train on no pairs with this version and report it",
        )


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
