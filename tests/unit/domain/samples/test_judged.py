"""Whole trials judged: the designs, roles, claims, and what may not be decided."""

import dataclasses

import pytest
from trial_measured import BUILD, HOSTS, cell, measured, plan, with_outcome

from controller.gate.evidence.seen import Outcome
from controller.gate.statistics.cells import Design
from controller.gate.trial.judge import judge_trial
from controller.gate.trial.model import Arm, Measurement, TrialClaim, TrialMetric
from controller.gate.verdict import Action, ClaimState, MetricRole, Verdict

DESIGNS = (Design.TWO_ARMS, Design.PAIRS, Design.ABBA)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(
    ("effect", "verdict", "action"),
    [
        (-0.024, Verdict.PASS, Action.PROMOTE),
        (0.0, Verdict.PASS, Action.PROMOTE),
        (0.015, Verdict.MARGINAL, Action.PROMOTE),
        (0.06, Verdict.FAIL, Action.REVERT),
    ],
)
def test_every_design_removes_the_drift(design: Design, effect: float, verdict: Verdict, action: Action) -> None:
    decision = judge_trial(plan(design), measured(design, effect))
    assert (decision.verdict, decision.action) == (verdict, action), decision.sentence
    found = cell(decision)
    assert found.estimate == pytest.approx(effect * 100, abs=1.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < effect * 100 < found.high
    assert found.sentence.endswith(f"{verdict.name}.")


@pytest.mark.parametrize("effect", [-0.5, 0.0, 0.5])
def test_before_and_after_is_never_decided(effect: float) -> None:
    decision = judge_trial(plan(Design.BEFORE_AFTER), measured(Design.BEFORE_AFTER, effect))
    assert (decision.verdict, decision.action) == (Verdict.INCONCLUSIVE, Action.HOLD)
    assert "INCONCLUSIVE (confounded with time)" in cell(decision).sentence


def test_more_is_better_when_the_plan_says_so() -> None:
    rate = dataclasses.replace(BUILD, higher_is_better=True)
    assert judge_trial(plan(Design.PAIRS, rate), measured(Design.PAIRS, 0.06)).verdict is Verdict.PASS
    assert judge_trial(plan(Design.PAIRS, rate), measured(Design.PAIRS, -0.06)).verdict is Verdict.FAIL


def test_a_stratum_that_fails_is_not_hidden_by_the_others() -> None:
    runs = measured(Design.PAIRS, -0.02, stratum="a") + measured(Design.PAIRS, -0.02, stratum="b")
    bad = [
        dataclasses.replace(one, host=f"c-{one.host}", pair=f"c{one.pair}")
        for one in measured(Design.PAIRS, 0.07, stratum="c")
    ]
    renamed = [dataclasses.replace(one, host=f"{one.stratum}-{one.host}") for one in runs]
    decision = judge_trial(plan(Design.PAIRS), renamed + bad)
    assert {one.stratum: one.verdict for one in decision.strata} == {
        "a": Verdict.PASS,
        "b": Verdict.PASS,
        "c": Verdict.FAIL,
    }
    assert decision.action is Action.REVERT
    assert any("they differ (Cochran's Q" in remark for remark in decision.remarks)


def test_a_named_stratum_without_runs_holds() -> None:
    decision = judge_trial(plan(Design.PAIRS, strata=("x86_64/vm", "arm64/vm")), measured(Design.PAIRS, 0.0))
    assert decision.action is Action.HOLD
    assert "arm64/vm" in decision.sentence
    assert cell(decision).verdict in (Verdict.INCONCLUSIVE, Verdict.NEED_MORE_DATA)


def test_nothing_at_all_holds() -> None:
    assert judge_trial(plan(), []).action is Action.HOLD


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_too_few_hosts_decide_nothing(design: Design, hosts: int) -> None:
    decision = judge_trial(plan(design), measured(design, 0.0, hosts=hosts))
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert cell(decision).blocks == hosts


def test_two_arms_without_controls_decide_nothing() -> None:
    runs = [one for one in measured(Design.TWO_ARMS, 0.1) if one.arm is Arm.TREATED]
    found = cell(judge_trial(plan(), runs))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "no control host" in found.sentence


def test_constant_values_are_no_measurement() -> None:
    runs = [dataclasses.replace(one, value=7.0) for one in measured(Design.PAIRS, 0.0)]
    assert cell(judge_trial(plan(Design.PAIRS), runs)).verdict is Verdict.INCONCLUSIVE


def test_hosts_with_too_few_runs_are_left_out_by_name() -> None:
    runs = [one for one in measured(Design.PAIRS, 0.0) if one.host != "treated-03" or one.run == "0"]
    found = cell(judge_trial(plan(Design.PAIRS), runs))
    assert found.blocks == HOSTS - 1
    assert "left out: treated-03 (1 runs first and 1 second, 4 needed)" in found.sentence


def test_warmups_are_discarded() -> None:
    runs = measured(Design.PAIRS, 0.0)
    warm = [
        dataclasses.replace(one, run=f"w{one.run}", value=(one.value or 0.0) * 9, warmup=True)
        for one in runs
        if one.position == 2
    ]
    assert (
        cell(judge_trial(plan(Design.PAIRS), runs + warm)).estimate
        == cell(judge_trial(plan(Design.PAIRS), runs)).estimate
    )


def test_one_sick_host_is_named_and_fails_nothing() -> None:
    runs = [
        dataclasses.replace(
            one, value=(one.value or 0.0) * (1.4 if one.host == "treated-05" and one.position == 2 else 1)
        )
        for one in measured(Design.PAIRS, 0.0)
    ]
    decision = judge_trial(plan(Design.PAIRS), runs)
    assert decision.verdict is not Verdict.FAIL
    assert cell(decision).sick == ("treated-05",)
    assert "treated-05" in cell(decision).sentence
    left_out = judge_trial(plan(Design.PAIRS, quarantined=("treated-05",)), runs)
    assert cell(left_out).sick == ()
    assert "treated-05 is quarantined and was left out." in left_out.remarks


def test_a_sick_control_host_is_named_and_not_its_partner() -> None:
    runs = [
        dataclasses.replace(
            one, value=(one.value or 0.0) * (1.4 if one.host == "control-05" and one.position == 2 else 1)
        )
        for one in measured(Design.PAIRS, 0.0)
    ]
    assert cell(judge_trial(plan(Design.PAIRS), runs)).sick == ("control-05",)


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.DIED, Outcome.FAILED])
def test_runs_that_do_not_end_hide_no_slow_tail(outcome: Outcome) -> None:
    slow = measured(Design.PAIRS, 0.0, noise=0.03)
    limit = sorted(one.value or 0.0 for one in slow)[-40]
    runs = [
        with_outcome(one, outcome)
        if one.arm is Arm.TREATED and one.position == 2 and (one.value or 0.0) > limit
        else one
        for one in slow
    ]
    decision = judge_trial(plan(Design.PAIRS), runs)
    assert decision.verdict >= Verdict.INCONCLUSIVE


