"""AdaBN: BatchNorm statistics re-estimated on the target, no weight touched (Li et al., 2016)."""

from __future__ import annotations

from socket_core.errors import MethodError
from socket_core.methods.base import Method, Pool, reestimate_batchnorm


class AdaBN(Method):
    """Replaces the running statistics by the target's in one pass."""

    name = "adabn"
    several_sources = True

    def check(self) -> None:
        """Refuses ``bn_policy: source``, under which there would be nothing to adapt."""
        super().check()
        if self.bn_policy == "source":
            raise MethodError(
                "AdaBN adapts BatchNorm statistics, and bn_policy 'source' freezes them",
                where="federation.bn_policy",
                remedy="use 'local' or 'pooled'",
            )

    def start(self, pool: Pool) -> None:
        """Estimates the statistics."""
        reestimate_batchnorm(self.target, pool)
