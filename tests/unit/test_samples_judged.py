"""Whole trials judged: the designs, what may not be decided, and that no order matters. Seeds are in the names."""

import dataclasses
import math
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.gate.cells import Design
from controller.gate.evidence import Outcome
from controller.gate.trial import (
    Arm,
    Measurement,
    MetricRole,
    TrialCell,
    TrialClaim,
    TrialDecision,
    TrialMetric,
    TrialPlan,
)
from controller.gate.trial_judge import judge_trial
from controller.gate.verdict import Action, ClaimState, Verdict

BUILD = TrialMetric(name="build", unit="s", role=MetricRole.CRITICAL, margin=0.03)
POSITIONS = {Design.ABBA: (1, 2, 3, 4)}
NEW = {Design.ABBA: (2, 3)}
HOSTS = 14


def plan(design: Design = Design.TWO_ARMS, *metrics: TrialMetric, **changes: object) -> TrialPlan:
    made = TrialPlan(design=design, metrics=metrics or (BUILD,))
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]  # any field


def measured(
    design: Design,
    effect: float,
    *,
    hosts: int = HOSTS,
    drift: float = 0.02,
    noise: float = 0.01,
    stratum: str = "x86_64/vm",
    metric: str = "build",
    seed: int = 1,
) -> list[Measurement]:
    """Simulate hosts whose second half of the walk drifts, and whose new kernel changes the metric by `effect`."""
    rng = random.Random(f"{seed} {metric} {stratum}")
    arms = (Arm.TREATED, Arm.CONTROL) if design in (Design.TWO_ARMS, Design.PAIRS) else (Arm.TREATED,)
    made = []
    for index in range(hosts):
        for arm in arms:
            speed = rng.gauss(4, 0.1)
            for position in POSITIONS.get(design, (1, 2)):
                new = arm is Arm.TREATED and position in NEW.get(design, (2,))
                # Linear in time, so that old–new–new–old cancels it.
                shift = drift * (position - 1) + (math.log1p(effect) if new else 0.0)
                for run in range(4):
                    made.append(
                        Measurement(
                            host=f"{arm.value}-{index:02}",
                            stratum=stratum,
                            arm=arm,
                            position=position,
                            cycle=1,
                            pair=f"{index:02}" if design is Design.PAIRS else "",
                            boot=str(position),
                            run=str(run),
                            metric=metric,
                            value=math.exp(speed + shift + rng.gauss(0, noise)),
                            outcome=Outcome.OK,
                            warmup=False,
                            time=None,
                        )
                    )
    return made


def cell(decision: TrialDecision, metric: str = "build") -> TrialCell:
    return next(one for one in decision.cells if one.metric == metric)


def with_outcome(one: Measurement, outcome: Outcome) -> Measurement:
    return dataclasses.replace(one, outcome=outcome, value=None)


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
    assert "treated-05 is quarantined by the plan and was left out." in left_out.remarks


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


def test_looks_are_taken_in_order_of_enrolment_and_stop_at_a_decision() -> None:
    runs = measured(Design.PAIRS, 0.09, hosts=24)
    found = cell(judge_trial(plan(Design.PAIRS, looks=(8, 12, 16, 24), final=False), runs))
    assert found.verdict is Verdict.FAIL
    assert (found.look, found.looks, found.planned_blocks) == (2, 4, 24)


def test_between_looks_nothing_is_final_unless_said() -> None:
    runs = measured(Design.PAIRS, 0.03, hosts=10)
    waiting = plan(Design.PAIRS, looks=(8, 16), final=False)
    found = cell(judge_trial(waiting, runs))
    assert found.verdict is Verdict.NEED_MORE_DATA
    assert "8 pairs, look 1 of 2, 2 more not looked at yet" in found.sentence
    assert found.sentence.endswith("NEED_MORE_DATA: the next look is at 16 pairs.")
    ended = cell(judge_trial(dataclasses.replace(waiting, final=True), runs))
    assert ended.verdict is not Verdict.NEED_MORE_DATA
    assert (ended.look, ended.looks) == (2, 2)


def test_a_known_sigma_plans_the_looks() -> None:
    known = dataclasses.replace(BUILD, sigma=0.02)
    found = cell(judge_trial(plan(Design.PAIRS, known, final=False), measured(Design.PAIRS, 0.0, hosts=20)))
    assert found.verdict is Verdict.PASS
    assert found.looks > 1
    assert found.planned_blocks > found.blocks - 12


def shuffled(runs: list[Measurement], seed: int) -> list[Measurement]:
    return random.Random(seed).sample(runs, len(runs))


@pytest.mark.parametrize("design", (*DESIGNS, Design.BEFORE_AFTER))
def test_no_order_changes_the_decision(design: Design) -> None:
    runs = measured(design, 0.02) + measured(design, 0.01, metric="other")
    other = dataclasses.replace(BUILD, name="other")
    first = judge_trial(plan(design, BUILD, other), runs)
    for seed in range(5):
        assert judge_trial(plan(design, other, BUILD), shuffled(runs, seed)) == first