def test_a_kernel_on_which_most_runs_die_fails_by_completion() -> None:
    runs = [
        with_outcome(one, Outcome.DIED) if one.arm is Arm.TREATED and one.position == 2 and one.run != "0" else one
        for one in measured(Design.PAIRS, 0.0)
    ]
    decision = judge_trial(plan(Design.PAIRS), runs)
    assert decision.action is Action.REVERT
    assert cell(decision, "completion").verdict is Verdict.FAIL


def test_a_broken_rig_is_told_apart_and_blocks_a_pass_when_it_hits_one_kernel() -> None:
    runs = [
        with_outcome(one, Outcome.INFRASTRUCTURE)
        if one.position == 2 and one.arm is Arm.TREATED and one.run == "0"
        else one
        for one in measured(Design.PAIRS, 0.0)
    ]
    decision = judge_trial(plan(Design.PAIRS, runs=3), runs)
    assert cell(decision, "completion").verdict is Verdict.PASS
    assert cell(decision).verdict is Verdict.INCONCLUSIVE
    assert "not comparable" in cell(decision).sentence
    assert any(remark.startswith("The rig, not the kernel, broke runs on treated-00") for remark in decision.remarks)


def test_a_moving_negative_control_blames_the_rig() -> None:
    control = TrialMetric(name="user", unit="s", role=MetricRole.NEGATIVE_CONTROL, margin=0.01)
    for effect in (0.05, -0.05):
        runs = measured(Design.PAIRS, 0.06) + measured(Design.PAIRS, effect, metric="user", noise=0.002)
        decision = judge_trial(plan(Design.PAIRS, BUILD, control), runs)
        assert decision.verdict is Verdict.INCONCLUSIVE
        assert "the rig did" in decision.sentence
    runs = measured(Design.PAIRS, 0.06) + measured(Design.PAIRS, 0.0, metric="user", noise=0.002)
    assert judge_trial(plan(Design.PAIRS, BUILD, control), runs).verdict is Verdict.FAIL


def test_a_failing_guard_holds() -> None:
    guard = TrialMetric(name="elapsed", unit="s", role=MetricRole.GUARD, margin=0.03)
    runs = measured(Design.PAIRS, 0.0) + measured(Design.PAIRS, 0.09, metric="elapsed")
    decision = judge_trial(plan(Design.PAIRS, BUILD, guard), runs)
    assert (decision.verdict, decision.action) == (Verdict.INCONCLUSIVE, Action.HOLD)
    assert "guard" in decision.sentence


def test_explaining_metrics_decide_nothing_and_are_told() -> None:
    explain = TrialMetric(name="faults", unit="pages", role=MetricRole.EXPLAIN, margin=None)
    runs = measured(Design.PAIRS, 0.0) + measured(Design.PAIRS, 3.0, metric="faults", drift=0.0)
    decision = judge_trial(plan(Design.PAIRS, BUILD, explain), runs)
    assert decision.verdict is Verdict.PASS
    assert any(remark.startswith("x86_64/vm faults: median change +") for remark in decision.remarks)


