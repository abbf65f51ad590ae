"""Evidence: what an auditor is given, and checks with the site's public key and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app
from client.evidence import collect, egress_summary, export, site_key
from client.evidence_format import PURPOSE, open_evidence
from client.journal import Journal
from client.site import open_deployed
from client.verification import verify
from socket_core.errors import ConfigError, PrivacyError, ReleaseError
from socket_core.keys import create_keypair
from socket_core.privacy.accounting import Event, rdp_epsilon
from socket_core.signed_json import check, sign
from tests.client.auditing import Asked
from tests.client.builders import Deployment
from tests.server.builders import World


class Shown:
    """A deployed site whose home has the books of two rounds, and its evidence."""

    def __init__(self, world: World, folder: Path) -> None:
        asked = Asked(world, folder / "simulated")
        for round_ in (1, 2):
            asked.train(round_)
        policy = {"privacy": {"epsilon": 50.0}}
        deployed = Deployment(folder / "site", world.home / "keys" / "owner.pub.pem", policy=policy)
        self.home = folder / "site" / "home"
        shutil.copytree(asked.site.store.home, self.home)
        self.path, self.file, self.key = deployed.path, folder / "evidence.json", self.home / "site.pub.pem"
        self.site = open_deployed(self.path)
        self.result = audit(self.path, "--export", self.file)

    @property
    def content(self) -> dict[str, Any]:
        """What is signed."""
        return dict(json.loads(self.file.read_bytes())["content"])

    def signed(self, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
        """Other evidence, signed by the site itself."""
        content, out = self.content, folder / "other.json"
        change(content)
        out.write_bytes(sign(content, site_key(self.site)[0], PURPOSE))
        return out


def audit(*words: object) -> Result:
    """``socket-site audit``."""
    return CliRunner().invoke(app, ["audit", *map(str, words)])


@pytest.fixture(scope="module")
def shown(world: World, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Made once; nobody changes it."""
    return Shown(world, tmp_path_factory.mktemp("shown"))


def test_the_auditor_is_told_what_was_checked(shown: Shown, tmp_path: Path) -> None:
    assert shown.result.exit_code == 0
    alone = tmp_path / "auditor"
    alone.mkdir()
    shutil.copy(shown.file, alone / "e.json")
    shutil.copy(shown.key, alone / "k.pem")
    result = audit("--verify", alone / "e.json", "--key", alone / "k.pem")
    assert result.exit_code == 0
    expected = rdp_epsilon([Event(2.0, 0.5, 2)], 1e-5)
    for words in (
        "ok           ledger_chain: 2 charges",
        "ok           updates_were_charged: 2 updates",
        "ok           within_policy",
        f"epsilon {expected:.3f} by RDP at delta 1e-05 of at most 50; record-level",
        "add or remove one pair",
        "not covered: the site's task-relevant images",
        "3 messages of",
    ):
        assert words in result.stdout
    assert {path.name for path in alone.iterdir()} == {"e.json", "k.pem"}


def test_it_holds_ledger_policy_and_hashes_and_no_path(shown: Shown) -> None:
    content = shown.content
    assert [(c["job"], c["about"]["round"], c["event"]) for c in content["charges"]] == [
        ("job-1", r, {"sigma": 2.0, "sample_rate": 0.5, "steps": 1}) for r in (1, 2)
    ]
    assert content["policy"] == shown.site.policy.model_dump(mode="json")
    assert any("epsilon 50 at delta 1e-05" in sentence for sentence in content["policy_in_words"])
    entries = Journal(shown.site.journal_file, create=False).read()
    assert content["egress"]["payload_sha256"] == [entry["payload_sha256"] for entry in entries]
    assert content["egress"]["kinds"].keys() == {"Enrolment", "Update"}
    assert content["software"].keys() >= {"socket-fl", "torch", "opacus", "python"}
    assert str(shown.home) not in shown.file.read_text()
    assert "/" not in content["site"] + content["time"]


