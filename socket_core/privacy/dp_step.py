"""The DP step on TI pairs: per-record gradients, clipped, summed, noised (Abadi et al., CCS 2016).

``update = (sum_i g_i min(1, C / ||g_i||) + N(0, (sigma C)^2)) / L`` over the records that a Poisson draw picked, each
with probability ``sample_rate``. C, sigma, the sample rate and L are constants of the run. An empty draw is a step
like any other: noise alone. Guarantee: adding or removing one pair.

Each record's gradient is that of a function of this record alone: by construction (``vmap`` over ``grad`` of the loss
of one record), or in one pass over all images where every layer is known to keep them apart (:mod:`.watched`).
BatchNorm normalises by running statistics, which come from task-relevant images only. There are no hooks, so no
gradient of a TR step can reach the sum and none of a pair can stay behind (docs/adr/0013). Noise and draws come from
a generator that the operating system seeds; it is neither logged nor saved, and the run's seed does not enter.
"""

from __future__ import annotations

import logging
import math
import secrets
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from socket_core.batchnorm import bn_mode
from socket_core.config import Experiment, PrivacyConfig
from socket_core.config_privacy import Scope, not_private
from socket_core.data.types import Index, Pairs
from socket_core.errors import PrivacyError
from socket_core.methods.base import Method
from socket_core.models import Model
from socket_core.optimiser import Adam, NesterovSgd, Optimiser
from socket_core.privacy.ledger import Budget
from socket_core.privacy.per_record import RecordGradients, Rows
from socket_core.privacy.plan import event_of, privacy_of, ti_steps
from socket_core.privacy.records import Records
from socket_core.privacy.scope import scope_parameters
from socket_core.privacy.watched import Watched, can_watch
from socket_core.translators import Bridge

log = logging.getLogger("socket_fl.privacy")

DROWNED = 0.1
"""Below this ratio of the largest possible signal to the noise of a step, a warning is due."""


def prepare(
    method: Method, pairs: Pairs, experiment: Experiment, steps: int, budget: Budget | None, device: torch.device
) -> DpStep:
    """Refuses what is not accounted, charges all steps, and only then looks at the pairs.

    Args:
        method: Configured and checked.
        pairs: The site's pairs.
        experiment: With a ``privacy`` section.
        steps: Steps of this round; all are charged now.
        budget: The site's ledger, for this job.
        device: Where the network is.

    Raises:
        PrivacyError: If a use of TI pairs would not be accounted, there is no ledger, or the budget is used up.
            No pair has been looked at then.
    """
    cfg = privacy_of(experiment)
    # Of this very class: a subclass with other terms on pairs has to say anew that each is of one record.
    if not vars(type(method)).get("private_pairs", False):
        raise PrivacyError(
            f"method {method.name} has no DP step for its terms on TI pairs",
            where="privacy",
            remedy="use socket or tgkt",
        )
    if what := not_private(experiment.method):
        raise PrivacyError(f"DP is asked for, but {what}", where="privacy", remedy="see docs/privacy.md")
    if budget is None:
        raise PrivacyError(
            "DP is asked for, and there is no ledger to charge",
            where="privacy",
            remedy="pass the site's ledger, or leave the privacy section out",
        )
    charged = ti_steps(experiment, steps)
    event, parameters, what = event_of(experiment, charged), trained(method, cfg.scope), _name(method, cfg.scope)
    ratio = cfg.expected_batch / (event.sigma * math.sqrt(sum(p.numel() for p in parameters.values())))
    say = log.warning if ratio < DROWNED else log.info
    say("%d TI steps under DP: sigma %.3f; signal at most %.2g of the noise, %s", charged, event.sigma, ratio, what)
    budget.charge(event, clip=cfg.clip, scope=what)
    records = Records(pairs, method.source, experiment, device, with_rgb=method.wants_rgb)
    return DpStep(method, records, experiment, charged)


def trained(method: Method, scope: Scope) -> dict[str, Tensor]:
    """What TI steps train, by name within the learner: all of a translator, or this scope of a target network."""
    learner = method.learner()
    if isinstance(learner, Bridge):
        return {name: p for name, p in learner.named_parameters() if name.startswith("translator.")}
    return scope_parameters(method.target, scope)


def _name(method: Method, scope: Scope) -> str:
    return "translator" if isinstance(method.learner(), Bridge) else scope


