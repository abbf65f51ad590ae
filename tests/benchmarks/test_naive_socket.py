"""The first implementation computes the product's loss: only so is its time a comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.naive_socket import NaiveSocket, read_batch, read_view
from benchmarks.step import HookedSocket, batches
from benchmarks.subjects import CLASSES, Subject, experiment, networks
from socket_core.methods.socket import Socket

SMALL = Subject("tiny", 16, bottleneck=8, batch=6)
WEIGHTS = {"pl": 0.3, "im": 1.0, "bn": 0.05, "ti": 5.0}


def product(kind: type[Socket], ti_loss: str = "frobenius") -> dict[str, float]:
    cfg = experiment(SMALL, method={"ti_loss": ti_loss, "trust": "always", "weights": WEIGHTS})
    target, source = networks(SMALL, torch.contiguous_format)
    method = kind(cfg.method, cfg.federation.bn_policy)
    method.configure(target, source)
    method.labels = torch.arange(SMALL.batch) % CLASSES
    terms = method.step(*batches(SMALL, torch.contiguous_format, source))
    return {name: float(value.detach()) for name, value in terms.items()}


def test_with_open_gates_its_terms_are_those_of_the_product() -> None:
    _, source = networks(SMALL, torch.contiguous_format)
    tr, ti = batches(SMALL, torch.contiguous_format, source)
    naive = NaiveSocket([source], gate=100.0, weights=WEIGHTS)
    found = naive.terms(tr.x, torch.arange(SMALL.batch) % CLASSES, ti.x, [ti.source_features])
    assert {name: float(value.detach()) for name, value in found.items()} == pytest.approx(product(Socket), rel=1e-4)


def test_the_arm_with_hooks_computes_the_same_terms_too() -> None:
    assert product(HookedSocket) == pytest.approx(product(Socket), rel=1e-4)


def test_a_step_moves_backbone_bottleneck_and_gate_but_not_the_classifier_nor_the_source() -> None:
    _, source = networks(SMALL, torch.contiguous_format)
    tr, ti = batches(SMALL, torch.contiguous_format, source)
    kept = {key: value.clone() for key, value in source.state_dict().items()}
    naive = NaiveSocket([source])
    naive.step(tr.x, torch.arange(SMALL.batch) % CLASSES, ti.x, [ti.source_features])
    target = naive.targets[0].state_dict()
    moved = {key.partition(".")[0] for key, value in kept.items() if not torch.equal(value, target[key])}
    assert moved == {"backbone", "bottleneck"}
    assert float(naive.gates.detach()) != 1.0
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in kept.items())


def test_views_come_from_files_with_the_same_values_as_the_pixels(tmp_path: Path) -> None:
    depth, rgb = tmp_path / "depth.png", tmp_path / "rgb.png"
    Image.fromarray(np.full((20, 20), 10_000, np.uint16)).save(depth)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(rgb)
    out = read_batch([depth, rgb], 14, np.random.default_rng(0))
    assert out.shape == (2, 3, 14, 14)
    assert out[0].unique().tolist() == [1.0]
    assert out[1].unique().tolist() == [-1.0]
    assert torch.equal(read_view(rgb, 14, None), out[1])
