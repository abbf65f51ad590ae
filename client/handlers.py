"""What a site does with each kind of request: plain functions from a site and a message to records."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from flwr.app import RecordDict
from numpy.typing import NDArray

from client import feedback, policy, sent
from client.bridging import own_bridge, sent_bridge
from client.egress import seal
from client.held import parameters_for
from client.journal import Pairs
from client.releases import digests_of, find_release, holds, keep_pinned
from client.site import Holdings, Site
from client.site_level import charge_round, may_leave
from protos.codec import WireError, array_record, arrays_of, decode, encode, sha256, specs_to_proto
from protos.wire_pb2 import REASON_MALFORMED, Enrolment, EnrolRequest, Evaluation, ReleaseFiles, RoundRequest, Update
from socket_core.batchnorm import Moments, running_moments, set_running_moments
from socket_core.combined import combine
from socket_core.config import Experiment, parse_experiment_json
from socket_core.data.loader import Loader, Preprocessing
from socket_core.data.types import Labelled, SiteData
from socket_core.engine import Segment, adapt, make_bridge, pick_device
from socket_core.errors import PolicyError
from socket_core.evaluation import collapse_warning, device_of, evaluate, predict_logits, spread_of
from socket_core.exchange import (
    Flat,
    Spec,
    batchnorm_specs,
    batchnorm_state,
    bridge_specs,
    flatten,
    length,
    load_batchnorm_state,
    load_flat,
    parameters_of,
    travelling_specs,
    unflatten,
)
from socket_core.methods import METHODS, needs_pairs
from socket_core.packing import Values, pack
from socket_core.release import MANIFEST, SIGNATURE, WEIGHTS
from socket_core.release_fit import check_fits
from socket_core.stages import federated_rounds, place_of, shares_bridge
from socket_core.validators import VALIDATORS

log = logging.getLogger("socket_fl.client")

COLLAPSE_SAMPLE = 128
"""Images that a site looks at, evenly over what it has, to see whether its network has collapsed."""


def enrol(site: Site, records: RecordDict) -> RecordDict:
    """Answers with the site's name, its modality and which of the releases it holds."""
    request = decode(records, EnrolRequest)
    first, *further = digests_of(site, request)
    may_count = site.simulated or (site.policy.held_out_counts and not request.site_privacy)
    answer = Enrolment(
        site=site.name,
        modality=site.modality,
        has_release=holds(site, first),
        further_release_digests=[digest for digest in further if holds(site, digest)],
        counts=site.labelled and may_count,
        scores=site.policy.validation_scores,
        parameters_sha256=site.store.held_digest(request.experiment) if request.experiment else b"",
    )
    return seal(encode(answer), site.gate)


def receive_release(site: Site, records: RecordDict) -> RecordDict:
    """Checks a release against the pinned keys and keeps it."""
    files = decode(records, ReleaseFiles)
    record = array_record(records)
    size = record["weights"].shape[0] if "weights" in record else 0
    weights = arrays_of(records, {"weights": ("uint8", size)})["weights"]
    content = {MANIFEST: files.manifest, SIGNATURE: files.signature, WEIGHTS: weights.tobytes()}
    keep_pinned(site, content)
    answer = Enrolment(site=site.name, modality=site.modality, has_release=True)
    return seal(encode(answer), site.gate)


