"""One image file to logits: with this product's own code, or with an exported graph. Both ways must agree."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from socket_core.data.decode import Stored, decode, resize
from socket_core.data.loader import Loader
from socket_core.data.types import Images
from socket_core.errors import ConfigError, DataError, ReleaseError
from socket_core.evaluation import predict_logits
from socket_core.export.card import KEY, Adapted, Card, Preparation, parse_card, read_adapted
from socket_core.export.formats import CARD_FILE, require_onnx

Logits = NDArray[np.float32]


class Classifier(Protocol):
    """Something that classifies image files.

    Attributes:
        card: What it is.
    """

    card: Card

    def logits(self, image: Path) -> Logits:
        """Logits of one raw image file, ``(K,)``.

        Raises:
            DataError: If the file is not an image such as it was made for.
        """
        ...


def open_classifier(path: Path) -> Classifier:
    """The network in a ``.safetensors``, ``.onnx`` or ``.pt2`` file.

    A ``.pt2`` file is a program: open only what you exported yourself.

    Raises:
        ConfigError: Another ending, or packages for ONNX are missing.
        ReleaseError: If the file is damaged or has no card.
        OSError: If it cannot be read.
    """
    if path.suffix == ".safetensors":
        return InProduct(read_adapted(path))
    if path.suffix == ".pt2":
        return TorchExport(path)
    if path.suffix == ".onnx":
        return Onnx(path)
    raise ConfigError(
        f"unknown format {path.suffix or path.name!r}", where=str(path), remedy="give .safetensors, .onnx or .pt2"
    )


class InProduct:
    """The way that training and evaluation take: Pillow's resizing, the loader, the network in eval mode."""

    def __init__(self, adapted: Adapted) -> None:
        self.card = adapted.card
        self._network = adapted.network()

    def logits(self, image: Path) -> Logits:
        """Logits of one raw image file, ``(K,)``."""
        prep = self.card.preparation
        pixels = _decoded(image, prep, Stored(rotated=prep.rotated))
        images = Images(resize(pixels, prep.size, prep.modality)[None], prep.full_scale)
        found: Logits = predict_logits(self._network, Loader(images, prep.preprocessing, torch.device("cpu")))[
            0
        ].numpy()
        return found


class TorchExport:
    """A ``.pt2`` archive of ``torch.export``."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self.card = parse_card(_without_pickles(content, path), where=str(path))
        self._module = torch.export.load(io.BytesIO(content)).module()
        self._raw = _input_size(self._module)

    @torch.no_grad()
    def logits(self, image: Path) -> Logits:
        """Logits of one raw image file, ``(K,)``."""
        found: Logits = self._module(torch.from_numpy(_raw_image(image, self.card.preparation, self._raw))).numpy()
        return found


class Onnx:
    """An ONNX file, run by ONNX Runtime on the CPU."""

    def __init__(self, path: Path) -> None:
        require_onnx()
        import onnxruntime as runtime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

        content = path.read_bytes()
        try:
            self._session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        except (Fail, InvalidGraph, InvalidProtobuf):
            raise ReleaseError("expected an ONNX model, found none", where=str(path), remedy=_AGAIN) from None
        self.card = parse_card(self._session.get_modelmeta().custom_metadata_map.get(KEY, ""), where=str(path))
        height, width = self._session.get_inputs()[0].shape
        self._raw = (int(height), int(width))

    def logits(self, image: Path) -> Logits:
        """Logits of one raw image file, ``(K,)``."""
        [found] = self._session.run(["logits"], {"image": _raw_image(image, self.card.preparation, self._raw)})
        out: Logits = found
        return out


_AGAIN = "export it again: socket-site export"


def _decoded(image: Path, prep: Preparation, stored: Stored) -> Any:
    pixels = decode(image, prep.modality, stored)
    bits = pixels.dtype.itemsize * 8
    if bits != prep.bits:
        raise DataError(
            f"expected {prep.bits} bits a pixel, as the network was adapted with, found {bits}",
            where=str(image),
            remedy="give images as the sensor stored them",
        )
    return pixels


def _raw_image(image: Path, prep: Preparation, size: tuple[int, int]) -> Any:
    pixels = _decoded(image, prep, Stored())
    if pixels.shape != size:
        raise DataError(
            f"the graph is for {size[0]} rows of {size[1]} pixels, found {pixels.shape[0]} of {pixels.shape[1]}",
            where=str(image),
            remedy="export again with --image and an image of this size, or predict with the .safetensors file",
        )
    return pixels


def _input_size(module: torch.nn.Module) -> tuple[int, int]:
    """Height and width of the only input."""
    [node] = [n for n in module.graph.nodes if n.op == "placeholder"]  # type: ignore[union-attr]  # a GraphModule
    height, width = node.meta["val"].shape
    return int(height), int(width)


def _without_pickles(content: bytes, path: Path) -> str:
    """The card of a ``.pt2`` archive, after checking that PyTorch would unpickle nothing of it.

    Raises:
        ReleaseError: If it is no such archive, or has a part that is a pickle.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {name.split("/", 1)[-1]: name for name in archive.namelist()}
            pickled = [p for p in parts if p.startswith("data/sample_inputs/") and archive.getinfo(parts[p]).file_size]
            for part in (p for p in parts if p.endswith("_config.json")):
                for entry in json.loads(archive.read(parts[part]))["config"].values():
                    pickled += [entry["path_name"]] if entry["use_pickle"] else []
            # Constants of other kinds than tensors, and those of older versions, are pickles too.
            pickled += [p for p in parts if p.startswith("data/constants/") and p.endswith(".pt")]
            card = archive.read(parts[f"extra/{CARD_FILE}"]).decode() if f"extra/{CARD_FILE}" in parts else ""
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError):
        raise ReleaseError("expected a torch.export archive, found none", where=str(path), remedy=_AGAIN) from None
    if pickled:
        raise ReleaseError(f"{pickled[0]} is a pickle, which could run any code", where=str(path), remedy=_AGAIN)
    return card