def test_egress_is_summed_up_by_kind() -> None:
    entries = [
        {"kind": "Update", "bytes": 10, "tensors": [1, 2], "payload_sha256": "a"},
        {"kind": "Refusal", "bytes": 3, "tensors": [], "payload_sha256": "b"},
        {"kind": "Update", "bytes": 20, "tensors": [1], "payload_sha256": "c"},
    ]
    assert egress_summary(entries) == {
        "messages": 3,
        "bytes": 33,
        "kinds": {
            "Refusal": {"messages": 1, "bytes": 3, "tensors": 0},
            "Update": {"messages": 2, "bytes": 30, "tensors": 3},
        },
        "payload_sha256": ["a", "b", "c"],
    }


def test_the_sites_key_is_made_once_and_is_the_sites_alone(shown: Shown, tmp_path: Path) -> None:
    private = shown.home / "site.key.pem"
    assert private.stat().st_mode & 0o077 == 0
    before = private.read_bytes()
    export(shown.site, verify(shown.site), tmp_path / "again.json")
    assert private.read_bytes() == before
    assert open_evidence(tmp_path / "again.json", shown.key).site == "north-roof"


@pytest.mark.parametrize("half", ["key", "pub"])
def test_half_a_key_pair_is_not_made_anew(shown: Shown, tmp_path: Path, half: str) -> None:
    home = tmp_path / "home"
    shutil.copytree(shown.home, home)
    raw = yaml.safe_load(shown.path.read_text()) | {"home": str(home)}
    other = tmp_path / "site.yaml"
    other.write_text(yaml.safe_dump(raw))
    (home / f"site.{half}.pem").unlink()
    if half == "key":
        with pytest.raises(ReleaseError, match="not found"):
            site_key(open_deployed(other))
    else:
        site_key(open_deployed(other))
        assert not (home / "site.pub.pem").exists()


def test_another_key_is_refused(shown: Shown, tmp_path: Path) -> None:
    _, stranger = create_keypair(tmp_path, "stranger")
    result = audit("--verify", shown.file, "--key", stranger)
    assert isinstance(result.exception, PrivacyError)
    assert "expected the key" in str(result.exception)


def test_one_altered_number_is_refused(shown: Shown, tmp_path: Path) -> None:
    other = tmp_path / "e.json"
    other.write_bytes(shown.file.read_bytes().replace(b'"steps": 1', b'"steps": 2', 1))
    result = audit("--verify", other, "--key", shown.key)
    assert isinstance(result.exception, PrivacyError)
    assert "was altered" in str(result.exception)


def _failing(content: dict[str, Any]) -> None:
    content["verification"][4] |= {"status": "failed", "text": "an update without a charge"}


FAILING: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a failed check": (_failing, "updates_were_charged: an update without a charge"),
    "a check left out": (lambda c: c["verification"].pop(0), "ledger_chain: this check is not in it"),
    "overspent": (lambda c: c["audit"].update(cap=0.1), "has spent more than the cap of 0.1"),
    "unbounded": (lambda c: c["audit"]["data_sets"][0]["total"].update(claim=None), "has spent more than the cap"),
    "a message left out": (lambda c: c["egress"]["payload_sha256"].pop(), "numbers of messages differ"),
    "a charge left out": (lambda c: c["charges"].pop(), "numbers of charges differ"),
    "an attack that got through": (lambda c: c.update(empirical={"ok": False}), "empirical: says that it is not ok"),
}


@pytest.mark.parametrize(("change", "words"), FAILING.values(), ids=FAILING.keys())
def test_evidence_that_speaks_against_the_site_ends_with_code_8(
    shown: Shown, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    result = audit("--verify", shown.signed(tmp_path, change), "--key", shown.key)
    assert isinstance(result.exception, PrivacyError)
    assert words in str(result.exception)
    assert "signature is of" in result.stdout


UNREADABLE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another version": (lambda c: c.update(version=2), "version 1, found"),
    "version true": (lambda c: c.update(version=True), "version 1, found"),
    "another format": (lambda c: c.update(format="socket-fl/release"), "expected socket-fl/evidence"),
    "no version": (lambda c: c.pop("version"), "version 1, found"),
    "an unknown section": (lambda c: c.update(more={}), "key 'more'"),
    "a section of another type": (lambda c: c.update(membership=[]), "key 'membership'"),
    "an unknown status": (lambda c: c["verification"][0].update(status="fine"), "key 'verification.0.status'"),
}


