"""The client app: every failure becomes a code without a word, and nothing is written outside the site."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from client import handlers
from client.app import app
from client.site_file import SitePolicy
from protos.codec import ENROL, EVALUATE, RELEASE, SCHEMA_VERSION, TRAIN, WireError, decode, encode, kind_of
from protos.wire_pb2 import (
    REASON_BASE,
    REASON_CONFIG,
    REASON_DATA,
    REASON_INTERNAL,
    REASON_MALFORMED,
    REASON_METHOD,
    REASON_POLICY,
    REASON_RELEASE,
    REASON_SCHEMA,
    Enrolment,
    EnrolRequest,
    Reason,
    Refusal,
    ReleaseFiles,
    RoundRequest,
    Update,
)
from server.enrolment import _release_message
from server.job import request_for
from server.owner import ensure_release
from server.state import ServerState, init
from socket_core.errors import (
    ConfigError,
    DataError,
    FederationError,
    MethodError,
    PolicyError,
    PrivacyError,
    ReleaseError,
    SocketError,
)
from socket_core.release import WEIGHTS, pack_release
from tests.server.builders import Bench, World, message_to, quiet, tree

SECRET = "/home/anna/depth/kitchen-0001.png"
HANDLERS = {ENROL: "enrol", RELEASE: "receive_release", TRAIN: "train_round", EVALUATE: "evaluate_round"}
FAILURES: list[tuple[Exception, Reason]] = [
    (PolicyError(SECRET, where=SECRET, remedy=SECRET), REASON_POLICY),
    (PrivacyError(SECRET, where=SECRET, remedy=SECRET), REASON_POLICY),
    (ConfigError(SECRET, where=SECRET, remedy=SECRET), REASON_CONFIG),
    (DataError(SECRET, where=SECRET, remedy=SECRET), REASON_DATA),
    (ReleaseError(SECRET, where=SECRET, remedy=SECRET), REASON_RELEASE),
    (MethodError(SECRET, where=SECRET, remedy=SECRET), REASON_METHOD),
    (FederationError(SECRET, where=SECRET, remedy=SECRET), REASON_INTERNAL),
    (SocketError(SECRET, where=SECRET, remedy=SECRET), REASON_INTERNAL),
    (WireError(REASON_SCHEMA, SECRET), REASON_SCHEMA),
    (WireError(REASON_MALFORMED, SECRET), REASON_MALFORMED),
    (RuntimeError(SECRET), REASON_INTERNAL),
    (FileNotFoundError(2, "No such file", SECRET), REASON_INTERNAL),
    (KeyError(SECRET), REASON_INTERNAL),
]


@pytest.fixture
def bench(world: World, tmp_path: Path) -> Bench:
    """A home whose sites hold nothing yet."""
    return Bench(world, tmp_path, federation__steps=1)


def call(content: RecordDict, kind: str, context: Context) -> RecordDict:
    """The records that a site answers with."""
    reply: Message = app(message_to(content, kind), context)
    assert reply.has_content()
    return reply.content


def reason_of(records: RecordDict) -> Reason:
    """The reason of a refusal, which holds nothing else."""
    assert kind_of(records) == "Refusal"
    assert set(records.keys()) == {"wire"}
    refusal = decode(records, Refusal)
    assert {field.name for field, _ in refusal.ListFields()} <= {"schema_version", "site", "reason"}
    return refusal.reason


def round_request(bench: Bench, **fields: Any) -> RecordDict:
    """A sound request for round 1 with some fields changed."""
    records = request_for(bench.job(), _state(bench))
    request = decode(records, RoundRequest)
    for name, value in fields.items():
        setattr(request, name, value)
    records["wire"] = encode(request).config_records["wire"]
    return records


def _state(bench: Bench) -> ServerState:
    start = init(bench.release.network(), bench.experiment, "job-1")
    return ServerState(start.experiment, 1, start.parameters)


def give_release(bench: Bench) -> None:
    """Lets site 0 have the release."""
    answer = call(_release_message(pack_release(bench.release_folder)), RELEASE, bench.context(0, 1))
    assert decode(answer, Enrolment).has_release


# --- failures


@pytest.mark.parametrize("kind", HANDLERS)
@pytest.mark.parametrize(("failure", "reason"), FAILURES, ids=[type(f).__name__ + f"-{r}" for f, r in FAILURES])
def test_each_failure_becomes_its_code_and_its_words_stay_at_home(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    failure: Exception,
    reason: Reason,
) -> None:
    def fail(*_: object) -> RecordDict:
        raise failure

    monkeypatch.setattr(handlers, HANDLERS[kind], fail)
    with caplog.at_level(logging.WARNING, logger="socket_fl.client"):
        records = call(RecordDict(), kind, bench.context(1, 9))
    assert reason_of(records) == reason
    assert decode(records, Refusal).site == "site-01"
    assert "anna" not in str(records)
    assert b"anna" not in bytes(records.config_records["wire"]["payload"])  # type: ignore[arg-type]  # bytes here
    assert SECRET in caplog.text, "the operator must find the cause in the site's own log"


@pytest.mark.parametrize("kind", HANDLERS)
def test_a_node_without_an_identity_refuses_with_config(kind: str) -> None:
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    records = call(RecordDict(), kind, context)
    assert reason_of(records) == REASON_CONFIG
    assert decode(records, Refusal).site == ""


def test_a_refusal_that_cannot_be_journalled_still_has_no_words(bench: Bench) -> None:
    (bench.home / "sites").write_text("a file where the folder should be")
    assert reason_of(call(RecordDict(), ENROL, bench.context(0, 1))) == REASON_MALFORMED


@pytest.mark.parametrize("kind", HANDLERS)
@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ({}, REASON_MALFORMED),
        ({"kind": "RoundRequest", "payload": b"\xff\xff garbage"}, REASON_MALFORMED),
        ({"kind": "Nonsense", "payload": b""}, REASON_MALFORMED),
    ],
)
def test_a_malformed_request_is_refused(bench: Bench, kind: str, wire: dict[str, Any], reason: Reason) -> None:
    assert reason_of(call(RecordDict({"wire": ConfigRecord(wire)}), kind, bench.context(0, 1))) == reason


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(ENROL, EnrolRequest()), (RELEASE, ReleaseFiles()), (TRAIN, RoundRequest()), (EVALUATE, RoundRequest())],
)
def test_a_request_of_another_schema_is_refused(bench: Bench, kind: str, payload: Any) -> None:
    payload.schema_version = SCHEMA_VERSION + 1
    wire = ConfigRecord({"kind": payload.DESCRIPTOR.name, "payload": payload.SerializeToString()})
    assert reason_of(call(RecordDict({"wire": wire}), kind, bench.context(0, 1))) == REASON_SCHEMA


def _experiment_json(bench: Bench, **update: Any) -> str:
    raw = bench.experiment.model_dump(mode="json")
    for dotted, value in update.items():
        section, _, key = dotted.partition("__")
        raw[section][key] = value
    return str(type(bench.experiment).model_validate(raw, strict=False).model_dump_json())


CASES: list[tuple[str, Callable[[Bench], RecordDict], Reason]] = [
    ("no release", lambda b: round_request(b, release_digest="0" * 64), REASON_RELEASE),
    ("digest as path", lambda b: round_request(b, release_digest="../" * 21 + "x"), REASON_RELEASE),
    ("no json", lambda b: round_request(b, experiment_json="{"), REASON_CONFIG),
    ("unknown key", lambda b: round_request(b, experiment_json='{"steps": 3}'), REASON_CONFIG),
    (
        "another size",
        lambda b: round_request(b, experiment_json=_experiment_json(b, data__size=64)),
        REASON_RELEASE,
    ),
    (
        "a loss that explodes",
        lambda b: round_request(b, experiment_json=_experiment_json(b, method__lr=1e30, federation__steps=6)),
        REASON_METHOD,
    ),
    (
        "parameters that are not held",
        lambda b: _with_arrays(round_request(b, parameters_sha256=b"x" * 32), {}),
        REASON_BASE,
    ),
    (
        "a change without its array",
        lambda b: _with_arrays(round_request(b, base_sha256=b"x" * 32), {}),
        REASON_MALFORMED,
    ),
    ("an array too many", lambda b: _with_arrays(round_request(b), {"delta": np.zeros(3)}), REASON_MALFORMED),
]


def _with_arrays(records: RecordDict, arrays: dict[str, Any]) -> RecordDict:
    records["arrays"] = ArrayRecord({name: Array(values) for name, values in arrays.items()})
    return records


@pytest.mark.parametrize(("make", "reason"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_round_that_cannot_be_done_is_refused_with_its_reason(
    bench: Bench, make: Callable[[Bench], RecordDict], reason: Reason
) -> None:
    give_release(bench)
    assert reason_of(call(make(bench), TRAIN, bench.context(0, 1))) == reason


def test_a_sound_request_is_answered_with_an_update(bench: Bench) -> None:
    give_release(bench)
    update = decode(call(round_request(bench), TRAIN, bench.context(0, 1)), Update)
    assert (update.site, update.experiment, update.round) == ("site-00", "job-1", 1)


# --- policy over the wire


@pytest.mark.parametrize(
    ("limits", "steps", "fields"),
    [
        ({"methods": ("shot",)}, 1, {}),
        ({"bn_policies": ("source",)}, 1, {}),
        ({"max_rounds": 1}, 1, {"rounds": 2}),
        ({"max_steps": 1}, 2, {}),
    ],
)
@pytest.mark.parametrize("kind", [TRAIN, EVALUATE])
def test_what_the_policy_forbids_is_refused_whatever_the_request_says(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, Any],
    steps: int,
    fields: dict[str, Any],
    kind: str,
) -> None:
    give_release(bench)
    monkeypatch.setattr("client.site.SIMULATION", SitePolicy(**limits))
    request = round_request(bench, experiment_json=_experiment_json(bench, federation__steps=steps), **fields)
    assert reason_of(call(request, kind, bench.context(0, 1))) == REASON_POLICY


@pytest.mark.parametrize(("round_", "rounds"), [(0, 2), (3, 2), (1, 0)])
def test_a_round_outside_its_job_is_malformed(bench: Bench, round_: int, rounds: int) -> None:
    give_release(bench)
    request = round_request(bench, round=round_, rounds=rounds)
    assert reason_of(call(request, TRAIN, bench.context(0, 1))) == REASON_MALFORMED


def test_a_site_of_another_modality_declines(bench: Bench) -> None:
    give_release(bench)
    request = round_request(bench, experiment_json=_experiment_json(bench, data__modality="nir"))
    assert reason_of(call(request, TRAIN, bench.context(0, 1))) == REASON_POLICY


# --- releases


def test_a_release_signed_by_another_key_is_refused_and_not_kept(bench: Bench, world: World, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    folder = ensure_release(bench.experiment, stranger, world.cache, confirm_batchnorm=True, say=quiet)
    answer = call(_release_message(pack_release(folder)), RELEASE, bench.context(0, 1))
    assert reason_of(answer) == REASON_RELEASE
    assert set(tree(bench.home / "sites")) == {f"site-00/egress.{end}" for end in ("sqlite", "key", "head", "lock")}


@pytest.mark.parametrize("change", [lambda w: w[:-1], lambda w: w + b"x", lambda w: w[:-1] + b"\0", lambda w: b""])
def test_a_release_with_other_weights_is_refused_and_not_kept(bench: Bench, change: Callable[[bytes], bytes]) -> None:
    files = pack_release(bench.release_folder)
    files[WEIGHTS] = change(files[WEIGHTS])
    answer = call(_release_message(files), RELEASE, bench.context(0, 1))
    assert reason_of(answer) == REASON_RELEASE
    assert not [name for name in tree(bench.home / "sites") if "weights" in name]


def test_a_site_says_that_it_holds_a_release_only_when_it_does(bench: Bench) -> None:
    ask = encode(EnrolRequest(experiment="job", release_digest=bench.release.info.digest))

    def held() -> bool:
        return decode(call(ask, ENROL, bench.context(0, 1)), Enrolment).has_release

    assert not held()
    give_release(bench)
    assert held()
    weights = bench.home / "sites" / "site-00" / "releases" / bench.release.info.digest / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert not held()


# --- names that come over the wire

WRITTEN = {"home/sites/site-00/egress.sqlite", "home/sites/site-00/egress.head"}
"""What one more message changes in the journal."""


@pytest.mark.parametrize(
    "name", ["../../evil", "/tmp/evil", "a/b", "..", "", "a\\b", "jobs/../../../evil", "x" * 500, "a\x00b"]
)
@pytest.mark.parametrize("kind", [TRAIN, EVALUATE])
def test_an_experiment_name_never_chooses_where_a_file_is_written(
    bench: Bench, tmp_path: Path, name: str, kind: str
) -> None:
    give_release(bench)
    before = tree(tmp_path)
    reason_of(call(round_request(bench, experiment=name), kind, bench.context(0, 1)))
    after = tree(tmp_path)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == WRITTEN
    assert before.keys() <= after.keys()


def test_a_round_writes_into_the_home_of_its_site_only(bench: Bench, tmp_path: Path) -> None:
    give_release(bench)
    before = tree(tmp_path)
    call(round_request(bench), TRAIN, bench.context(0, 1))
    after = tree(tmp_path)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == WRITTEN | {
        f"home/sites/site-00/jobs/job-1/{name}.safetensors" for name in ("round-00001", "parameters")
    }