class DpStep:
    """The TI steps of one round, all of which have been charged; :func:`prepare` makes it.

    Args:
        method: Whose ``pair_loss`` is minimised, by its learner.
        records: The pairs.
        experiment: With a ``privacy`` section.
        charged: Steps that may be taken.
    """

    def __init__(self, method: Method, records: Records, experiment: Experiment, charged: int) -> None:
        self._method, self._records, self._left = method, records, charged
        self._cfg, self._sigma = privacy_of(experiment), event_of(experiment, 1).sigma
        self._learner, self._scope = method.learner(), trained(method, self._cfg.scope)
        self._optimiser = _optimiser(method, self._cfg)
        self._rng = fresh_generator()
        self._calls, self._signal, self._noise = 0, 0.0, 0.0

    def after_step(self, factor: float) -> int:
        """A TI step after each ``privacy.every``-th optimiser step; errors as for :meth:`step`.

        Returns:
            Pairs seen, as far as it may be told: the expected number, since the true one is private.
        """
        self._calls += 1
        if self._calls % self._cfg.every:
            return 0
        self.step(factor)
        return self._cfg.expected_batch

    def step(self, factor: float) -> None:
        """One noised update of the scope, at ``factor`` times the rate of TI steps.

        Raises:
            PrivacyError: If more steps are asked for than were charged, a layer is in training mode, or a buffer
                has changed.
        """
        if self._left < 1:
            raise PrivacyError("a step that was not charged", where="privacy", remedy="this is a fault: report it")
        self._left -= 1
        learner, cfg = self._learner, self._cfg
        buffers = [buffer.clone() for buffer in learner.buffers()]
        index = np.flatnonzero(self._rng.random(self._records.count) < cfg.sample_rate).astype(np.int64)
        with bn_mode(learner, "frozen"):
            check_mode(learner)
            total = self.clipped_sum(index)
        self._optimiser.zero_grad()
        signal, drawn = [], []
        for name, parameter in self._scope.items():
            noise = self._sigma * cfg.clip * self.noise(parameter)
            parameter.grad = (total[name] + noise) / cfg.expected_batch
            signal.append(total[name].square().sum())
            drawn.append(noise.square().sum())
        self._optimiser.step(factor)
        self._optimiser.zero_grad()
        self._hear(float(torch.stack(signal).sum()), float(torch.stack(drawn).sum()))
        self._check_buffers(buffers)
        if self._left == 0:
            self._tell()

    def _hear(self, signal: float, drawn: float) -> None:
        """Counts the squared norms of a step's sum and noise."""
        log.debug(
            "TI step under DP: the signal was %.2g of its noise", math.sqrt(signal / drawn) if drawn else math.inf
        )
        self._signal, self._noise = self._signal + signal, self._noise + drawn

    def _check_buffers(self, before: Sequence[Tensor]) -> None:
        """Refuses a change of a buffer; the host asks once, not once for each of them."""
        now = dict(self._learner.named_buffers())
        same = [(one == other).all() for one, other in zip(now.values(), before, strict=True)]
        changed = [name for name, kept in zip(now, torch.stack(same).tolist(), strict=True) if not kept] if same else []
        if changed:
            raise PrivacyError(
                f"TI pairs have changed the buffer {changed[0]}", where="privacy", remedy="this is a fault: report it"
            )

    def _tell(self) -> None:
        """Says in the site's own log how loud the signal was. It is not private: it never leaves."""
        ratio = math.sqrt(self._signal / self._noise) if self._noise else math.inf
        say = log.warning if ratio < DROWNED else log.info
        say("TI steps under DP: the signal was %.2g of the noise over the round (for this log only)", ratio)

    def noise(self, like: Tensor) -> Tensor:
        """Fresh standard normal values in the shape of ``like``."""
        return torch.from_numpy(self._rng.standard_normal(like.shape, dtype=np.float32)).to(like)

    @torch.no_grad()
    def clipped_sum(self, index: Index) -> dict[str, Tensor]:
        """Sum over the records at ``index`` of their gradients, each of norm at most ``clip``; zeros for none."""
        # In TF32, which PyTorch lets a GPU convolve in, the gradient that is summed would not be the one measured.
        cudnn = torch.backends.cudnn
        own = {"enabled": cudnn.enabled, "benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
        with cudnn.flags(**own, allow_tf32=False):
            return self._clipped_sum(index)

    def _clipped_sum(self, index: Index) -> dict[str, Tensor]:
        total = {name: torch.zeros_like(p) for name, p in self._scope.items()}
        for start in range(0, len(index), self._cfg.chunk):
            part = index[start : start + self._cfg.chunk]
            found = self.recorded(part)
            squares = found.squares()
            # A record whose gradient is not finite contributes nothing: no factor would bound it.
            usable = squares.isfinite().cpu().numpy()
            if not usable.all():
                if not usable.any():
                    continue
                found = self.recorded(part[usable])
                squares = found.squares()
            factor = (self._cfg.clip / squares.sqrt()).clamp(max=1.0)
            for name, value in found.weighted_sum(factor).items():
                total[name] += value
        return total

    def gradients(self, index: Index) -> dict[str, Tensor]:
        """The gradient of each record's loss, ``(B, *shape)`` by name of parameter."""
        return self.recorded(index).rows()

    @torch.no_grad()  # of the outer graph: what runs inside keeps its own
    def recorded(self, index: Index) -> RecordGradients:
        """The gradients of the losses of the records at ``index``, at least one."""
        x, *aims = self._records.batch(index)
        if self._cfg.scope != "bottleneck" and can_watch(self._learner):
            return self._watched(x, aims)
        return Rows(self._vectorised(x, aims))

    def _watched(self, x: Tensor, aims: Sequence[Tensor]) -> Watched:
        """In one pass over all images, for networks whose every layer is known to keep them apart."""
        watched = Watched(self._learner, self._scope, views=x.shape[1])
        with torch.enable_grad():
            images = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            with watched.forward():
                out = self._method.target.features(images)
            watched.backward(torch.func.vmap(self._method.pair_loss)(out.unflatten(0, x.shape[:2]), *aims).sum())
        return watched

    def _vectorised(self, x: Tensor, aims: Sequence[Tensor]) -> dict[str, Tensor]:
        """A function of each record alone by construction, for any learner."""
        if self._cfg.scope == "bottleneck" and isinstance(self._learner, Model):
            # Backbones do not learn here: one pass for all, and gradients per record of the small rest.
            module = Part(self._learner, self._learner.bottle)
            x = self._learner.embed(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        else:
            module = Part(self._learner, self._run())
        values = {f"model.{name}": p.detach() for name, p in self._scope.items()}

        def loss(trained: dict[str, Tensor], x: Tensor, *aims: Tensor) -> Tensor:
            return self._method.pair_loss(torch.func.functional_call(module, trained, (x,)), *aims)

        with warnings.catch_warnings():
            # Global average pooling of channels-last images has one trivial operation that vmap loops over.
            warnings.filterwarnings("ignore", message="There is a performance drop", category=UserWarning)
            in_dims = (None, 0, *(0 for _ in aims))
            found = torch.func.vmap(torch.func.grad(loss), in_dims=in_dims)(values, x, *aims)
        return {name: found[f"model.{name}"] for name in self._scope}

    def _run(self) -> Callable[[Tensor], Tensor]:
        """The learner's forward pass."""
        if isinstance(self._learner, Bridge):
            return self._learner.translate
        return self._method.target.features


class Part(nn.Module):
    """A stretch of a learner's computation as a module of its own, which is what ``functional_call`` wants.

    Args:
        model: The learner.
        run: One of its methods.
    """

    def __init__(self, model: nn.Module, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._run = run

    def forward(self, x: Tensor) -> Tensor:
        """What ``run`` returns."""
        return self._run(x)


def _optimiser(method: Method, cfg: PrivacyConfig) -> Optimiser:
    """Of TI steps alone. Weight decay belongs to the TR steps; a translator, which starts from nothing, has Adam."""
    learner = method.learner()
    if isinstance(learner, Bridge):
        return Adam(learner.parameters(), lr=cfg.lr or method.cfg.translator.lr)
    return NesterovSgd(
        method.target,
        lr=cfg.lr or method.cfg.lr,
        backbone_lr_scale=method.cfg.backbone_lr_scale,
        momentum=cfg.momentum,
        weight_decay=0.0,
    )


def fresh_generator() -> np.random.Generator:
    """A generator with 256 bits from the operating system.

    PyTorch's CPU generator is no choice: of a seed it uses 32 bits, which can be tried out.
    """
    return np.random.Generator(np.random.PCG64DXSM(secrets.randbits(256)))


def check_mode(network: nn.Module) -> None:
    """Refuses layers that would mix images or remember them.

    Raises:
        PrivacyError: Naming the layer.
    """
    for name, layer in network.named_modules():
        if layer.training and (isinstance(layer, _BatchNorm) or not list(layer.children())):
            raise PrivacyError(
                f"layer {name} is in training mode", where="privacy", remedy="this is a fault: report it"
            )
        if isinstance(layer, _BatchNorm) and (layer.running_mean is None or layer.running_var is None):
            raise PrivacyError(
                f"BatchNorm {name} has no running statistics", where="privacy", remedy="use a network that keeps them"
            )
