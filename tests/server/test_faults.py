"""Sites that fail, lie, hang or come late: the round goes on without them and names the reasons."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from client.app import app
from protos.codec import EVALUATE, SCHEMA_VERSION, TRAIN, decode, encode, refusal
from protos.wire_pb2 import REASON_POLICY, Evaluation, Update
from server.local_grid import LocalGrid
from server.state import ServerState
from tests.server.builders import (
    BAD_NODE,
    Change,
    ChangingGrid,
    Edit,
    World,
    edited,
    lost,
    same_state,
    short_bench,
    silent,
)


def field(name: str, value: Any) -> Edit:
    """Sets a field of the update."""
    return lambda update, _arrays: setattr(update, name, value)


def values(name: str, change: Callable[[Any], Any]) -> Edit:
    """Changes an array."""

    def edit(_update: Update, arrays: dict[str, Any]) -> None:
        arrays[name] = change(arrays[name])

    return edit


def _first(value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[0] = value
        return array

    return change


def _lying(update: Update, arrays: dict[str, Any]) -> RecordDict:
    records = encode(update, arrays)
    buffer = BytesIO()
    np.save(buffer, arrays["delta"].astype(np.float64))
    made = dict(records.array_records["arrays"].items())
    made["delta"] = Array("float32", arrays["delta"].shape, "numpy.ndarray", buffer.getvalue())
    records["arrays"] = ArrayRecord(made)
    return records


def _archive(update: Update, arrays: dict[str, Any]) -> RecordDict:
    records = encode(update, arrays)
    made = dict(records.array_records["arrays"].items())
    made["delta"] = Array("float32", arrays["delta"].shape, "numpy.ndarray", b"PK\x03\x04 not an archive")
    records["arrays"] = ArrayRecord(made)
    return records


def _unknown_reason(_update: Update, _arrays: dict[str, Any]) -> RecordDict:
    return RecordDict({"wire": ConfigRecord({"kind": "Refusal", "payload": bytes([8, SCHEMA_VERSION, 0x18, 99])})})


def _without_a_tensor(update: Update, _arrays: dict[str, Any]) -> None:
    del update.tensors[0]


def _with_a_tensor(update: Update, _arrays: dict[str, Any]) -> None:
    update.tensors.add(key="classifier.bias", dtype="float32", shape=[8])


def _schema(version: int) -> Edit:
    def edit(update: Update, arrays: dict[str, Any]) -> RecordDict:
        records = encode(update, arrays)
        update.schema_version = version
        records["wire"] = ConfigRecord({"kind": "Update", "payload": update.SerializeToString()})
        return records

    return edit


LIES: list[tuple[str, Change]] = [
    ("not_finite", edited(values("delta", _first(np.nan)))),
    ("not_finite", edited(values("delta", _first(-np.inf)))),
    ("too_large", edited(values("delta", _first(1e30)))),
    ("wrong_shape", edited(values("delta", lambda a: a[:-1]))),
    ("wrong_dtype", edited(values("delta", lambda a: a.astype(np.float64)))),
    ("missing_key", edited(_without_a_tensor)),
    ("extra_key", edited(_with_a_tensor)),
    ("malformed", edited(_lying)),
    ("malformed", edited(_archive)),
    ("schema", edited(_schema(SCHEMA_VERSION + 1))),
    ("schema", edited(_schema(SCHEMA_VERSION - 1))),
    ("unknown_site", edited(field("site", "site-00"))),
    ("other_experiment", edited(field("experiment", "another-job"))),
    ("stale_round", edited(field("round", 7))),
    ("too_many_examples", edited(field("examples", 10**9))),
    ("no_examples", edited(field("examples", 0))),
    ("checksum", edited(lambda update, arrays: encode(update, {"delta": -arrays["delta"]}))),
    ("refused: policy", edited(lambda _update, _arrays: refusal("site-01", REASON_POLICY))),
    ("refused: 99", edited(_unknown_reason)),
    ("site_error", lost),
]
POOLED_LIES: list[tuple[str, Change]] = [
    ("negative_variance", edited(values("bn_var", _first(-1.0)))),
    ("not_finite", edited(values("bn_mean", _first(np.inf)))),
    ("too_large", edited(values("bn_mean", _first(1e25)))),
    ("wrong_shape", edited(values("bn_var", lambda a: a[1:]))),
    ("missing_key", edited(lambda update, arrays: encode(update, {"delta": arrays["delta"]}))),
]


@pytest.fixture(scope="module")
def without(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServerState]:
    """End states of runs in which the updates of site-01 are all lost, by bn_policy."""
    out = {}
    for policy in ("local", "pooled"):
        bench = short_bench(world, tmp_path_factory.mktemp("without"), federation__bn_policy=policy)
        out[policy] = bench.run(ChangingGrid(bench.contexts(), {BAD_NODE: lost}))
        assert [r["refused"] for r in bench.records()] == [{"site-01": "site_error: Flower error code 3"}] * 2
    return out


@pytest.mark.parametrize(
    ("policy", "reason", "lie"),
    [("local", *lie) for lie in LIES] + [("pooled", *lie) for lie in POOLED_LIES],
    ids=[f"{reason}-{i}" for i, (reason, _) in enumerate(LIES + POOLED_LIES)],
)
def test_a_bad_update_is_named_and_leaves_no_trace_in_the_model(
    world: World, tmp_path: Path, without: dict[str, ServerState], policy: str, reason: str, lie: Change
) -> None:
    bench = short_bench(world, tmp_path, federation__bn_policy=policy)
    state = bench.run(ChangingGrid(bench.contexts(), {BAD_NODE: lie}))
    assert same_state(state, without[policy])
    for record in bench.records():
        assert record["sites"] == ["site-00", "site-02"]
        assert list(record["refused"]) == ["site-01"]
        assert record["refused"]["site-01"].startswith(reason)


def test_an_old_reply_sent_again_is_stale(world: World, tmp_path: Path) -> None:
    kept: list[RecordDict] = []

    def replay(message: Message, reply: Message | None) -> Message | None:
        assert reply is not None
        kept.append(reply.content)
        return Message(kept[0], reply_to=message)

    bench = short_bench(world, tmp_path)
    bench.run(ChangingGrid(bench.contexts(), {BAD_NODE: replay}))
    assert [r["refused"] for r in bench.records()] == [{}, {"site-01": "stale_round: round 1, expected 2"}]


def test_a_second_node_under_the_same_name_is_refused_and_leaves_no_trace(world: World, tmp_path: Path) -> None:
    bench = short_bench(world, tmp_path / "two")
    contexts = {**bench.contexts(), 900: bench.context(1, 900)}
    refused: list[Any] = []

    def observe(step: str, facts: dict[str, Any]) -> None:
        if step == "enrolled":
            refused.extend(facts["refused"])

    state = bench.run(LocalGrid(app, contexts), observe=observe)
    assert refused == ["duplicate_site"]
    reference = short_bench(world, tmp_path / "one")
    assert same_state(state, reference.run())


def test_a_site_that_raises_is_left_out_and_its_words_stay_at_home(
    world: World, tmp_path: Path, without: dict[str, ServerState]
) -> None:
    def raising(message: Message, context: Context) -> Message:
        if context.node_id == BAD_NODE and message.metadata.message_type == TRAIN:
            app(message, context)
            raise RuntimeError("/home/anna/depth/0001.png")
        return app(message, context)

    bench = short_bench(world, tmp_path)
    assert same_state(bench.run(LocalGrid(raising, bench.contexts())), without["local"])
    assert "site_error" in bench.records()[0]["refused"]["site-01"]
    assert "anna" not in (bench.job_home / "rounds.jsonl").read_text()


class SlowGrid(LocalGrid):
    """One node's updates come late."""

    def __init__(self, contexts: dict[int, Context], seconds: float) -> None:
        super().__init__(app, contexts)
        self.seconds = seconds

    def delay(self, message: Message) -> float:
        late = message.metadata.dst_node_id == BAD_NODE and message.metadata.message_type == TRAIN
        return self.seconds if late else 0.0


