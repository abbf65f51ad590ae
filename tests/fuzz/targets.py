"""The decoders, each with sound samples, and what may come out of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from PIL import Image

from client.evidence_format import open_evidence
from client.held import parameters_for
from client.journal import Journal
from client.site_file import read_site_file
from client.store import HELD, SiteStore
from deploy.layout import open_deployment
from protos import codec
from protos.wire_pb2 import Enrolment, EnrolRequest, Evaluation, Refusal, ReleaseFiles, RoundRequest, Update
from server.checkpoint import read_checkpoint
from server.screening import Rejected, screen
from socket_core import release_manifest, release_weights
from socket_core.config import load_experiment, parse_experiment_json
from socket_core.data.decode import decode
from socket_core.data.readers.lists import build_index
from socket_core.errors import SocketError
from socket_core.exchange import length, travelling_specs
from socket_core.export.card import read_adapted
from socket_core.packing import Packed, pack
from socket_core.privacy.ledger import Ledger
from socket_core.release import MANIFEST, SIGNATURE, WEIGHTS, unpack_release
from tests.core.release_builders import PUBLIC, make_network
from tests.fuzz.samples import Samples
from tests.server.builders import reply_with
from tests.server.screening_builders import EXPECTED, TENSORS, good

Run = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """One decoder.

    Attributes:
        name: What it reads.
        samples: Sound input.
        run: Reads one input; raises ``AssertionError`` if it took for sound what it must not.
        allowed: The documented errors.
        share: How many inputs it gets in proportion to the others.
    """

    name: str
    samples: Sequence[bytes]
    run: Run
    allowed: tuple[type[Exception], ...] = (SocketError,)
    share: float = field(default=1.0, kw_only=True)


def targets(samples: Samples) -> list[Target]:
    """All decoders; ``samples`` has the sound input and a folder to write into."""
    return [
        Target("release manifest", [samples.release[MANIFEST]], lambda raw: release_manifest.decode(raw, where="")),
        Target("signed release", [samples.release[MANIFEST]], _signed(samples, MANIFEST), share=0.3),
        Target("signature", [samples.release[SIGNATURE]], _signed(samples, SIGNATURE), share=0.3),
        Target("weights of a release", [samples.release[WEIGHTS]], _signed(samples, WEIGHTS), share=0.3),
        Target("header of weights", [samples.release[WEIGHTS]], _header),
        *(_wire(kind) for kind in (EnrolRequest, Enrolment, ReleaseFiles, RoundRequest, Update, Evaluation, Refusal)),
        Target("update, payload", [_good_payload()], _update_payload, (Rejected,)),
        Target("update, int8 payload", [_levels_payload()], _levels, (Rejected,)),
        _held(samples),
        Target("update, array", [_npy(good()[1]["delta"])], _update_array, (Rejected,)),
        Target("experiment of a request", [samples.experiment_json], _json_experiment),
        _file("experiment file", samples, samples.experiment, "experiment.yaml", load_experiment, share=0.3),
        _file("site.yaml", samples, samples.site, "site.yaml", read_site_file, share=0.3),
        _file("deployment.yaml", samples, samples.deployment, "deployment.yaml", _parent(open_deployment), share=0.3),
        _file("list file", samples, samples.list_file, "lists/target.txt", samples.lists_with(build_index)),
        *(_chain(samples, "ledger", ending, Ledger) for ending in (".sqlite", ".key", ".head")),
        *(_chain(samples, "egress journal", ending, Journal) for ending in (".sqlite", ".head")),
        _file("checkpoint", samples, samples.checkpoint, "c.safetensors", _checkpoint(samples)),
        _file("adapted network", samples, samples.adapted, "a.safetensors", read_adapted, share=0.3),
        _file("evidence", samples, samples.evidence, "evidence.json", _evidence(samples), share=0.3),
        _file("depth image", samples, _png((9, 7), np.uint16), "d.png", lambda path: decode(path, "depth")),
        _file("RGB image", samples, _png((9, 7, 3), np.uint8), "r.png", lambda path: decode(path, "rgb")),
    ]


def _file(
    name: str, samples: Samples, sound: bytes, at: str, read: Callable[[Path], object], *, share: float = 1.0
) -> Target:
    path = samples.folder / at
    path.parent.mkdir(parents=True, exist_ok=True)

    def run(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return Target(name, [sound], run, share=share)


def _signed(samples: Samples, name: str) -> Run:
    """A release with one file damaged: accepted only if that file is as it was signed."""

    def run(data: bytes) -> None:
        unpack_release({**samples.release, name: data}, samples.folder / "cache", PUBLIC)
        assert data == samples.release[name], f"a damaged {name} was accepted"

    return run


def _header(data: bytes) -> None:
    release_weights.read_header(data, where="")


def _wire(kind: Any) -> Target:
    sound = kind()
    for field_ in kind.DESCRIPTOR.fields:
        if field_.name == "tensors":
            sound.tensors.add(key="w", dtype="float32", shape=[2, 3])
        elif field_.type == field_.TYPE_STRING and not field_.is_repeated:
            setattr(sound, field_.name, "north")
        elif field_.type in (field_.TYPE_UINT32, field_.TYPE_UINT64) and not field_.is_repeated:
            setattr(sound, field_.name, 2)
    sound.schema_version = codec.SCHEMA_VERSION

    def run(data: bytes) -> object:
        return codec.decode(_records(kind.DESCRIPTOR.name, data), kind)

    return Target(f"wire {kind.DESCRIPTOR.name}", [sound.SerializeToString()], run, (codec.WireError,), share=0.5)


def _records(kind: str, payload: bytes) -> RecordDict:
    return RecordDict({"wire": ConfigRecord({"kind": kind, "payload": payload})})


def _good_payload() -> bytes:
    payload = codec.encode(*good()).config_records["wire"]["payload"]
    assert isinstance(payload, bytes)
    return payload


def _update_payload(data: bytes) -> None:
    records = codec.encode(*good())
    records["wire"] = ConfigRecord({"kind": "Update", "payload": data})
    screen(reply_with(records), "north", EXPECTED)


def _in_levels() -> tuple[Update, Packed]:
    update, arrays = good()
    packed = pack(arrays["delta"], TENSORS, "int8")
    for spec in update.tensors:
        spec.dtype = "int8"
    update.scales.extend(packed.scales.tolist())
    update.delta_sha256 = codec.sha256(packed.values)
    return update, packed


def _levels_payload() -> bytes:
    payload = codec.encode(_in_levels()[0]).config_records["wire"]["payload"]
    assert isinstance(payload, bytes)
    return payload


def _levels(data: bytes) -> None:
    records = codec.encode(Update(), {"delta": _in_levels()[1].values})
    records["wire"] = ConfigRecord({"kind": "Update", "payload": data})
    found = screen(reply_with(records), "north", replace(EXPECTED, dtype="int8"))
    assert np.isfinite(found.delta.floats()).all(), "an update that is not finite was accepted"


def _held(samples: Samples) -> Target:
    """The file of parameters that a site holds: damaged, it is what it was, or the site asks for all."""
    network = make_network()
    specs, store = travelling_specs(network, "local"), SiteStore(samples.folder)
    flat = np.zeros(length(specs), np.float32)
    request = RoundRequest(experiment="job-1", parameters_sha256=codec.sha256(flat))
    store.save_parameters("job-1", flat, request.parameters_sha256)
    path = samples.folder / "jobs" / "job-1" / HELD

    def run(data: bytes) -> None:
        path.write_bytes(data)
        found = parameters_for(store, request, network, specs, whole=None, change=None)
        assert found.tobytes() == flat.tobytes(), "damaged parameters were taken"

    return Target("parameters held", [path.read_bytes()], run, (codec.WireError,))


def _update_array(data: bytes) -> None:
    update, arrays = good()
    records, delta = codec.encode(update, arrays), arrays["delta"]
    records["arrays"] = ArrayRecord({"delta": Array("float32", delta.shape, "numpy.ndarray", data)})
    found = screen(reply_with(records), "north", EXPECTED)
    assert found.delta.floats().tobytes() == delta.tobytes(), "a damaged array was accepted"


def _json_experiment(data: bytes) -> None:
    parse_experiment_json(data.decode("utf-8", errors="replace"), where="request")


def _parent(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: read(path.parent)


def _chain(samples: Samples, name: str, ending: str, book: type[Ledger] | type[Journal]) -> Target:
    """A book with one of its three files damaged: what it says then must be what was written."""
    path, sound = samples.book(book)

    def run(data: bytes) -> None:
        for file, content in sound.items():
            path.with_suffix(file).write_bytes(data if file == ending else content)
        opened = book(path, create=False)
        found = opened.charges() if isinstance(opened, Ledger) else opened.read()
        assert found == samples.written[book], f"a damaged {ending} changed what the {name} says"

    return Target(f"{name} {ending}", [sound[ending]], run, share=0.2)


def _checkpoint(samples: Samples) -> Callable[[Path], object]:
    def run(path: Path) -> None:
        state, _ = read_checkpoint(path, samples.identity)
        assert (state.round, state.parameters.tobytes()) == samples.checkpointed, "a damaged checkpoint was taken"

    return run


def _evidence(samples: Samples) -> Callable[[Path], object]:
    def run(path: Path) -> None:
        open_evidence(path, samples.site_key)
        assert path.read_bytes() == samples.evidence, "damaged evidence was accepted"

    return run


def _npy(values: np.ndarray[Any, Any]) -> bytes:
    return Array(values).data


def _png(shape: tuple[int, ...], dtype: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