def train_round(site: Site, records: RecordDict) -> RecordDict:
    """One round of adaptation; answers with the change of the travelling parameters."""
    job = _Round(site, records, trained=False)
    charge_round(site, job.experiment, job.request.experiment)
    holdings, source, bridge = site.load(job.experiment), combine(job.releases), job.bridge
    budget = site.budget(job.experiment, holdings, job.request.experiment, job.request.round)
    if bridge is None:
        names = job.request.experiment, site.name
        bridge = own_bridge(job.experiment, *names, site.store, lambda: holdings.data, job.network, source, budget)
    labels = holdings.reporting.tr_labels if _is_oracle(job.experiment) and holdings.reporting is not None else None
    request, segment = job.request, job.segment(site.name)
    adapt(job.network, source, holdings.data, job.experiment, segment, bridge=bridge, labels=labels, budget=budget)
    learner = bridge if job.place.stage == "bridge" and bridge is not None else job.network
    learner.cpu()
    if job.policy == "local" and job.place.stage == "adapt":
        site.store.save_batchnorm(request.experiment, request.round, batchnorm_state(job.network), request.keep_round)
    if request.round == request.rounds:
        _warn_of_collapse(job, holdings.data)
    change = flatten(parameters_of(learner), job.specs)
    change -= job.parameters
    change = may_leave(job.experiment, change)
    quantised = job.experiment.federation.update_dtype == "int8"
    if quantised:
        change = feedback.with_residual(site.store, request, job.place.stage, change)
    delta = pack(change, job.specs, job.experiment.federation.update_dtype)
    if quantised:
        feedback.keep_residual(site.store, request, job.place.stage, change, delta)
    arrays: dict[str, Values] = {"delta": delta.values}
    if job.bn_specs:
        moments = running_moments(job.network, len(holdings.data.tr))
        arrays["bn_mean"] = flatten({name: m.mean for name, m in moments.items()}, job.bn_specs)
        arrays["bn_var"] = flatten({name: m.var for name, m in moments.items()}, job.bn_specs)
    answer = Update(
        experiment=request.experiment,
        site=site.name,
        round=request.round,
        tensors=specs_to_proto(job.specs, str(delta.values.dtype)),
        batchnorm=specs_to_proto(job.bn_specs),
        # How many images there are is no part of a clipped change, and nobody needs it: sites weigh alike.
        examples=len(holdings.data.tr) if job.experiment.site_privacy is None else 1,
        delta_sha256=sha256(delta.values),
        scales=delta.scales.tolist(),
    )
    owed: Pairs = "dp" if budget is not None else "open" if needs_pairs(job.experiment.method) else "none"
    sealed = seal(encode(answer, arrays), site.gate, pairs=owed)
    if site.keep_sent:  # once the gate has let it through: a copy of anything else would be no copy of what left
        sent.keep(site.store, request, job.parameters, arrays, delta)
    return sealed


def _warn_of_collapse(job: _Round, data: SiteData) -> None:
    """Says in the site's own log if its adapted network predicts few classes; nothing of it leaves.

    A sample will do: a collapse is seen in a hundred images, and a large site would read for as long as it trained.
    """
    classes, count = len(job.releases[0].info.classes), min(COLLAPSE_SAMPLE, len(data.tr))
    sample = data.tr.take(np.linspace(0, len(data.tr) - 1, count).astype(np.int64))
    spread = spread_of(job.network, sample, Preprocessing.of(job.experiment.data), classes)
    if warning := collapse_warning(spread, classes):
        log.warning("%s", warning)


def evaluate_round(site: Site, records: RecordDict) -> RecordDict:
    """Counts and score of the parameters sent, under the site's own BatchNorm where that is local.

    Counts are of labelled images: all that a simulated site has, and what a deployed one has put aside, if its policy
    lets counts leave and the federation does not promise to hide the site as a whole.
    """
    job = _Round(site, records, trained=True)
    answer = Evaluation(experiment=job.request.experiment, site=site.name, round=job.request.round)
    validator = VALIDATORS.get(job.experiment.method.validator) if site.policy.validation_scores else None
    if job.policy == "local" and job.fresh:  # a site that never trained has nothing to test
        return seal(encode(answer), site.gate)
    holdings = site.load(job.experiment) if site.simulated or validator is not None else None
    labelled = _labelled(site, job, holdings)
    if validator is not None or labelled:
        network = job.network.to(pick_device(job.experiment.device))
        prep, classes = Preprocessing.of(job.experiment.data), len(job.releases[0].info.classes)
        if validator is not None and holdings is not None:
            answer.validation = validator(predict_logits(network, Loader(holdings.data.tr, prep, device_of(network))))
        for name, data in labelled.items():
            getattr(answer, name).extend(evaluate(network, data, prep, classes).reshape(-1).tolist())
    return seal(encode(answer), site.gate)


def _labelled(site: Site, job: _Round, holdings: Holdings | None) -> dict[str, Labelled]:
    """Images with labels by the field that their counts leave in."""
    if holdings is not None and holdings.reporting is not None and holdings.transductive is not None:
        return {"held_out": holdings.reporting.held_out, "transductive": holdings.transductive}
    if not site.policy.held_out_counts or job.experiment.site_privacy is not None:
        return {}
    found = site.held_out(job.experiment, job.releases[0].info.classes)
    return {"held_out": found} if found is not None else {}


