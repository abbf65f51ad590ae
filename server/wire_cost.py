"""What a federation will send, to the byte, before it runs: the very messages are made, with zeros in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from flwr.app import Array
from numpy.typing import NDArray

from protos.codec import encode, size_of, specs_to_proto
from protos.wire_pb2 import Update
from server.evaluation import is_due
from server.job import Job, Step, request_for
from server.state import PooledBatchNorm, ServerState, init
from socket_core.config import Experiment
from socket_core.data.catalogue import site_name
from socket_core.data.partition import parse_partition, partition
from socket_core.data.readers import task_classes
from socket_core.data.scenes import TASK_RELEVANT, drawn
from socket_core.engine import make_bridge
from socket_core.ensemble import Ensemble
from socket_core.exchange import Spec, batchnorm_specs, bridge_specs, length, travelling_specs
from socket_core.methods import METHODS
from socket_core.models import Model, build_network
from socket_core.packing import pack
from socket_core.seeds import derive_seed
from socket_core.stages import federated_rounds, place_of

NAME_ENDS = "-" + "0" * 12
"""What a job adds to the experiment's name."""
DIGEST = "0" * 64
USUAL = 200
"""Images of a site where nobody knows: the number takes two bytes from 128 to 16383."""


@dataclass(frozen=True)
class Travel:
    """Payload bytes of all rounds and sites; of the release about as many as its weights take.

    Attributes:
        up: From sites to owner.
        down: From owner to sites, without the release.
        release: Once to each site.
    """

    up: int
    down: int
    release: int


@dataclass(frozen=True)
class _Info:
    digest: str = DIGEST


@dataclass(frozen=True)
class _Release:
    info: _Info = _Info()


@dataclass(frozen=True)
class _Unsent:
    """Of a job what its requests say."""

    experiment: Experiment
    digests: list[str]
    release: _Release = _Release()

    @property
    def rounds(self) -> int:
        return federated_rounds(self.experiment)


def travel(experiment: Experiment) -> Travel:
    """What a federation of this experiment sends, if every site answers every round and none is scored."""
    network, federation = source_network(experiment), experiment.federation
    bridge = make_bridge(experiment, network)
    specs = {
        "adapt": travelling_specs(network, federation.bn_policy),
        "bridge": bridge_specs(bridge) if bridge is not None else (),
    }
    bn_specs = batchnorm_specs(network, federation.bn_policy)
    job = cast(Job, _Unsent(experiment, [DIGEST] * (1 + len(experiment.further_sources))))
    state = init(network, experiment, experiment.name + NAME_ENDS)
    sizes = _images_of_sites(experiment)
    up = down = 0
    brings = _bringing(experiment, specs["adapt"])
    held = True  # the parameters of the release, which sites have
    for round_ in range(1, job.rounds + 1):
        stage = place_of(experiment, round_).stage
        request = request_for(job, replace(state, round=round_), by="held" if held else brings)
        own = bn_specs if stage == "adapt" else ()
        down += federation.sites * size_of(request)
        up += _updates(experiment, round_, specs[stage], own, sizes)
        if stage == "adapt" and METHODS[experiment.method.name].trains:
            held = is_due(experiment, round_, job.rounds)
            down += federation.sites * _bytes_brought(state, brings) * held  # to be tested with, and trained on
        if own:
            zeros = np.zeros(length(own), np.float32)
            state = replace(state, batchnorm=PooledBatchNorm(zeros, zeros))
    weights = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    return Travel(up, down, federation.sites * weights)


def _bringing(experiment: Experiment, specs: tuple[Spec, ...]) -> Step | Literal["whole"]:
    """How changed parameters come to a site that holds those before."""
    dtype = experiment.federation.download_dtype
    if dtype == "float32":
        return "whole"
    return Step(bytes(32), pack(np.zeros(length(specs), np.float32), specs, dtype))


def _bytes_brought(state: ServerState, brings: Step | Literal["whole"]) -> int:
    values = state.parameters if brings == "whole" else brings.change.values
    return len(Array(values).data)


def source_network(experiment: Experiment) -> Model:
    """An untrained source model of the experiment's shape."""
    classes = len(TASK_RELEVANT if experiment.data.kind == "scenes" else task_classes(experiment.data))
    names = ["", *(further.name for further in experiment.further_sources)]
    shapes = [experiment.trainer(name).network for name in names]
    networks = [build_network(s.backbone, s.bottleneck_dim, classes) for s in shapes]
    return networks[0] if len(networks) == 1 else Ensemble(networks)


def _updates(
    experiment: Experiment, round_: int, specs: tuple[Spec, ...], bn: tuple[Spec, ...], counts: list[int]
) -> int:
    """Bytes of what :func:`client.handlers.train_round` answers at all sites, which have so many images."""
    dtype = experiment.federation.update_dtype
    delta = pack(np.zeros(length(specs), np.float32), specs, dtype)
    arrays: dict[str, NDArray[np.generic]] = {"delta": delta.values}
    if bn:
        arrays |= {name: np.zeros(length(bn), np.float32) for name in ("bn_mean", "bn_var")}
    answer = Update(
        experiment=experiment.name + NAME_ENDS,
        round=round_,
        tensors=specs_to_proto(specs, dtype),
        batchnorm=specs_to_proto(bn),
        delta_sha256=bytes(32),
        scales=delta.scales.tolist(),
    )
    of_arrays = size_of(encode(answer, arrays)) - size_of(encode(answer))
    total = 0
    for site, count in enumerate(counts):
        answer.site, answer.examples = site_name(site), count if experiment.site_privacy is None else 1
        total += of_arrays + size_of(encode(answer))
    return total


def _images_of_sites(experiment: Experiment) -> list[int]:
    """How many task-relevant images each site will have; of rendered scenes the labels tell, else a usual number."""
    data, federation = experiment.data, experiment.federation
    if data.kind != "scenes" or parse_partition(federation.partition)[0] == "sensor":
        return [USUAL] * federation.sites
    labels, _ = drawn("target_train", data.scenes.target_train, data.seed)
    shares = partition(labels, federation.sites, federation.partition, derive_seed(experiment.seed, "partition"))
    return [len(share) for share in shares]
