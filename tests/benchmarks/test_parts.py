"""Parts can be run, results files keep what other parts put there, and tables show what the files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict

from benchmarks import gpu, markdown, memory
from benchmarks.__main__ import main
from benchmarks.child import Peak
from benchmarks.goals import GOALS, Goal
from benchmarks.harness import Spread
from benchmarks.parts import OPTIONAL, PARTS, part_of
from benchmarks.record import Figure, Part, facts, figure, keep
from benchmarks.refresh import share_of
from benchmarks.stand_ins import MeteredGrid, SuperLinkStandIn
from benchmarks.subjects import Subject
from benchmarks.table import plain, shown
from protos.codec import TRAIN, arrays_of, decode, encode
from protos.wire_pb2 import EnrolRequest, Update
from socket_core.config import UpdateType


def test_every_part_can_be_called() -> None:
    assert all(callable(part_of(name)) for name in (*PARTS, *OPTIONAL))


def test_the_gpu_part_says_so_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    results = tmp_path / "performance.json"
    assert main(["gpu", "--quick", "--json", str(results)]) == 0
    assert gpu.NOT_MEASURED in capsys.readouterr().out
    content = json.loads(results.read_text())
    assert content["parts"]["gpu"]["figures"] == []
    assert f"- {gpu.NOT_MEASURED}" in markdown.part(content, "gpu")
    with pytest.raises(SystemExit):
        main(["steps"])


def test_the_gpu_parts_arms_run_on_any_device() -> None:
    found = gpu.figures_on(torch.device("cpu"), Subject("tiny", 16, bottleneck=8, batch=2), 1, lambda _text: None)
    names = [f.name for f in found]
    expected = [
        f"tiny 16 px: {arm}, {precision}, {layout}"
        for precision in ("float32", "bfloat16")
        for layout in ("NCHW", "channels last")
        for arm in ("bound", "SOCKET", "hooks")
    ]
    assert names == [*expected, "tiny 16 px: first implementation"]
    assert [f.of for f in found[:3]] == ["", "bound, float32, NCHW", "bound, float32, NCHW"]
    assert all(f.value > 0 for f in found)


def test_the_share_of_passes_counts_a_step_as_often_as_an_epoch_has_it() -> None:
    rounds = [{"step": 1.0, "refresh": 3.0}]
    assert share_of(rounds, "refresh", 3).median == 0.5
    assert share_of(rounds, "refresh", 9).median == 0.25


def test_a_peak_counts_what_is_held_for_a_moment() -> None:
    peak = Peak()
    bytearray(b"x" * (64 * 2**20))
    assert 100 < peak.above() < 160  # the literal and its copy


def test_flowers_client_sends_to_the_stand_ins_and_unpacks_what_they_answer() -> None:
    delta, made = np.arange(3_000_000, dtype=np.float32), list[tuple[int, str]]()  # of several of Flower's chunks
    arrays = encode(Update(), {"delta": delta})["arrays"]

    def answer(message: Message) -> RecordDict:
        made.append((message.metadata.dst_node_id, decode(message.content, EnrolRequest).experiment))
        return RecordDict({"wire": encode(Update(site="a"))["wire"], "arrays": arrays})

    link = SuperLinkStandIn(answer, (2, 3, 4))
    grid = MeteredGrid(link)
    assert list(grid.get_node_ids()) == [2, 3, 4]
    request = encode(EnrolRequest(experiment="x"), {"large": np.zeros(9)})
    sent = grid.push_messages([Message(request, node, TRAIN) for node in (2, 3, 4)])
    assert made == []
    (reply,) = grid.pull_messages(sent[1:2])
    assert made == [(3, "x")]
    assert reply.metadata.reply_to_message_id == sent[1]
    assert decode(reply.content, Update).site == "a"
    assert arrays_of(reply.content, {"delta": ("float32", len(delta))})["delta"].tobytes() == delta.tobytes()
    assert grid.pull_messages(sent[1:2]) == []
    assert len(grid.pull_messages(sent)) == 2
    assert link.pulled > 3 * delta.nbytes > link.pushed > 0


def test_memory_is_flowers_while_it_works_and_the_servers_otherwise() -> None:
    grid = MeteredGrid(SuperLinkStandIn(lambda _message: encode(Update(), {"delta": np.zeros(8 << 20)}), (2,)))
    sent = grid.push_messages([Message(encode(EnrolRequest()), 2, TRAIN)])
    grid.begin()
    bytearray(b"x" * (64 * 2**20))
    grid.end()
    assert 100 < grid.around < 160  # the literal and its copy
    assert grid.of_flower == 0
    grid.begin()
    grid.pull_messages(sent)
    assert grid.of_flower > 128  # a reply of 64 MB, its chunks, and what they are put together in
    assert grid.around < 16


@pytest.mark.parametrize(("dtype", "lots"), [("float32", 1 + 1 + 1), ("int8", 1 + 0.25 + 1 + 0.25 + 1)])
def test_one_stand_in_is_sent_everything_in_each_round_and_the_others_what_will_do(
    dtype: UpdateType, lots: float
) -> None:
    """In copies of the parameters: in float32 all are sent the same one from the second round on."""
    found = memory.some_rounds("tiny", 2, dtype)  # so small that its memory shows nothing
    assert found["seconds"] > 0
    assert found["payload_mb"] == pytest.approx(0.53, abs=0.05)
    assert found["pushed"] == pytest.approx(lots, abs=0.1)


def made(value: float, *, quick: bool = False) -> dict[str, Any]:
    goal = next(g for g in GOALS if g.part == "data")
    return {
        "settings": {"rounds": 3},
        "figures": [vars(figure(goal.name, Spread(value, value - 0.5, value + 0.5, 3), "%", goal.of))],
        "notes": [],
        "facts": facts("data", quick=quick, load_before=1.0),
    }


def test_goals_are_met_missed_or_not_measured() -> None:
    table = markdown.goals({"parts": {"data": made(1.5)}, "before": {"data": made(4.0, quick=True)}})
    (line,) = [text for text in table.splitlines() if text.startswith("| data in")]
    assert line.endswith("| 2 | 4 % [3.50, 4.50] (quick sizes) | 1.50 % [1, 2] | yes |")
    missed = markdown.goals({"parts": {"data": made(2.01)}})
    assert "| 2 | not measured | 2.01 % [1.51, 2.51] | no |" in missed
    barely = markdown.goals({"parts": {"data": made(2.004)}})
    assert "| 2 | not measured | 2.004 % [1.50, 2.50] | no |" in barely
    assert missed.count("| not measured | not measured | - |") == len(GOALS) - 1
    assert Goal("", 1.0, "", "", least=True).met(1.0)
    assert not Goal("", 1.0, "", "", least=True).met(0.99)


def test_results_of_other_parts_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for name, value in (("step", 1.0), ("data", 2.0), ("step", 3.0)):
        part = Part({"rounds": 1}, [Figure("f", value, "x")], ["a note"])
        keep(path, name, part, facts(name, quick=True, load_before=0.5))
    content = json.loads(path.read_text())
    assert {name: p["figures"][0]["value"] for name, p in content["parts"].items()} == {"step": 3.0, "data": 2.0}
    text = markdown.part(content, "step")
    assert "| f | 3 x | - | 1 |" in text
    assert "Quick sizes, not to be quoted; rounds 1; `python -m benchmarks step --quick`" in text
    assert "load 0.5 before" in text
    assert markdown.part(content, "wire") == "Not measured: `python -m benchmarks wire`.\n"
    assert "a note" in plain(
        "step",
        Part({}, [Figure("f", 1.0, "x", "g", 0.5, 2.0, 3)], ["a note"]),
        facts("step", quick=True, load_before=0.0),
    )


def test_numbers_are_shown_with_three_digits() -> None:
    assert [shown(v) for v in (1234.5, 99.94, 9.876, 0.1234, 0.01234, 3.0, 1e-16)] == [
        *("1,234", "99.9", "9.88", "0.12", "0.0123", "3", "0")
    ]