class _Round:
    """A request for a round, checked against policy and release, and the network as it stands for it.

    Args:
        site: The site.
        records: The message.
        trained: Whether the site has trained this round already: evaluating round r uses its BatchNorm state
            after r, training r goes on from the one after r - 1.
    """

    def __init__(self, site: Site, records: RecordDict, *, trained: bool) -> None:
        self.request = decode(records, RoundRequest)
        self._batchnorm_round = self.request.round if trained else self.request.round - 1
        self.experiment = parse_experiment_json(self.request.experiment_json, where="request")
        _check_request(site, self.request, self.experiment)
        torch.set_num_threads(self.experiment.threads)
        self.releases = [find_release(site, digest) for digest in digests_of(site, self.request)]
        for release in self.releases:
            check_fits(release.info, self.experiment, where="request")
        self.policy = self.experiment.federation.bn_policy
        self.place = place_of(self.experiment, self.request.round)
        self.network = combine(self.releases)
        network_specs = travelling_specs(self.network, self.policy)
        bridge = make_bridge(self.experiment, self.network)
        shared = bridge_specs(bridge) if bridge is not None and shares_bridge(self.experiment) else ()
        adapts = self.place.stage == "adapt"
        if trained and not adapts:
            raise WireError(REASON_MALFORMED, f"round {self.request.round} trains a translator: nothing to evaluate")
        self.specs = network_specs if adapts else shared
        self.bn_specs = batchnorm_specs(self.network, self.policy) if adapts else ()
        arrays, change = self._arrays(records, network_specs if adapts else (), shared if not trained else ())
        self.bridge = sent_bridge(self.experiment, self.network, arrays["bridge"]) if "bridge" in arrays else None
        if not adapts:
            self.parameters = arrays["bridge"]
        else:
            self.parameters = parameters_for(
                site.store, self.request, self.network, self.specs, whole=arrays.get("parameters"), change=change
            )
            load_flat(self.network, self.parameters, self.specs)
        self.fresh = self._load_batchnorm(site, arrays) if adapts else False

    def segment(self, site: str) -> Segment:
        """What the engine is to do."""
        place, steps = self.place, self.experiment.federation.steps
        return Segment(site, place.round, steps, place.rounds, self.fresh, place.stage, federated=True)

    def _arrays(
        self, records: RecordDict, network: Sequence[Spec], bridge: Sequence[Spec]
    ) -> tuple[dict[str, Flat], NDArray[np.generic] | None]:
        """Those of float32 by name, and the change to parameters that the site holds, where that was sent."""
        sizes = {"parameters": length(network), "bridge": length(bridge)}
        expected = {name: ("float32", size) for name, size in sizes.items() if size}
        if "parameters" in expected and "parameters" not in array_record(records):
            del expected["parameters"]
            if self.request.base_sha256:
                expected["change"] = (self.experiment.federation.download_dtype, length(network))
        if self.bn_specs and "bn_mean" in array_record(records):
            size = length(self.bn_specs)
            expected |= {"bn_mean": ("float32", size), "bn_var": ("float32", size)}
        arrays = arrays_of(records, expected)
        change = arrays.pop("change", None)
        return {name: array.astype("float32", copy=False) for name, array in arrays.items()}, change

    def _load_batchnorm(self, site: Site, arrays: dict[str, Flat]) -> bool:
        """Puts BatchNorm in place by policy; True if it is still the source's."""
        if self.policy == "local":
            # A file of a later round may lie there when a server resumes and asks for a round again: it is not read.
            state = site.store.load_batchnorm(self.request.experiment, self._batchnorm_round)
            if state is not None:
                load_batchnorm_state(self.network, state)
            return state is None
        if "bn_mean" in arrays:
            means, variances = (unflatten(arrays[name], self.bn_specs) for name in ("bn_mean", "bn_var"))
            set_running_moments(self.network, {k: Moments(1, means[k], variances[k]) for k in means})
            return False
        return True


def _is_oracle(experiment: Experiment) -> bool:
    return METHODS[experiment.method.name].oracle


def _check_request(site: Site, request: RoundRequest, experiment: Experiment) -> None:
    if not 1 <= request.round <= request.rounds:
        raise WireError(REASON_MALFORMED, f"round {request.round} of {request.rounds}")
    if request.rounds != federated_rounds(experiment):
        raise WireError(REASON_MALFORMED, f"{request.rounds} rounds, the experiment has {federated_rounds(experiment)}")
    policy.check(site.policy, experiment, request.rounds)
    policy.check_site_level(site.policy, experiment)
    if experiment.data.modality != site.modality:
        raise PolicyError(
            f"the run is about {experiment.data.modality}, this site has {site.modality}",
            where="modality",
            remedy="ask the owner for an experiment of this modality",
        )
