"""The audit of the DP step's code: the right code is not accused, each fault is found, and canaries are plain records.

Chances of a wrong answer, by simulation of the scores (sums of normal noise and Poisson draws, 40 steps): the code as
it is accused, none in 100,000 (70 guesses: 49.4 right on average, standard deviation 3.8, and 67 accuse); a fault
missed, none in 20,000 to 50,000 each.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from socket_core.batchnorm import bn_mode
from socket_core.errors import PrivacyError
from socket_core.privacy import code_path
from socket_core.privacy.canaries import HUGE, CanaryStep, throw
from socket_core.privacy.code_path import audit_code_path
from socket_core.privacy.faults import FAULTS, RIGHT, NoNoise, SelfTest, check, lines, self_test

RATE, STEPS = 0.15, 40
SIZE = 0.1 / 100
"""What a canary moves in a step that has it: rate of TI steps times clip norm over expected batch."""


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def found(told: list[tuple[str, int, int]]) -> SelfTest:
    return self_test(steps=STEPS, on_step=lambda name, done, total: told.append((name, done, total)))


def stepper(kind: type[CanaryStep], canaries: int = 1500, steps: int = STEPS) -> CanaryStep:
    job = code_path._experiment(2.0, 1e-5, steps, RATE, "bottleneck", 0)
    method, records, thrown = code_path._toy(job, canaries, "bottleneck")
    return kind(method, records, job, steps, thrown)


def test_the_code_as_it_is_is_not_accused(found: SelfTest) -> None:
    assert not found.right.leaks
    assert found.right.lower_bound <= found.right.claimed.claim <= 2.0 < found.right.ceiling
    assert found.right.correct > 35, "better than chance: canaries reach what is released"
    assert "no proof" in found.right.verdict


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(found: SelfTest, fault: str) -> None:
    run = found.faulty[fault]
    assert run.lower_bound > run.claimed.claim
    assert run.verdict.startswith("LEAKS")
    assert run.sigma == found.right.sigma, "the same claim"


def test_the_self_test_passes_and_shows_what_it_saw(found: SelfTest) -> None:
    check(found)
    text = "\n".join(lines(found))
    for part in (RIGHT, *FAULTS, "delta 1e-05", "record-level", "add or remove one pair", "95%", "toy run"):
        assert part in text
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["missed"] == []
    assert plain["right"]["claimed"]["claim"] == found.right.claimed.claim
    assert plain["right"]["leaks"] is False


def test_progress_is_told(found: SelfTest, told: list[tuple[str, int, int]]) -> None:
    assert [t for t in told if t[0] == RIGHT] == [(RIGHT, done, STEPS) for done in range(1, STEPS + 1)]
    assert {name for name, _, _ in told} == {RIGHT, *FAULTS}


def test_code_that_leaks_and_an_audit_that_is_blind_are_refused(found: SelfTest) -> None:
    bad = found.faulty["no noise"]
    with pytest.raises(PrivacyError, match="epsilon is at least 3"):
        check(SelfTest(bad, found.faulty))
    with pytest.raises(PrivacyError, match="did not see: no clipping"):
        check(SelfTest(found.right, {**found.faulty, "no clipping": found.right}))


def test_scores_are_signal_and_noise_of_the_size_that_is_claimed() -> None:
    """Wrong by chance once in a million runs: five standard errors."""
    step = stepper(CanaryStep)
    for _ in range(STEPS):
        step.step(1.0)
    coins, sigma = step._canaries.coins, step._sigma
    inside, outside = step.scores[coins] / SIZE, step.scores[~coins] / SIZE
    assert inside.mean() == pytest.approx(STEPS * RATE, abs=5 * inside.std() / len(inside) ** 0.5)
    assert abs(outside.mean()) < 5 * outside.std() / len(outside) ** 0.5
    assert outside.std() == pytest.approx(sigma * STEPS**0.5, rel=5 / (2 * len(outside)) ** 0.5)


def test_without_noise_a_score_counts_the_steps_that_had_the_canary() -> None:
    """Coordinates of canaries that are out move by what pairs contribute, which is little."""
    step = stepper(NoNoise)
    for _ in range(STEPS):
        step.step(1.0)
    counts, coins = step.scores / SIZE, step._canaries.coins
    assert np.abs(counts[coins] - counts[coins].round()).max() < 0.4
    assert counts[coins].mean() == pytest.approx(STEPS * RATE, abs=0.5)
    assert np.abs(counts[~coins]).max() < 0.4


def test_a_canary_enters_before_clipping_and_leaves_it_with_the_clip_norm() -> None:
    step = stepper(CanaryStep)
    with bn_mode(step._method.target, "frozen"):
        one = np.array([step._first_canary + 3])
        row = step.gradients(one)[step._canaries.tensor]
        clipped = step.clipped_sum(one)[step._canaries.tensor]
    assert float(row.norm()) == HUGE * 1.0
    assert float(clipped.norm()) == pytest.approx(1.0)
    assert int(clipped.flatten().argmax()) == step._canaries.inside[3]


def test_pairs_among_canaries_have_the_gradients_of_pairs() -> None:
    step = stepper(CanaryStep)
    with bn_mode(step._method.target, "frozen"):
        alone = step.gradients(np.arange(3))
        mixed = step.gradients(np.array([0, 1, 2, step._first_canary]))
        none = step.clipped_sum(np.array([], dtype=np.int64))
    for name, value in alone.items():
        torch.testing.assert_close(mixed[name][:3], value)
        assert len(mixed[name]) == 4
        assert not none[name].any()


def test_each_canary_has_its_own_coordinate_and_coin() -> None:
    parameters = {"small": torch.zeros(3), "large": torch.zeros(4, 50)}
    thrown = throw(parameters, 200, np.random.default_rng(0))
    assert thrown.tensor == "large"
    assert sorted(thrown.coordinates) == list(range(200))
    assert 60 < thrown.coins.sum() < 140
    with pytest.raises(PrivacyError, match="large has 200 entries"):
        throw(parameters, 201, np.random.default_rng(0))


@pytest.mark.parametrize("wrong", [{"guesses": 20}, {"epsilon_claimed": 8.0}, {"steps": 41}])
def test_an_audit_that_could_not_accuse_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(PrivacyError, match="even number of steps"):
        audit_code_path(**wrong)  # type: ignore[arg-type]
