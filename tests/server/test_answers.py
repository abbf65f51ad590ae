"""Three sentences: right for a loss, a gain, noise, one seed, and with differential privacy."""

from __future__ import annotations

from typing import Any

from server.answers import answers
from server.privacy_cost import costs, epsilons_of
from server.results import Mode, Row
from tests.server.rows import row

UNIT = "record-level: one task-irrelevant (RGB, target) pair; add or remove one pair; delta 1e-05"


def by_seed(method: str, mode: Mode, *accuracies: float, **rest: Any) -> list[Row]:
    return [row(method, mode, seed=i, accuracy=a, **rest) for i, a in enumerate(accuracies)]


def test_a_loss_and_a_gain_beyond_noise_are_said_with_their_intervals() -> None:
    rows = [
        *by_seed("socket", "local", 0.29, 0.30, 0.31),
        *by_seed("socket", "federated", 0.5, 0.5, 0.5),
        *by_seed("socket", "centralised", 0.61, 0.60, 0.59),
    ]
    loss, gain, privacy = answers(rows, {})
    assert loss == "Against centralising, federating loses 10.0 points with socket (95 % interval 7.5 to 12.5)."
    assert gain == "Against each site alone, federating gains 20.0 points with socket (95 % interval 17.5 to 22.5)."
    assert privacy == "No row had differential privacy: what privacy costs was not measured, and epsilon is unbounded."


def test_federating_can_gain_over_centralising_and_lose_against_sites_alone() -> None:
    rows = [
        *by_seed("shot", "local", 0.61, 0.60, 0.59),
        *by_seed("shot", "federated", 0.5, 0.5, 0.5),
        *by_seed("shot", "centralised", 0.29, 0.30, 0.31),
    ]
    loss, gain, _ = answers(rows, {})
    assert loss.startswith("Against centralising, federating gains 20.0 points with shot")
    assert gain.startswith("Against each site alone, federating loses 10.0 points with shot")


def test_what_is_within_noise_is_called_that_and_nothing_else() -> None:
    rows = [
        *by_seed("socket", "federated", 0.5, 0.5, 0.5),
        *by_seed("socket", "centralised", 0.61, 0.60, 0.59),
        *by_seed("shot", "federated", 0.5, 0.5, 0.5),
        *by_seed("shot", "centralised", 0.3, 0.5, 0.8),
        *by_seed("tgkt", "federated", 0.5, 0.5, 0.5),
        *by_seed("tgkt", "centralised", 0.5, 0.5, 0.5),
    ]
    assert answers(rows, {})[0] == (
        "Against centralising, federating loses 10.0 points with socket (95 % interval 7.5 to 12.5), and is within "
        "noise (the 95 % interval holds 0) with shot (-3.3 points) and tgkt (+0.0 points)."
    )


def test_one_seed_is_noise_however_large_the_difference() -> None:
    rows = [*by_seed("socket", "federated", 0.1), *by_seed("socket", "centralised", 0.9)]
    loss, gain, _ = answers(rows, {})
    said = "federating cannot be told from noise (there is one seed) with socket (-80.0 points)."
    assert loss == f"Against centralising, {said}"
    assert gain == "What federating gains over each site alone cannot be said: no method was run both ways."


def test_collapsed_rows_are_named_and_bounds_left_out() -> None:
    rows = [
        *by_seed("shot", "federated", 0.5, 0.5, 0.5),
        *by_seed("shot", "centralised", 0.61, 0.60, 0.59, collapsed=True),
        *by_seed("oracle", "federated", 0.9, 0.9, 0.9, oracle=True),
        *by_seed("oracle", "centralised", 1.0, 1.0, 1.0, oracle=True),
    ]
    loss = answers(rows, {})[0]
    assert "loses 10.0 points with shot (95 % interval 7.5 to 12.5; collapsed)." in loss
    assert "oracle" not in loss


def test_of_many_rows_the_first_are_named_and_the_others_counted() -> None:
    rows = [
        r
        for i in range(9)
        for mode in ("federated", "centralised")
        for r in by_seed("socket", mode, 0.5, label=f"v{i}")
    ]
    assert answers(rows, {})[0].endswith("v5 (+0.0 points) and 3 more.")


def facts(**changed: dict[str, Any]) -> dict[str, Any]:
    """Settings of the variants ``dp`` and ``plain``, equal but for privacy and what is asked for."""
    same = {"method": {"name": "socket", "lr": 0.1}, "federation": {"sites": 4}, "data": {"modality": "depth"}}
    variants: dict[str, Any] = {
        "dp": same | {"name": "dp", "privacy": {"epsilon": 3.0}},
        "plain": same | {"name": "plain", "privacy": None},
    }
    for label, values in changed.items():
        variants[label] = variants.get(label, {}) | values
    return {"experiment": same, "variants": variants}


def with_and_without(epsilon: float = 2.996) -> list[Row]:
    private = {"epsilon": epsilon, "epsilon_unit": UNIT, "label": "dp"}
    return [
        *by_seed("socket", "centralised", 0.5, 0.5, 0.5, **private),
        *by_seed("socket", "centralised", 0.61, 0.60, 0.59, label="plain"),
    ]


def test_privacy_costs_what_the_same_settings_without_it_have_more() -> None:
    assert answers(with_and_without(), facts())[2] == (
        f"Against plain centralised, differential privacy ({UNIT}) loses 10.0 points with dp centralised "
        "(95 % interval 7.5 to 12.5; epsilon 3.00)."
    )


def test_other_settings_of_the_method_are_named_and_another_federation_is_no_counterpart() -> None:
    named = answers(with_and_without(), facts(plain={"method": {"name": "socket", "lr": 0.2}}))[2]
    assert named.startswith("Against plain centralised, which differs also in method.lr, differential privacy")
    none = answers(with_and_without(), facts(plain={"federation": {"sites": 2}}))[2]
    assert none == (
        f"What differential privacy ({UNIT}) costs cannot be said: no row has the same settings without it."
    )


def test_the_nearest_counterpart_is_taken_whatever_the_order() -> None:
    rows = [*by_seed("socket", "centralised", 0.1, 0.2, 0.3, label="far"), *with_and_without()]
    far = {"name": "far", "method": {"name": "socket", "lr": 9.0}, "federation": {"sites": 4}, "data": {}}
    far["data"] = {"modality": "depth"}
    (cost,) = costs(rows, facts(far=far))
    assert (cost.compared.below, cost.also) == (("plain", "centralised"), ())


def test_epsilons_of_two_units_are_both_named_and_the_seed_that_spent_most_counts() -> None:
    both = [
        row(
            "socket",
            seed=i,
            epsilon=2.0,
            epsilon_unit=UNIT,
            site_epsilon=e,
            site_epsilon_unit="whole site; delta 1e-05",
        )
        for i, e in enumerate((7.0, 9.0, 8.0))
    ]
    assert epsilons_of(both) == ((2.0, UNIT), (9.0, "whole site; delta 1e-05"))
    sentence = answers([*both, *by_seed("socket", "federated", 0.5, label="plain")], {"experiment": {}})[2]
    assert f"({UNIT}; and whole site; delta 1e-05)" in sentence
    assert "epsilon 2.00 and epsilon 9.00" in sentence
