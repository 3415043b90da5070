"""Looks at times fixed beforehand: what each sees, what the last one spends, and what few steady blocks can do."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from trial_measured import BUILD, cell, measured, plan

from controller.gate.statistics.cells import GAMMA_PROMOTE, GAMMA_REVERT, KAPPA, CellPlan, Design, judge_cells
from controller.gate.statistics.contrasts import log_margin
from controller.gate.statistics.sequential import Spending
from controller.gate.trial.judge import judge_trial
from controller.gate.trial.model import Arm, Calendar, Measurement, TrialPlan
from controller.gate.trial.plans import critical_cells
from controller.gate.verdict import MetricRole, Verdict

VM = "x86_64/vm"


def dated(runs: list[Measurement], first: int) -> list[Measurement]:
    """Let the first hosts of each arm be complete at time 0 and the others at time 1."""
    return [replace(one, time=float(int(one.host.rpartition("-")[2]) >= first)) for one in runs]


def calendar(blocks: tuple[int, ...], controls: tuple[int, ...] = (), **more: object) -> Calendar:
    made = Calendar(stratum=VM, until=tuple(map(float, range(len(blocks)))), blocks=blocks, controls=controls)
    return replace(made, **more)  # type: ignore[arg-type]  # any field


def planned(design: Design, times: Calendar, due: float, **more: object) -> TrialPlan:
    return plan(design, calendars=(times,), due=due, final=due >= times.until[-1], **more)


@pytest.mark.parametrize("design", [Design.PAIRS, Design.TWO_ARMS, Design.ABBA])
def test_a_look_sees_what_was_complete_by_its_time(design: Design) -> None:
    runs = dated(measured(design, 0.0), 6)
    times = calendar((6, 14), (6, 14) if design is Design.TWO_ARMS else ())
    early = cell(judge_trial(planned(design, times, 0.0), [one for one in runs if one.time == 0.0]))
    assert (early.blocks, early.look, early.looks, early.planned_blocks) == (6, 1, 2, 14)
    assert early.verdict is Verdict.NEED_MORE_DATA
    assert "the next look is at 14" in early.sentence
    late = cell(judge_trial(planned(design, times, 1.0), runs))
    assert (late.blocks, late.look, late.verdict) == (14, 2, Verdict.PASS)


def test_what_comes_after_a_look_does_not_change_it() -> None:
    runs = dated(measured(Design.PAIRS, 0.06, noise=0.002), 10)
    times = calendar((10, 14))
    then = cell(judge_trial(planned(Design.PAIRS, times, 0.0), [one for one in runs if one.time == 0.0]))
    now = cell(judge_trial(planned(Design.PAIRS, times, 1.0), runs))
    assert then.verdict is now.verdict is Verdict.FAIL
    assert (then.look, then.low, then.high) == (now.look, now.low, now.high)
    assert "4 later ones not looked at" in now.sentence


def test_a_missing_block_keeps_its_place_and_costs_no_look() -> None:
    runs = [one for one in dated(measured(Design.PAIRS, 0.0), 6) if one.host != "control-02"]
    times = calendar((6, 14))
    early = cell(judge_trial(planned(Design.PAIRS, times, 0.0), [one for one in runs if one.time == 0.0]))
    assert (early.blocks, early.look) == (5, 1)
    late = cell(judge_trial(planned(Design.PAIRS, times, 1.0), runs))
    assert (late.blocks, late.look, late.verdict) == (13, 2, Verdict.PASS)


def test_a_time_at_which_nothing_came_is_no_look() -> None:
    runs = dated(measured(Design.PAIRS, 0.0), 0)
    times = calendar((6, 14))
    assert {one.time for one in runs} == {1.0}
    nothing = cell(judge_trial(planned(Design.PAIRS, times, 0.0, strata=(VM,)), []))
    assert (nothing.verdict, nothing.blocks, nothing.look) == (Verdict.NEED_MORE_DATA, 0, 0)
    late = cell(judge_trial(planned(Design.PAIRS, times, 1.0), runs))
    assert (late.blocks, late.look, late.verdict) == (14, 1, Verdict.PASS)


def test_two_arms_without_a_control_host_have_not_been_looked_at() -> None:
    runs = dated([one for one in measured(Design.TWO_ARMS, 0.0) if one.arm is Arm.TREATED], 6)
    judged = cell(judge_trial(planned(Design.TWO_ARMS, calendar((6, 14), (6, 14)), 1.0), runs))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "no control host was measured" in judged.sentence


def test_few_blocks_of_a_steady_metric_are_decided_if_the_plan_said_so() -> None:
    runs = dated(measured(Design.ABBA, 0.0, hosts=5, noise=0.0005), 5)
    blind = cell(judge_trial(planned(Design.ABBA, calendar((5,)), 0.0), runs))
    assert blind.verdict is Verdict.INCONCLUSIVE
    known = calendar((5,), sigmas=(("build", 0.001),))
    assert cell(judge_trial(planned(Design.ABBA, known, 0.0), runs)).verdict is Verdict.PASS
    worse = dated(measured(Design.ABBA, 0.06, hosts=5, noise=0.0005), 5)
    assert cell(judge_trial(planned(Design.ABBA, known, 0.0), worse)).verdict is Verdict.FAIL


def test_a_suspended_cell_waits_and_then_is_undecided() -> None:
    runs = dated(measured(Design.PAIRS, 0.06), 6)
    times = calendar((6, 14))
    why = {(VM, "build"): "it cried wolf"}
    early = judge_trial(planned(Design.PAIRS, times, 0.0, suspended=why), [one for one in runs if one.time == 0.0])
    late = judge_trial(planned(Design.PAIRS, times, 1.0, suspended=why), runs)
    assert (cell(early).verdict, cell(late).verdict) == (Verdict.NEED_MORE_DATA, Verdict.INCONCLUSIVE)
    assert cell(late).sentence.endswith("INCONCLUSIVE: the cell is suspended and decides nothing: it cried wolf.")
    guard = replace(BUILD, role=MetricRole.GUARD)
    passing = judge_trial(replace(planned(Design.PAIRS, times, 1.0, suspended=why), metrics=(guard,)), runs)
    assert passing.strata[0].verdict is Verdict.PASS


def test_a_held_stratum_leaves_the_others_share_of_the_error_as_it_was() -> None:
    assert critical_cells(plan(), 1) == 2
    assert critical_cells(plan(family_strata=4), 1) == 8


def test_hosts_beyond_ten_margins_are_a_warning_with_their_stratum() -> None:
    runs = measured(Design.PAIRS, 0.5, hosts=4)
    decision = judge_trial(planned(Design.PAIRS, calendar((4, 20)), 0.0), dated(runs, 4))
    assert cell(decision).verdict is Verdict.NEED_MORE_DATA
    ((stratum, why),) = decision.warnings
    assert stratum == VM
    assert "got worse by more than ten margins" in why


@pytest.mark.parametrize("design", [Design.PAIRS, Design.TWO_ARMS])
def test_unequal_waves_with_hours_of_their_own_keep_the_promised_errors(design: Design) -> None:
    """Waves of 2, 9 and 31 comparisons; in each the hour moves both arms by another 3 %."""
    rng, looks = np.random.default_rng(11), (2, 11, 42)
    margin, two = log_margin(0.03), design is Design.TWO_ARMS
    made = CellPlan(
        design=design,
        margin=margin,
        n_max=looks[-1],
        n_max_control=looks[-1] if two else 0,
        looks=looks,
        looks_control=looks if two else (),
        sigma=0.03,
        revert=Spending(alpha=0.005, gamma=GAMMA_REVERT),
        promote=Spending(alpha=0.03, gamma=GAMMA_PROMOTE),
    )

    def verdicts(theta: float) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
        treated, control = rng.normal(theta, 0.03, (1500, 42)), rng.normal(0, 0.03, (1500, 42))
        for begin, end in pairwise((0, *looks)):
            hour = rng.normal(0, 0.03, (1500, 1))
            treated[:, begin:end] += hour
            control[:, begin:end] += hour
        if two:
            return judge_cells(treated, made, control=control).verdict
        return judge_cells(treated - control, made, own=(treated, control)).verdict

    assert np.mean(verdicts(KAPPA * margin) == Verdict.FAIL) <= 0.01
    assert np.mean(verdicts(margin) <= Verdict.MARGINAL) <= 0.05
    assert np.mean(verdicts(2 * margin) == Verdict.FAIL) >= 0.99
