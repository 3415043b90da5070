"""Looks at a trial while it grows, and that neither order nor bad data changes what may be decided."""

import dataclasses
import math
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trial_measured import BUILD, cell, measured, plan, shuffled

from controller.gate.evidence.seen import Outcome
from controller.gate.statistics.cells import Design
from controller.gate.trial.judge import judge_trial
from controller.gate.trial.model import Arm, Measurement
from controller.gate.verdict import Action, Verdict

DESIGNS = (Design.TWO_ARMS, Design.PAIRS, Design.ABBA)


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


@pytest.mark.parametrize("looks", [(), (16, 24)])
def test_before_a_planned_look_nothing_is_decided_however_clear_it_is(looks: tuple[int, ...]) -> None:
    waiting = plan(Design.PAIRS, looks=looks, final=False)
    for effect in (-0.2, 0.3):
        decision = judge_trial(waiting, measured(Design.PAIRS, effect))
        assert cell(decision).verdict is Verdict.NEED_MORE_DATA
        assert cell(decision).look == 0
        assert cell(decision).estimate is not None
        assert decision.action is Action.HOLD
        said = "the first look is at 16 pairs" if looks else "more is to come"
        assert said in cell(decision).sentence