@pytest.mark.parametrize(("change", "words"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_this_build_cannot_read_is_refused(
    shown: Shown, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    with pytest.raises(PrivacyError, match=words):
        open_evidence(shown.signed(tmp_path, change), shown.key)


def test_further_sections_travel_and_are_named(shown: Shown, tmp_path: Path) -> None:
    out = tmp_path / "e.json"
    extra = {"membership": {"auc": 0.51, "advantage": float("inf")}}
    export(shown.site, verify(shown.site), out, extra)
    assert open_evidence(out, shown.key).membership == {"auc": 0.51, "advantage": None}
    assert "section membership is in it" in audit("--verify", out, "--key", shown.key).stdout
    with pytest.raises(PrivacyError, match="no section 'audit'"):
        collect(shown.site, verify(shown.site), {"audit": {}})


def test_later_evidence_must_hold_all_of_the_earlier(shown: Shown, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    grown = shown.signed(later, lambda c: c["egress"].update(c["egress"]))
    assert audit("--verify", grown, "--key", shown.key, "--earlier", shown.file).exit_code == 0

    def began_anew(content: dict[str, Any]) -> None:
        content["charges"] = content["charges"][1:]
        content["audit"]["charges"] = 1

    result = audit("--verify", shown.signed(tmp_path, began_anew), "--key", shown.key, "--earlier", shown.file)
    assert "no longer holds all charges" in str(result.exception)


def test_hostile_words_do_not_reach_the_terminal(shown: Shown, tmp_path: Path) -> None:
    other = shown.signed(tmp_path, lambda c: c["verification"][0].update(text="\x1b[2Jall is well\n"))
    assert "\x1b" not in audit("--verify", other, "--key", shown.key).stdout


def test_a_site_whose_books_do_not_hold_can_still_show_them(shown: Shown, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(shown.home, home)
    raw = yaml.safe_load(shown.path.read_text()) | {"home": str(home)}
    other = tmp_path / "site.yaml"
    other.write_text(yaml.safe_dump(raw))
    (home / "ledger.head").unlink()
    result = audit(other, "--export", tmp_path / "e.json")
    assert isinstance(result.exception, PrivacyError)
    content = check((tmp_path / "e.json").read_bytes(), site_key(shown.site)[0].public_key(), PURPOSE, where="")
    assert content["audit"] is None
    assert (content["verification"][0]["status"], content["charges"]) == ("failed", [])
    assert "ledger_chain" in str(audit("--verify", tmp_path / "e.json", "--key", shown.key).exception)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected a site file, or --verify"),
        (["--verify", "e.json"], "needs --key"),
        (["site.yaml", "--verify", "e.json", "--key", "k"], "needs no site"),
        (["--verify", "e.json", "--key", "k", "--export", "o.json"], "writes nothing"),
        (["site.yaml", "--key", "k"], "go with --verify alone"),
        (["site.yaml", "--earlier", "e.json"], "go with --verify alone"),
        (["--export", "o.json"], "expected a site file"),
    ],
)
def test_combinations_without_sense_are_answered_in_a_sentence(words: list[str], sentence: str) -> None:
    exception = audit(*words).exception
    assert isinstance(exception, ConfigError)
    assert sentence in str(exception)


def test_json_says_the_same(shown: Shown) -> None:
    own = json.loads(audit(shown.path, "--json").stdout)
    told = json.loads(audit("--verify", shown.file, "--key", shown.key, "--json").stdout)
    assert own["verification"] == told["checks"]
    assert (told["site"], told["failures"]) == ("north-roof", [])


def test_evidence_from_before_whole_sites_were_shown_stays_readable(shown: Shown, tmp_path: Path) -> None:
    older = open_evidence(shown.signed(tmp_path, lambda content: content.pop("whole_site")), shown.key)
    assert older.whole_site is None
    assert open_evidence(shown.file, shown.key).follows(older) == []
