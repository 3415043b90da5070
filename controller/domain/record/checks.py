"""The checks that a wave must pass beside the gate's verdict: what each asks, and what its answer means."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from controller.domain.errors import Temporary
from controller.domain.printable import printable

# Errors of one check, one after the other, that make it inconclusive.
MOST_ERRORS = 4
# A sentence names so many series or alerts and counts the others.
_NAMED = 3
# Of a series' labels, and of each name and value of theirs.
_NAMED_LABELS = 8
_LONGEST_NAME = 64


class CheckKind(StrEnum):
    """Who is asked."""

    PROMETHEUS = "prometheus"  # a query whose every value must keep a bound
    ALERTS = "alerts"  # no alert that matches may fire
    WEBHOOK = "webhook"  # another program answers
    MANUAL = "manual"  # a person reports


class Outcome(StrEnum):
    """What became of a check."""

    PASS = "pass"
    FAIL = "fail"
    WAIT = "wait"  # no answer yet
    ERROR = "error"  # asked, and nothing was learnt: never a pass
    TIMED_OUT = "timed_out"  # neither passed nor failed by its deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of every wave."""

    name: str
    kind: CheckKind
    # Empty for a person.
    url: str = ""
    # Files on the controller's machine: a token that is sent along, and the authority that the server's certificate
    # is from. Empty: no token, the machine's own authorities.
    token_file: str = ""
    ca_file: str = ""
    # Of Prometheus; at least one of the two bounds.
    query: str = ""
    at_most: float | None = None
    at_least: float | None = None
    # Of alerts: label -> value. Empty: every alert.
    match: Mapping[str, str] = field(default_factory=dict)
    # Between two tries.
    every_s: float
    # From the verdict of the wave to the answer.
    deadline_s: float
    # "pause" or "revert".
    on_fail: str = "pause"
    on_timeout: str = "pause"
    # Whether it is only reported.
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What whoever is asked gets to know."""

    # The same for every try of one asking.
    id: str
    check: str
    rollout: str
    # Counts from 1.
    wave: int
    waves: int
    # Those of the open waves.
    hosts: tuple[str, ...]
    # Architecture -> release of the new kernel.
    kernels: Mapping[str, str]
    # The gate's, or an operator's who went on in spite of it.
    verdict: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was learnt: pass, fail or wait."""

    outcome: Outcome
    # A sentence without a full stop; may be empty.
    detail: str = ""
    # The value that decided; None where there is none.
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value of a query's answer."""

    labels: Mapping[str, str] = field(default_factory=dict)
    value: float


def bound_text(check: Check) -> str:
    """Return what the check's value must keep, for example "at most 0.01"; empty for checks without a value."""
    bounds = (("at least", check.at_least), ("at most", check.at_most))
    return " and ".join(f"{word} {bound:.6g}" for word, bound in bounds if bound is not None)


def judge_samples(check: Check, samples: Sequence[Sample]) -> Answer:
    """Return whether every value keeps the bounds. Raises Temporary for an answer that is none.

    No value at all and values that are no finite numbers never pass; an infinite one outside a bound fails, in words
    and without a value: there is nothing to compute with.
    """
    if not samples:
        raise Temporary(f"the query has an empty answer: {check.query}")
    outside = [one for one in samples if not _keeps(check, one.value) and not math.isnan(one.value)]
    bounds = bound_text(check)
    if outside:
        worst = max(outside, key=lambda one: _distance(check, one.value))
        more = f" ({len(outside)} of {len(samples)} series)" if len(samples) > 1 else ""
        told = f"{worst.value:.6g}" if math.isfinite(worst.value) else "infinite" if worst.value > 0 else "-infinite"
        value = worst.value if math.isfinite(worst.value) else None
        return Answer(outcome=Outcome.FAIL, detail=f"{_series(worst)}{told}, must be {bounds}{more}", value=value)
    if strange := next((one for one in samples if not math.isfinite(one.value)), None):
        raise Temporary(f"the query has an answer that is no number ({_series(strange)}{strange.value}): {check.query}")
    nearest = max(samples, key=lambda one: _distance(check, one.value))
    more = f" (of {len(samples)} series the one nearest to the bound)" if len(samples) > 1 else ""
    return Answer(outcome=Outcome.PASS, detail=f"{nearest.value:.6g}, {bounds}{more}", value=nearest.value)


