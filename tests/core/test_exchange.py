"""What travels under each BatchNorm policy, and that flat arrays give back every bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from socket_core.batchnorm import bn_layers
from socket_core.config import BnPolicy
from socket_core.exchange import (
    batchnorm_specs,
    batchnorm_state,
    flatten,
    length,
    load_batchnorm_state,
    load_flat,
    parameters_of,
    travelling_specs,
    unflatten,
)
from socket_core.models import build_network
from tests.core.builders import changed, snapshot, statistics, tiny_network

POLICIES: tuple[BnPolicy, ...] = ("local", "source", "pooled")


@settings(max_examples=10, deadline=None)
@given(policy=st.sampled_from(POLICIES), seed=st.integers(0, 1000))
def test_flat_arrays_give_back_every_bit(policy: BnPolicy, seed: int) -> None:
    network = tiny_network(seed)
    specs = travelling_specs(network, policy)
    flat = flatten(parameters_of(network), specs)
    assert flat.dtype == np.float32
    assert flat.shape == (length(specs),)
    back = unflatten(flat, specs)
    assert list(back) == [key for key, _ in specs] == sorted(back)
    assert all(torch.equal(value, parameters_of(network)[key]) for key, value in back.items())
    np.testing.assert_array_equal(flatten(back, specs), flat)


@pytest.mark.parametrize("policy", POLICIES)
def test_loading_writes_what_travels_and_nothing_else(policy: BnPolicy) -> None:
    sender, receiver = tiny_network(1), tiny_network(2)
    before = snapshot(receiver)
    specs = travelling_specs(sender, policy)
    load_flat(receiver, flatten(parameters_of(sender), specs), specs)
    assert changed(before, snapshot(receiver)) == {key for key, _ in specs}
    np.testing.assert_array_equal(flatten(parameters_of(receiver), specs), flatten(parameters_of(sender), specs))


@pytest.mark.parametrize("policy", POLICIES)
def test_classifier_and_buffers_never_travel(policy: BnPolicy) -> None:
    network = tiny_network()
    keys = {key for key, _ in travelling_specs(network, policy)}
    assert not any(key.startswith("classifier") for key in keys)
    assert keys <= parameters_of(network).keys()
    assert all(parameters_of(network)[key].dtype == torch.float32 for key in keys)
    backbone_and_bottleneck = {k for k in parameters_of(network) if not k.startswith("classifier")}
    affine = {k for k in backbone_and_bottleneck if k.rsplit(".", 1)[0] in bn_layers(network)}
    assert keys == (backbone_and_bottleneck - affine if policy == "local" else backbone_and_bottleneck)


def test_local_leaves_out_every_batchnorm_by_type() -> None:
    network = build_network("resnet18", 8, 3)
    kept = {key.rsplit(".", 1)[0] for key, _ in travelling_specs(network, "local")}
    assert all(isinstance(network.get_submodule(module), nn.Conv2d | nn.Linear) for module in kept)
    assert "backbone.layer2.0.downsample.0" in kept
    assert "backbone.layer2.0.downsample.1" not in kept
    also = {key.rsplit(".", 1)[0] for key, _ in travelling_specs(network, "pooled")}
    assert also - kept == bn_layers(network).keys()


@pytest.mark.parametrize("policy", POLICIES)
def test_statistics_travel_only_when_pooled(policy: BnPolicy) -> None:
    network = tiny_network()
    specs = batchnorm_specs(network, policy)
    if policy != "pooled":
        assert specs == ()
    else:
        assert dict(specs) == {name: (m.num_features,) for name, m in bn_layers(network).items()}
        assert list(specs) == sorted(specs)


@pytest.mark.parametrize("shape", [(0,), (5,), (7,), (6, 1), ()])
def test_an_array_of_another_length_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected 6 values"):
        unflatten(np.zeros(shape, dtype=np.float32), (("a", (2,)), ("b", (2, 2))))


def test_a_wrong_array_leaves_the_network_as_it_was() -> None:
    network = tiny_network()
    specs = travelling_specs(network, "pooled")
    before = snapshot(network)
    with pytest.raises(ValueError, match="expected"):
        load_flat(network, np.zeros(length(specs) - 1, dtype=np.float32), specs)
    assert changed(before, snapshot(network)) == set()


def test_a_missing_tensor_is_refused() -> None:
    with pytest.raises(KeyError, match="b"):
        flatten({"a": torch.zeros(1)}, (("a", (1,)), ("b", (1,))))


def test_scalars_and_empty_tensors_keep_their_shape() -> None:
    specs = (("empty", (0, 3)), ("matrix", (2, 2)), ("scalar", ()))
    tensors = {"empty": torch.zeros(0, 3), "matrix": torch.arange(4.0).reshape(2, 2), "scalar": torch.tensor(7.0)}
    back = unflatten(flatten(tensors, specs), specs)
    assert {key: tuple(value.shape) for key, value in back.items()} == dict(specs)
    assert all(torch.equal(value, tensors[key]) for key, value in back.items())


def test_unflattened_tensors_do_not_share_memory_with_the_array() -> None:
    flat = np.zeros(3, dtype=np.float32)
    tensor = unflatten(flat, (("a", (3,)),))["a"]
    flat[:] = 1
    assert float(tensor.sum()) == 0.0


def test_batchnorm_state_round_trip() -> None:
    sender, receiver = tiny_network(1), tiny_network(2)
    bn_layers(sender)["bottleneck.1"].num_batches_tracked.fill_(9)  # type: ignore[union-attr]
    state = batchnorm_state(sender)
    kept = {key: value.clone() for key, value in state.items()}
    with torch.no_grad():
        for layer in bn_layers(sender).values():
            layer.weight.zero_()
    assert changed(state, kept) == set()  # copies: the sender may go on

    before = snapshot(receiver)
    load_batchnorm_state(receiver, state)
    assert changed(batchnorm_state(receiver), state) == set()
    touched = changed(before, snapshot(receiver))
    assert {key.rsplit(".", 1)[0] for key in touched} == bn_layers(receiver).keys()
    assert "bottleneck.1.num_batches_tracked" in statistics(touched)


def test_an_incomplete_batchnorm_state_is_refused() -> None:
    state = batchnorm_state(tiny_network())
    del state["bottleneck.1.running_var"]
    with pytest.raises(KeyError, match="running_var"):
        load_batchnorm_state(tiny_network(), state)
