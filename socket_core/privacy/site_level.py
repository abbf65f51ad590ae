"""The mechanism of whole-site protection: a clipped change, and normal noise on the sum over the sites.

``(sum_i Delta_i min(1, C / ||Delta_i||) + N(0, (sigma C)^2)) / n`` with the constants C, sigma and n, the number of
sites that the experiment names (McMahan et al., ICLR 2018, with every site in every round). Adding or removing one
site changes the sum by at most C. The owner adds the noise, or each of n sites a share of n-th variance: shares of
independent normal noise add up to the whole.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from socket_core.errors import PrivacyError

Values = NDArray[np.float64]

SLACK = 8.0
"""A normal vector's norm passes ``std * (sqrt(length) + 8)`` with probability below exp(-32), 1.3e-14."""


def clip_change(change: NDArray[np.floating[Any]], clip: float) -> Values:
    """``change * min(1, clip / norm)`` in float64: its direction, with an L2 norm of at most ``clip``.

    Args:
        change: Any shape, 0-d too; float16 to float32, whose squares float64 can sum.
        clip: More than 0.

    Returns:
        Same shape; a change within ``clip``, zero included, comes back as it is.

    Raises:
        PrivacyError: If a value is NaN or infinite: no factor would bound it.
    """
    values = np.asarray(change, dtype=np.float64)
    factor = clip_factor(math.sqrt(float(np.square(values).sum())), clip)
    return values if factor == 1.0 else values * factor


def clip_factor(norm: float, clip: float) -> float:
    """``min(1, clip / norm)``; raises as :func:`clip_change`."""
    if not math.isfinite(norm):
        raise PrivacyError(
            "a change that is not finite cannot be clipped", where="site_privacy.clip", remedy="lower method.lr"
        )
    return 1.0 if norm <= clip else clip / norm


def share_deviation(sigma: float, clip: float, sites: int) -> float:
    """Standard deviation of one of ``sites`` equal shares; ``sites`` 1 is the whole."""
    return sigma * clip / math.sqrt(sites)


def noise_share(length: int, sigma: float, clip: float, sites: int, rng: np.random.Generator) -> Values:
    """One share of the noise of the sum, ``(length,)``: ``N(0, (sigma clip)^2 / sites)`` in each place.

    Args:
        length: Values of a change.
        sigma: Of the sum, over ``clip``.
        clip: Largest norm of a change.
        sites: Shares that make the whole; 1 at the server.
        rng: From :func:`socket_core.privacy.dp_step.fresh_generator`, never from the run's seed.
    """
    return share_deviation(sigma, clip, sites) * rng.standard_normal(length)


def largest_share(length: int, sigma: float, clip: float, sites: int) -> float:
    """A norm that a clipped change with its share of noise does not pass, but for a chance of 1.3e-14.

    An update is refused by this limit alone. A tighter one would look at the noise, and the sum of what is left
    would not be normal any more.
    """
    return clip + share_deviation(sigma, clip, sites) * (math.sqrt(length) + SLACK)