def _keeps(check: Check, value: float) -> bool:
    above = check.at_least is None or value >= check.at_least
    return above and (check.at_most is None or value <= check.at_most)


def _distance(check: Check, value: float) -> float:
    """Return how far a value is beyond its nearest bound; negative inside."""
    beyond = [] if check.at_most is None else [value - check.at_most]
    return max(beyond if check.at_least is None else [*beyond, check.at_least - value])


def _series(sample: Sample) -> str:
    labels = [f"{_name(name)}={_name(value)}" for name, value in sorted(sample.labels.items())[:_NAMED_LABELS]]
    if len(sample.labels) > _NAMED_LABELS:
        labels.append(f"{len(sample.labels) - _NAMED_LABELS} more")
    return f"{{{', '.join(labels)}}} is " if labels else ""


def _name(said: str) -> str:
    return printable(said, _LONGEST_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One alerting rule with what it says now."""

    name: str
    # As written in the rule; a value in double braces is filled in per alert.
    labels: Mapping[str, str] = field(default_factory=dict)
    # Empty when the rule could be evaluated.
    error: str = ""
    # The labels of every alert that fires.
    firing: tuple[Mapping[str, str], ...] = ()


def judge_alerts(check: Check, rules: Sequence[AlertRule]) -> Answer:
    """Return whether no matching alert fires. Raises Temporary when that cannot be known.

    Where no rule could ever fire a matching alert, or one that could was not evaluated, silence means nothing.
    """
    firing = [labels for rule in rules for labels in rule.firing if _matches(check, labels)]
    if firing:
        names = sorted({labels.get("alertname", "an alert without a name") for labels in firing})
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return Answer(
            outcome=Outcome.FAIL, detail=f"firing: {', '.join(map(_name, names[:_NAMED]))}{more}", value=len(firing)
        )
    able = [rule for rule in rules if _may_match(check, rule)]
    if not able:
        told = ", ".join(f"{name}={value}" for name, value in sorted(check.match.items()))
        what = f"that could match {told}" if told else "at all"
        raise Temporary(f"there is no alerting rule {what}, so that none fires means nothing")
    if broken := next((rule for rule in able if rule.error), None):
        raise Temporary(f"the alerting rule {_name(broken.name)} is not evaluated: {broken.error}")
    count = "1 alerting rule" if len(able) == 1 else f"{len(able)} alerting rules"
    return Answer(outcome=Outcome.PASS, detail=f"none of {count} fires", value=0.0)


def _matches(check: Check, labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in check.match.items())


def _may_match(check: Check, rule: AlertRule) -> bool:
    """Whether an alert of the rule could match: only what the rule itself fixes speaks against it."""
    fixed = {name: value for name, value in rule.labels.items() if "{{" not in value} | {"alertname": rule.name}
    return all(fixed.get(name, value) == value for name, value in check.match.items())


def asked_text(check: Check) -> str:
    """Say what the check asks, for plans: a sentence without a full stop."""
    match check.kind:
        case CheckKind.PROMETHEUS:
            return f"every value of {check.query} at {check.url} must be {bound_text(check)}"
        case CheckKind.ALERTS:
            told = ", ".join(f"{name}={value}" for name, value in sorted(check.match.items()))
            return f"no alert {f'with {told} ' if told else ''}may fire at {check.url}"
        case CheckKind.WEBHOOK:
            return f"{check.url} must answer that it passes"
        case CheckKind.MANUAL:
            return "a person must report that it passes"
        case _:
            assert_never(check.kind)
