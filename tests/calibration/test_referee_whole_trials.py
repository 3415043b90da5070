"""Rows 4, 10 and 11 of the referee on whole trials: no design, bad data, any order."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from noise import Design, Noise, World, draw
from trials import ABSURD, NO_MEASUREMENTS, SPOILED, STRATUM, lines, measurements, trial_plan

from controller.domain.errors import InvalidInput
from controller.domain.samples.parse import parse_samples
from controller.gate.statistics.cells import Design as GateDesign
from controller.gate.trial.judge import judge_trial
from controller.gate.trial.model import TrialDecision
from controller.gate.verdict import Action, Verdict

GATE_DESIGN = {Design.TWO_ARMS: GateDesign.TWO_ARMS, Design.PAIRS: GateDesign.PAIRS, Design.ABBA: GateDesign.ABBA}
BLOCKS = 40
PROMOTING = (Verdict.PASS, Verdict.MARGINAL)


def trial(design: Design, *, seed: int, theta: float = 0.0) -> list:
    rng = np.random.default_rng(seed)
    return measurements(design, draw(rng, design, Noise(), World(theta=theta), size=(1, BLOCKS, BLOCKS)))


def written(decision: TrialDecision) -> str:
    return json.dumps(asdict(decision), default=str)


@pytest.mark.parametrize("design", Design)
@pytest.mark.parametrize(("theta", "action"), [(0.0, Action.PROMOTE), (0.06, Action.REVERT)])
def test_good_data_are_decided(design: Design, theta: float, action: Action) -> None:
    decision = judge_trial(trial_plan(GATE_DESIGN[design]), trial(design, seed=1, theta=theta))
    assert decision.action is action, decision.sentence


@pytest.mark.parametrize("theta", [-0.05, 0.0, 0.03, 0.2])
def test_before_and_after_without_a_design_decides_nothing(theta: float) -> None:
    for seed in range(5):
        runs = [one for one in trial(Design.TWO_ARMS, seed=seed, theta=theta) if one.arm.value == "treated"]
        decision = judge_trial(trial_plan(GateDesign.BEFORE_AFTER), runs)
        assert decision.verdict is Verdict.INCONCLUSIVE
        assert decision.action is Action.HOLD
        assert "confounded with time" in written(decision)


@pytest.mark.parametrize("design", Design)
@pytest.mark.parametrize("spoiled", SPOILED)
@pytest.mark.parametrize("sigma", [0.04, None])
def test_bad_data_pass_nothing_and_break_nothing(design: Design, spoiled: str, sigma: float | None) -> None:
    for seed in range(2):
        good = trial(design, seed=seed)
        runs = SPOILED[spoiled](good, np.random.default_rng(seed))
        decision = judge_trial(trial_plan(GATE_DESIGN[design], sigma=sigma, strata=(STRATUM,)), runs)
        judged = [cell for cell in decision.cells if cell.metric != "completion" and cell.stratum == STRATUM]
        assert all(cell.verdict not in PROMOTING for cell in judged), [cell.sentence for cell in judged]
        assert decision.action is not Action.PROMOTE
        assert decision.sentence


@pytest.mark.parametrize("design", Design)
@pytest.mark.parametrize("unreadable", NO_MEASUREMENTS)
def test_values_that_are_none_are_refused_by_line(design: Design, unreadable: str) -> None:
    runs = NO_MEASUREMENTS[unreadable](trial(design, seed=3), np.random.default_rng(3))
    first = next(number for number, one in enumerate(runs, 1) if not 0 < (one.value or 0.0) < np.inf)
    with pytest.raises(InvalidInput, match=rf"runs\.jsonl:{first}: .*value"):
        parse_samples(lines(runs), "runs.jsonl", trial_plan(GATE_DESIGN[design]))


@pytest.mark.parametrize("design", Design)
@pytest.mark.parametrize("absurd", ABSURD)
def test_absurd_data_have_a_verdict(design: Design, absurd: str) -> None:
    runs = ABSURD[absurd](trial(design, seed=2), np.random.default_rng(2))
    decision = judge_trial(trial_plan(GATE_DESIGN[design]), runs)
    assert decision.sentence
    assert "nan" not in decision.sentence.lower()


@pytest.mark.parametrize("design", Design)
def test_runs_that_are_told_twice_count_once(design: Design) -> None:
    runs = [one for one in trial(design, seed=4) if one.host[-3:] < "003"]
    once, twice = (judge_trial(trial_plan(GATE_DESIGN[design]), data) for data in (runs, runs * 20))
    assert written(once) == written(twice)


@pytest.mark.parametrize("design", Design)
def test_a_stratum_without_runs_is_no_success(design: Design) -> None:
    plan = trial_plan(GATE_DESIGN[design], strata=(STRATUM, "arm64/vm"))
    decision = judge_trial(plan, trial(design, seed=1))
    assert decision.action is not Action.PROMOTE
    assert {one.stratum: one.verdict for one in decision.strata}["arm64/vm"] not in PROMOTING


@pytest.mark.parametrize("design", Design)
@pytest.mark.parametrize("theta", [0.0, 0.015, 0.06])
def test_any_order_of_the_same_data_gives_the_same_bytes(design: Design, theta: float) -> None:
    runs = trial(design, seed=9, theta=theta)
    plan, rng = trial_plan(GATE_DESIGN[design]), np.random.default_rng(9)
    expected = written(judge_trial(plan, runs))
    for _ in range(5):
        shuffled = [runs[index] for index in rng.permutation(len(runs))]
        assert written(judge_trial(plan, shuffled)) == expected
