"""Epsilon by two libraries: known values, composition, calibration, and what is no answer."""

from __future__ import annotations

import pytest

from socket_core.errors import PrivacyError
from socket_core.privacy import accounting
from socket_core.privacy.accounting import Epsilon, Event, calibrate, epsilon, pld_epsilon, rdp_epsilon

DELTA = 1e-5


@pytest.mark.parametrize(("steps", "rdp", "pld"), [(100, 1.580, 1.148), (1000, 3.403, 3.051), (5000, 7.847, 7.224)])
def test_known_values(steps: int, rdp: float, pld: float) -> None:
    """Sample rate 0.016, sigma 1; PRV accounting, a third code, says 1.158, 3.061 and 7.234 with an error of 0.01."""
    found = epsilon([Event(1.0, 0.016, steps)], DELTA)
    assert found.rdp == pytest.approx(rdp, abs=1e-3)
    assert found.pld == pytest.approx(pld, abs=2e-3)
    assert found.claim == found.rdp > found.pld


@pytest.mark.parametrize(("integers", "tolerance"), [(True, 1e-6), (False, 1e-3)])
def test_opacus_agrees_with_the_other_library_on_renyi_accounting(
    integers: bool, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At fractional orders the two sum their series with different care: 5e-4 apart here."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    orders = [float(order) for order in range(2, 64)] if integers else accounting.ORDERS
    monkeypatch.setattr(accounting, "ORDERS", orders)
    other = RdpAccountant(orders)
    other.compose(PoissonSampledDpEvent(0.064, GaussianDpEvent(1.3)), 300)
    assert rdp_epsilon([Event(1.3, 0.064, 300)], DELTA) == pytest.approx(other.get_epsilon(DELTA), abs=tolerance)


def test_different_events_compose_below_the_sum_of_their_epsilons() -> None:
    events = [Event(1.0, 0.016, 500), Event(0.8, 0.016, 200), Event(1.2, 0.032, 300)]
    assert rdp_epsilon(events, DELTA) == pytest.approx(4.67, abs=5e-3)
    assert pld_epsilon(events, DELTA) == pytest.approx(4.107, abs=5e-3)
    assert sum(rdp_epsilon([event], DELTA) for event in events) > 7


def test_ten_rounds_cost_what_all_their_steps_cost_and_not_what_a_fresh_count_of_each_would_show() -> None:
    a_round = Event(1.0, 0.05, 20)
    assert rdp_epsilon([a_round] * 10, DELTA) == rdp_epsilon([Event(1.0, 0.05, 200)], DELTA)
    assert rdp_epsilon([a_round] * 10, DELTA) > 2 * rdp_epsilon([a_round], DELTA)


def test_the_order_of_events_does_not_matter() -> None:
    events = [Event(1.0, 0.01, 10), Event(2.0, 0.02, 20)]
    assert rdp_epsilon(events, DELTA) == rdp_epsilon(events[::-1], DELTA)


def test_nothing_done_is_nothing_spent() -> None:
    assert epsilon([], DELTA) == Epsilon(0.0, 0.0, DELTA)


@pytest.mark.parametrize("target", [1.0, 3.0, 8.0])
def test_the_calibrated_sigma_is_the_least_one(target: float) -> None:
    sigma = calibrate(target, DELTA, 0.016, 2000)
    assert epsilon([Event(sigma, 0.016, 2000)], DELTA).claim <= target
    assert rdp_epsilon([Event(sigma - 0.001, 0.016, 2000)], DELTA) > target


def test_calibration_agrees_with_known_values() -> None:
    assert calibrate(2.0, DELTA, 0.016, 2000) == pytest.approx(1.729, abs=2e-3)


def test_a_target_that_no_noise_reaches_is_refused() -> None:
    with pytest.raises(PrivacyError, match="cannot be reached") as caught:
        calibrate(1e-4, DELTA, 1.0, 100_000)
    assert caught.value.where == "privacy.epsilon"


@pytest.mark.parametrize("wrong", [(0.0, 0.1, 1), (0.1, 0.1, 1), (float("nan"), 0.1, 1), (1.0, 0.0, 1), (1.0, 1.1, 1)])
def test_an_event_outside_its_range_is_refused(wrong: tuple[float, float, int]) -> None:
    with pytest.raises(PrivacyError):
        Event(*wrong)


def test_no_steps_are_no_event() -> None:
    with pytest.raises(PrivacyError):
        Event(1.0, 0.1, 0)


def test_epsilon_never_stands_alone() -> None:
    text = str(Epsilon(3.4, 3.1, DELTA))
    for part in ("3.400 by RDP", "PLD 3.100", "delta 1e-05", "record-level", "add or remove one pair"):
        assert part in text