FIELDS: Mapping[str, st.SearchStrategy[object]] = {
    "host": st.sampled_from("abc"),
    "arm": st.sampled_from(Arm),
    "cycle": st.integers(1, 2),
    "pair": st.sampled_from("pq"),
    "boot": st.sampled_from("12"),
    "run": st.sampled_from("12345"),
    "outcome": st.sampled_from(Outcome),
    "warmup": st.booleans(),
    "value": st.sampled_from([1e-300, 0.1, 1.0, 1.0, 7.5, 1e300]),
}


@given(
    st.sampled_from(Design),
    st.lists(st.tuples(st.integers(1, 4), st.fixed_dictionaries(dict(FIELDS))), max_size=24),
    st.sampled_from([(), (1,), (2, 3)]),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_measurements_get_a_verdict(
    design: Design, drawn: list[tuple[int, dict[str, object]]], looks: tuple[int, ...], final: bool
) -> None:
    base = measured(Design.BEFORE_AFTER, 0.0, hosts=1)[0]
    # A host is of one arm; the parser refuses anything else.
    arms: dict[object, object] = {}
    runs = []
    for position, drawn_fields in drawn:
        arm = Arm.TREATED if design in (Design.ABBA, Design.BEFORE_AFTER) else drawn_fields["arm"]
        fields = {**drawn_fields, "arm": arms.setdefault(drawn_fields["host"], arm)}
        if fields["outcome"] is not Outcome.OK:
            fields["value"] = None
        limit = 4 if design is Design.ABBA else 2
        runs.append(dataclasses.replace(base, position=min(position, limit), **fields))  # type: ignore[arg-type]  # any field
    made = plan(design, looks=looks, final=final, runs=1)
    decision = judge_trial(made, runs)
    assert judge_trial(made, runs[::-1]) == decision
    assert decision.action is not Action.PROMOTE
    for one in decision.cells:
        assert one.sentence.isprintable()
        assert all(value is None or math.isfinite(value) for value in (one.low, one.estimate, one.high))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -3.0, None])
def test_values_that_are_none_count_as_missing_and_never_help_a_pass(value: float | None) -> None:
    runs = [dataclasses.replace(one, value=value) if int(one.run) % 2 else one for one in measured(Design.PAIRS, 0.0)]
    decision = judge_trial(plan(Design.PAIRS), runs)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.remarks[0].startswith("Values that are no measurement count as missing: control-00, ")
    assert judge_trial(plan(Design.PAIRS), shuffled(runs, 4)) == decision


def test_repeated_runs_count_once_and_contradicting_ones_not_at_all() -> None:
    runs = measured(Design.PAIRS, 0.0)
    assert judge_trial(plan(Design.PAIRS), runs + runs) == judge_trial(plan(Design.PAIRS), runs)
    other = [dataclasses.replace(one, value=(one.value or 0.0) * 2) for one in runs]
    decision = judge_trial(plan(Design.PAIRS), runs + other)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.remarks[0].startswith(
        "Runs that were reported with different values count as missing: control-00, "
    )


def timed(runs: list[Measurement]) -> list[Measurement]:
    """Give every host a time of its own, hosts with low numbers last."""
    return [dataclasses.replace(one, time=1000.0 * (99 - int(one.host[-2:])) + one.position) for one in runs]


def test_what_comes_later_does_not_change_an_earlier_look() -> None:
    runs = timed(measured(Design.PAIRS, 0.02, hosts=20))
    waiting = plan(Design.PAIRS, looks=(8, 20), final=False)
    early = [one for one in runs if int(one.host[-2:]) >= 10]
    # Two more pairs are being measured: their second halves are missing.
    begun = [one for one in runs if int(one.host[-2:]) in (8, 9) and one.position == 1]
    first, second = cell(judge_trial(waiting, early)), cell(judge_trial(waiting, early + begun))
    assert (first.verdict, first.estimate, first.low) == (second.verdict, second.estimate, second.low)
    assert (second.look, second.blocks) == (1, 8)
    assert second.verdict is Verdict.NEED_MORE_DATA


def test_hosts_that_are_being_measured_do_not_make_a_look_the_last_one() -> None:
    runs = timed(measured(Design.PAIRS, 0.02, hosts=20))
    begun = [one for one in runs if int(one.host[-2:]) >= 10 or one.position == 1]
    waiting = plan(Design.PAIRS, looks=(8, 20), final=False)
    assert cell(judge_trial(waiting, begun)).verdict is Verdict.NEED_MORE_DATA
    assert cell(judge_trial(dataclasses.replace(waiting, final=True), begun)).verdict is not Verdict.NEED_MORE_DATA
