"""Writing an adapted network for other programs: safetensors, ONNX, and PyTorch's ``torch.export``."""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from socket_core.errors import ConfigError
from socket_core.export.card import KEY, Adapted, plain, write_adapted
from socket_core.export.graph import Graph
from socket_core.files import write_atomically

OPSET = 20
"""Of ONNX's operators; runtimes of 2024 and later know them."""

CARD_FILE = f"{KEY}.json"
"""The card in a ``.pt2`` archive."""

Raw = tuple[int, int]


def write(adapted: Adapted, raw: Raw, path: Path) -> None:
    """Writes the format that the ending names, whole or not at all.

    Args:
        adapted: What to write.
        raw: Height and width of the sensor's images; safetensors holds no graph and takes no heed of it.
        path: ``.safetensors``, ``.onnx`` or ``.pt2``.

    Raises:
        ConfigError: Another ending, or packages for ONNX are missing.
    """
    writer_for(path)(adapted, raw, path)


def writer_for(path: Path) -> Callable[[Adapted, Raw, Path], None]:
    """The writer of a format, asked for before anything else is done.

    Raises:
        ConfigError: As :func:`write`.
    """
    if path.suffix not in _WRITERS:
        raise ConfigError(
            f"unknown format {path.suffix or path.name!r}", where="--out", remedy=f"end it in {', '.join(_WRITERS)}"
        )
    if path.suffix == ".onnx":
        require_onnx()
    return _WRITERS[path.suffix]


def require_onnx() -> None:
    """Refuses to go on without the packages for ONNX.

    Raises:
        ConfigError: Naming the package and how to get it.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):  # torch.onnx writes with the first two
        if find_spec(name) is None:
            raise ConfigError(
                f"ONNX needs the package {name}, which is not installed",
                where="onnx",
                remedy="install the extra: uv pip install 'socket-fl[export]', in a checkout '.[export]'",
            )


def _safetensors(adapted: Adapted, _raw: Raw, path: Path) -> None:
    write_adapted(path, plain(copy.deepcopy(adapted.network())).state_dict(), adapted.card)


def _pt2(adapted: Adapted, raw: Raw, path: Path) -> None:
    program = _traced(adapted, raw)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={CARD_FILE: adapted.card.model_dump_json()})
    write_atomically(path, buffer.getvalue())


def _onnx(adapted: Adapted, raw: Raw, path: Path) -> None:
    import onnx

    with _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        made = torch.onnx.export(
            _traced(adapted, raw),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
        )
    assert made is not None
    proto = made.model_proto
    _forget_origins(proto)
    onnx.helper.set_model_props(proto, {KEY: adapted.card.model_dump_json()})
    write_atomically(path, proto.SerializeToString())


def _traced(adapted: Adapted, raw: Raw) -> torch.export.ExportedProgram:
    """The graph for one raw image, without the paths of this machine and without a sample image in it."""
    dtype = torch.uint16 if adapted.card.preparation.bits == 16 else torch.uint8
    image: Tensor = torch.zeros(raw, dtype=dtype)
    with torch.no_grad():
        program = torch.export.export(Graph(adapted.network(), adapted.card.preparation, raw), (image,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    # PyTorch would pickle it into the archive.
    program.example_inputs = None
    return program


def _forget_origins(proto: Any) -> None:
    """Takes away what says on which machine and from which lines of code the graph was made."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without the progress lines of these loggers; errors are raised anyway."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


_WRITERS: dict[str, Callable[[Adapted, Raw, Path], None]] = {
    ".safetensors": _safetensors,
    ".onnx": _onnx,
    ".pt2": _pt2,
}
