"""What an answer of Prometheus means for a check: a bound that every value keeps, and silence that means something."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.errors import Temporary
from controller.domain.record.checks import AlertRule, Check, CheckKind, Outcome, Sample, judge_alerts, judge_samples


def query(at_most: float | None = None, at_least: float | None = None) -> Check:
    return Check(
        name="c",
        kind=CheckKind.PROMETHEUS,
        query="q",
        at_most=at_most,
        at_least=at_least,
        every_s=1.0,
        deadline_s=60.0,
    )


def alerts(**match: str) -> Check:
    return Check(name="c", kind=CheckKind.ALERTS, match=match, every_s=1.0, deadline_s=60.0)


def test_the_value_that_is_furthest_off_is_told() -> None:
    samples = [Sample(labels={"zone": zone}, value=value) for zone, value in (("a", 0.2), ("b", 0.9), ("c", 0.5))]
    answer = judge_samples(query(at_most=0.4), samples)
    assert (answer.outcome, answer.value) == (Outcome.FAIL, 0.9)
    assert answer.detail == "{zone=b} is 0.9, must be at most 0.4 (2 of 3 series)"


def test_a_value_that_keeps_both_bounds_passes() -> None:
    answer = judge_samples(query(at_most=0.4, at_least=0.1), [Sample(value=0.25)])
    assert (answer.outcome, answer.detail) == (Outcome.PASS, "0.25, at least 0.1 and at most 0.4")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_no_number_spoils_the_pass_of_the_others(value: float) -> None:
    bounds = query(at_most=math.inf, at_least=-math.inf)
    with pytest.raises(Temporary, match="no number"):
        judge_samples(bounds, [Sample(value=1.0), Sample(value=value)])


def test_a_value_outside_is_a_failure_even_beside_one_that_is_no_number() -> None:
    answer = judge_samples(query(at_most=1.0), [Sample(value=math.nan), Sample(value=2.0)])
    assert (answer.outcome, answer.value) == (Outcome.FAIL, 2.0)


@given(
    values=st.lists(st.floats(), max_size=5),
    at_most=st.none() | st.floats(allow_nan=False),
    at_least=st.none() | st.floats(allow_nan=False),
)
def test_only_finite_values_inside_the_bounds_ever_pass(
    values: list[float], at_most: float | None, at_least: float | None
) -> None:
    if at_most is None and at_least is None:
        at_most = 0.0
    try:
        answer = judge_samples(query(at_most, at_least), [Sample(value=value) for value in values])
    except Temporary:
        return
    inside = [
        math.isfinite(value) and (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
        for value in values
    ]
    assert (answer.outcome is Outcome.PASS) == (bool(inside) and all(inside))


def rule(name: str, *, error: str = "", firing: bool = False, **labels: str) -> AlertRule:
    fires = ({"alertname": name, **labels},) if firing else ()
    return AlertRule(name=name, labels=labels, error=error, firing=fires)


def test_an_alert_that_fires_and_matches_fails_whatever_else_is_broken() -> None:
    rules = [rule("Broken", error="bad vector", severity="page"), rule("Down", firing=True, severity="page")]
    answer = judge_alerts(alerts(severity="page"), rules)
    assert (answer.outcome, answer.detail, answer.value) == (Outcome.FAIL, "firing: Down", 1.0)


def test_many_alerts_are_counted() -> None:
    rules = [rule(f"A{number}", firing=True) for number in range(5)]
    assert judge_alerts(alerts(), rules).detail == "firing: A0, A1, A2 and 2 more"


def test_silence_of_a_rule_that_is_not_evaluated_means_nothing() -> None:
    with pytest.raises(Temporary, match="Broken is not evaluated: bad vector"):
        judge_alerts(alerts(severity="page"), [rule("Broken", error="bad vector", severity="page")])
    other = [rule("Broken", error="bad vector", severity="ticket"), rule("Down", severity="page")]
    assert judge_alerts(alerts(severity="page"), other).outcome is Outcome.PASS


@pytest.mark.parametrize("rules", [[], [rule("Down", severity="ticket")]])
def test_silence_without_a_rule_that_could_match_means_nothing(rules: list[AlertRule]) -> None:
    with pytest.raises(Temporary, match="none fires means nothing"):
        judge_alerts(alerts(severity="page"), rules)


def test_a_label_that_an_alert_fills_in_or_brings_along_may_match() -> None:
    for able in (rule("Down", severity="{{ $labels.severity }}"), rule("Down")):
        assert judge_alerts(alerts(severity="page"), [able]).outcome is Outcome.PASS