@pytest.mark.parametrize(
    ("at_least", "state", "verdict"),
    [
        (230.0, ClaimState.CONFIRMED, Verdict.PASS),
        (300.0, ClaimState.REFUTED, Verdict.FAIL),
        (252.0, ClaimState.OPEN, Verdict.INCONCLUSIVE),
    ],
)
def test_claims_are_judged_by_declared_errors_without_a_design(
    at_least: float, state: ClaimState, verdict: Verdict
) -> None:
    claim = TrialClaim(at_least=at_least, sigma_run=2.0, sigma_host=1.0)
    cost = TrialMetric(name="cost", unit="MiB", role=MetricRole.CRITICAL, margin=None, claim=claim)
    runs = [
        dataclasses.replace(one, metric="cost", value=564.0 if one.position == 2 else 816.0)
        for one in measured(Design.BEFORE_AFTER, 0.0, hosts=2)
    ]
    decision = judge_trial(plan(Design.BEFORE_AFTER, cost), runs)
    found = cell(decision, "cost")
    assert (found.claim, decision.verdict) == (state, verdict)
    assert found.estimate == pytest.approx(252.0)


OOPS = "BUG: kernel NULL pointer dereference, address: 0000000000000008"
WARNING = "WARNING: CPU: 0 PID: 7 at kernel/sched/core.c:1234 finish_task_switch+0x12/0x34"


def with_log(runs: list[Measurement], host: str, position: int, line: str) -> list[Measurement]:
    """Return the runs with a kernel log beside one host's runs at a position."""
    return [
        dataclasses.replace(one, kernel_log=("Linux version 7.1", f"[   12.3] {line}"))
        if (one.host, one.position) == (host, position)
        else one
        for one in runs
    ]


def test_a_fatal_line_on_the_new_kernel_is_fatal_whatever_the_numbers_say() -> None:
    runs = measured(Design.PAIRS, -0.05)
    host = next(one.host for one in runs if one.arm is Arm.TREATED)
    decision = judge_trial(plan(Design.PAIRS), with_log(runs, host, 2, OOPS))
    assert (decision.verdict, decision.action) == (Verdict.FATAL, Action.REVERT)
    assert f"survival: {host}: the kernel log of the new kernel says" in decision.sentence
    assert decision == judge_trial(plan(Design.PAIRS), with_log(runs, host, 2, OOPS)[::-1])
    # On the old kernel it says nothing against the new one.
    assert judge_trial(plan(Design.PAIRS), with_log(runs, host, 1, OOPS)).action is Action.PROMOTE


def test_a_serious_line_holds_until_a_second_host_confirms_it() -> None:
    runs = measured(Design.PAIRS, -0.05)
    first, second = sorted({one.host for one in runs if one.arm is Arm.TREATED})[:2]
    once = with_log(runs, first, 2, WARNING)
    assert judge_trial(plan(Design.PAIRS), once).action is Action.HOLD
    twice = judge_trial(plan(Design.PAIRS), with_log(once, second, 2, WARNING))
    assert (twice.verdict, twice.action) == (Verdict.FAIL, Action.REVERT)
    known = with_log(with_log(once, second, 2, WARNING), second, 1, WARNING)
    assert judge_trial(plan(Design.PAIRS), known).action is Action.PROMOTE


def test_a_host_that_did_not_come_back_is_fatal() -> None:
    runs = measured(Design.PAIRS, -0.05)
    host = next(one.host for one in runs if one.arm is Arm.TREATED)
    lost = [
        dataclasses.replace(one, outcome=Outcome.LOST, value=None) if (one.host, one.position) == (host, 2) else one
        for one in runs
    ]
    decision = judge_trial(plan(Design.PAIRS), lost)
    assert (decision.verdict, decision.action) == (Verdict.FATAL, Action.REVERT)
    assert f"{host}: did not come back on the new kernel." in decision.sentence


def test_two_hosts_far_beyond_the_margin_are_a_warning_before_any_look() -> None:
    runs = measured(Design.PAIRS, 0.0)
    bad = sorted({one.host for one in runs if one.arm is Arm.TREATED})[:2]
    slowed = [
        dataclasses.replace(one, value=one.value * 1.6)
        if one.host in bad and one.position == 2 and one.value is not None
        else one
        for one in runs
    ]
    early = dataclasses.replace(plan(Design.PAIRS), looks=(50,), final=False)
    decision = judge_trial(early, slowed)
    assert decision.verdict is Verdict.NEED_MORE_DATA
    (warning,) = (remark for remark in decision.remarks if "ten margins" in remark)
    assert warning.startswith(f"x86_64/vm {BUILD.name}: {bad[0]}, {bad[1]} got worse by more than ten margins")
    one = [one for one in slowed if one.host != bad[1]]
    assert not any("ten margins" in remark for remark in judge_trial(early, one).remarks)
