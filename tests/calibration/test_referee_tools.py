"""The referee's own tools: the noise is what it says, figures have their errors, nothing is run twice."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from calibrate import Cache, Job
from engine import judged, outcome_of_others, planned, true_sigma
from fuzz import fuzz, total
from limits import EFFECTS, HALF, MARGIN, MOMENTS, NOTHING, OPEN, PROMOTE, REVERT, TIME, Walk, least_score_of
from noise import FAMILIES, Design, Family, Noise, World, draw
from report import markdown, table
from scenarios import SCENARIOS, Bar, Quantity, Scenario
from scipy import stats
from tally import Calls, Others, Reach, Tally, reached, smallest_t_test

PLAIN = SCENARIOS[0]


@pytest.mark.parametrize("noise", FAMILIES, ids=lambda noise: noise.name)
def test_noise_has_the_spread_it_says(noise: Noise) -> None:
    alone = replace(noise, boot_sd=0.0, host_sd=0.0, host_kernel_sd=0.0)
    runs = draw(np.random.default_rng(1), Design.ABBA, alone, World(), size=(4, 20_000, 1)).treated
    expected = 0.03
    if noise.family is Family.CONTAMINATED:
        expected = np.sqrt(0.03**2 + 0.05 * 0.95 * np.log(1.5) ** 2)
    # Student's t with three degrees of freedom has no fourth moment, so its spread is estimated badly.
    tolerance = 0.1 if noise.family is Family.T3 else 0.01
    assert float(np.std(runs)) == pytest.approx(expected, rel=tolerance)
    neighbours = np.corrcoef(runs[..., 0].ravel(), runs[..., 1].ravel())[0, 1]
    assert neighbours == pytest.approx(0.7 if noise.family is Family.AR1 else 0.0, abs=0.02)


def test_sigma_adds_up_the_parts() -> None:
    # The median of four normal runs has .298 of their variance; four boots of a cycle halve what two would add.
    boot = 0.298 * 0.03**2 + 0.01**2
    assert true_sigma(Design.TWO_ARMS, Noise()) == pytest.approx(np.sqrt(2 * boot), rel=0.01)
    assert true_sigma(Design.PAIRS, Noise()) == pytest.approx(np.sqrt(4 * boot), rel=0.01)
    assert true_sigma(Design.ABBA, Noise()) == pytest.approx(np.sqrt(boot), rel=0.01)
    assert true_sigma(Design.ABBA, Noise(host_kernel_sd=0.02)) == pytest.approx(np.sqrt(boot + 0.02**2), rel=0.01)


def test_figures_carry_their_error() -> None:
    bar = Bar(quantity=Quantity.FAIL, limit=0.01)
    assert reached(bar, (0.010, 0.008, 0.013)) == Reach.MET
    assert reached(bar, (0.012, 0.009, 0.015)) == Reach.WITHIN_ERROR
    assert reached(bar, (0.02, 0.016, 0.024)) == Reach.MISSED
    least = replace(bar, limit=0.95, at_least=True)
    assert reached(least, (0.94, 0.93, 0.949)) == Reach.MISSED
    assert reached(least, (0.94, 0.93, 0.951)) == Reach.WITHIN_ERROR


def test_the_score_is_the_formula() -> None:
    calls = Calls(promote=10, revert=20, undecided=70, sample_share=0.5)
    assert calls.score(should_promote=False) == pytest.approx(20 * 0.1 + 0.7 + 0.5)
    assert calls.score(should_promote=True) == pytest.approx(5 * 0.2 + 0.7 + 0.5)
    assert calls.score(should_promote=None) == pytest.approx(0.7 + 0.5)


def test_the_smallest_t_test_by_the_published_example() -> None:
    # One sample, effect of one standard deviation, one-sided 1 % and 95 % power: 19 by noncentral t tables.
    assert smallest_t_test(1.0, 1.0) == 19
    assert smallest_t_test(1.0, 1.0, ratio=1.0) == pytest.approx(33, abs=1)


def test_the_best_judge_is_that_of_neyman_and_pearson_where_waiting_is_free() -> None:
    drift = 3.0
    costs = np.zeros((len(EFFECTS), 4))
    costs[MARGIN, PROMOTE] = costs[NOTHING, REVERT] = 1.0
    costs[:, OPEN] = 9.0
    assert Walk(drift).least_cost(costs) == pytest.approx(2 * stats.norm.sf(drift / 2), rel=0.01)
    # Where only waiting costs, the first moment is the last.
    costs[:] = 0.0
    costs[NOTHING, TIME] = 1.0
    assert Walk(drift).least_cost(costs) == pytest.approx(1 / MOMENTS)


@pytest.mark.parametrize("effect", [HALF, MARGIN])
def test_no_judge_within_the_bars_beats_one_that_always_answers_alike(effect: int) -> None:
    assert 1.0 < least_score_of(effect, information=2.38, planned_over_t=1.2) < 1.1


def test_spoiled_inputs_have_a_verdict_in_any_order() -> None:
    found = total([fuzz(8_000, seed=1), fuzz(8_000, seed=2)])
    assert found is not None
    assert found.undefined == found.baseless == found.changed == 0
    assert sum(found.verdicts.values()) == found.inputs == 16_000
    assert found.reordered > 0


def test_results_are_kept_by_all_that_makes_them(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    job = Job(scenario=PLAIN, kind="gate", reps=10, seed=1)
    Cache(file).add(job, {"result": {"reps": 10}, "cpu_s": 1.5})
    with file.open("a") as damaged:
        damaged.write('{"key": "cut o')
    again = Cache(file)
    assert again.get(job) == {"reps": 10}
    assert again.cost(job) == 1.5
    assert Job(scenario=replace(PLAIN, bars=()), kind="gate", reps=10, seed=1) in again
    for other in (
        Job(scenario=PLAIN, kind="gate", reps=11, seed=1),
        Job(scenario=PLAIN, kind="gate", reps=10, seed=2),
        Job(scenario=PLAIN, kind="others", reps=10, seed=1),
        Job(scenario=replace(PLAIN, theta=0.1), kind="gate", reps=10, seed=1),
    ):
        assert other not in again


def test_the_page_shows_what_is_missed() -> None:
    impossible = replace(PLAIN, bars=(Bar(quantity=Quantity.PASS, limit=1.01, at_least=True),))
    ours: dict[Scenario, Tally] = {impossible: judged(impossible, reps=20, seed=1)}
    others = {impossible: outcome_of_others(impossible, reps=20, seed=1)}
    stored = Others.from_json(json.loads(json.dumps(others[impossible].to_json())))
    assert stored == others[impossible]
    text, missed = table(ours, {}, None)
    assert missed == 1
    assert "MISSED" in text
    page = markdown(ours, {}, None, {"seed": 1, "command": "make calibration", "cpu_s": 60})
    assert "**MISSED**" in page


def test_all_judges_get_the_same_draws_however_many_are_asked_for() -> None:
    few, many = (outcome_of_others(PLAIN, reps=reps, seed=1) for reps in (1_000, 1_200))
    for key, calls in few.calls.items():
        assert calls.total == 1_000
        assert many.calls[key].promote >= calls.promote
    assert planned(PLAIN).n_max > 10