@pytest.mark.parametrize("kind", ["hangs", "late", "dead"])
def test_a_site_that_does_not_answer_in_time_is_left_out(
    world: World, tmp_path: Path, without: dict[str, ServerState], kind: str
) -> None:
    bench = short_bench(world, tmp_path, federation__deadline_seconds=2.0)
    grids: dict[str, LocalGrid] = {
        "hangs": SlowGrid(bench.contexts(), 3600.0),
        "late": SlowGrid(bench.contexts(), 3.0),  # arrives while the next round runs
        "dead": ChangingGrid(bench.contexts(), {BAD_NODE: silent}),
    }
    started = time.monotonic()
    assert same_state(bench.run(grids[kind]), without["local"])
    assert time.monotonic() - started < 20
    assert [r["refused"] for r in bench.records()] == [{"site-01": "no_reply: nothing before the deadline"}] * 2


def test_a_site_that_fails_once_is_back_in_the_next_round(world: World, tmp_path: Path) -> None:
    calls: list[int] = []

    def once(message: Message, reply: Message | None) -> Message | None:
        calls.append(1)
        return reply if len(calls) > 1 else lost(message, reply)

    bench = short_bench(world, tmp_path)
    bench.run(ChangingGrid(bench.contexts(), {BAD_NODE: once}))
    assert [len(r["sites"]) for r in bench.records()] == [2, 3]


# --- evaluation never stops a run


@pytest.mark.parametrize(
    "counts",
    [[2**64 - 1] * 64, [2**63] + [0] * 63, [5], [1, 2, 3], [0] * 64, list(range(10_000))],
    ids=["overflow", "large", "one class", "not square", "zeros", "100 classes"],
)
def test_strange_confusion_counts_do_not_stop_a_run(
    world: World, tmp_path: Path, without: dict[str, ServerState], counts: list[int]
) -> None:
    def claims(message: Message, reply: Message | None) -> Message | None:
        assert reply is not None
        answer = decode(reply.content, Evaluation)
        answer.held_out[:] = counts
        answer.transductive[:] = counts
        return Message(encode(answer), reply_to=message)

    bench = short_bench(world, tmp_path, federation__rounds=1)
    bench.run(ChangingGrid(bench.contexts(), {BAD_NODE: claims}, types=(EVALUATE,)))
    [record] = bench.records()
    assert {"site-00", "site-02"} <= set(record["held_out"]["by_site"])
    json.dumps(record, allow_nan=False)
