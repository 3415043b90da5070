"""The checks across the lines of a samples file: duplicates, units, and whether a host's runs fit the design."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from controller.domain.samples.document import SampleLine
from controller.domain.spec.yaml import Problem
from controller.gate.evidence.seen import Outcome
from controller.gate.statistics.cells import Design
from controller.gate.trial.model import Arm, Measurement, TrialPlan

_WORDS: Final = {"first": 1, "second": 2, "old": 1, "new": 2}

# What two lines about one run must agree on.
_TOLD: Final = ("value", "status", "warmup", "time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A sample and the line it was written in."""

    line: int
    sample: SampleLine


def position_of(sample: SampleLine) -> int:
    """Return the position as a number, from 1."""
    return sample.position if isinstance(sample.position, int) else _WORDS[sample.position]


def measurement_of(sample: SampleLine) -> Measurement:
    """Return the sample in the gate's words."""
    return Measurement(
        host=sample.host,
        stratum=sample.stratum,
        arm=Arm(sample.arm),
        position=position_of(sample),
        cycle=sample.cycle,
        pair=sample.pair,
        boot=sample.boot,
        run=sample.run,
        metric=sample.metric,
        value=sample.value if sample.status == "ok" else None,
        outcome=Outcome(sample.status),
        warmup=sample.warmup,
        time=sample.time,
        kernel_log=sample.kernel_log,
    )


def contradictions(plan: TrialPlan, placed: Sequence[Placed]) -> list[Problem]:
    """Return everything that is wrong although each line is well formed, in the order of the lines."""
    found = [problem for one in placed for problem in _line_problems(plan, one)]
    if not found:
        found = [*_duplicates(placed), *_identities(plan, placed), *_boots(placed), *_times(placed)]
    if not found and plan.design is Design.PAIRS:
        found = list(_pairs(placed))
    return sorted(found, key=lambda problem: (problem.line, problem.field, problem.text))


def merged(placed: Sequence[Placed]) -> tuple[list[SampleLine], int]:
    """Return the samples without repetitions, and how many lines repeated another."""
    kept: dict[Hashable, SampleLine] = {}
    repeated = 0
    for one in placed:
        # The same run with another log of its boot is no repetition: every line of a log counts.
        key = (_identity(one.sample), one.sample.kernel_log)
        repeated += key in kept
        kept[key] = one.sample
    return list(kept.values()), repeated


def _identity(sample: SampleLine) -> Hashable:
    return (sample.host, sample.cycle, position_of(sample), sample.boot, sample.run, sample.metric)


def _line_problems(plan: TrialPlan, one: Placed) -> Iterator[Problem]:
    sample = one.sample
    metric = next((metric for metric in plan.metrics if metric.name == sample.metric), None)
    if metric is not None and sample.unit != metric.unit:
        text = f"must be {metric.unit}, as the plan says of {metric.name} (got {sample.unit!r}); convert the values"
        yield Problem(line=one.line, field="unit", text=text)
    value = sample.value if sample.status == "ok" else None
    if metric is not None and metric.claim is None and value is not None and value <= 0:
        text = f"must be more than 0, because {metric.name} is judged by ratios (got {value:g})"
        yield Problem(line=one.line, field="value", text=text)
    if plan.strata and sample.stratum not in plan.strata:
        text = f"is not a stratum of the plan: {', '.join(plan.strata[:5])} (got {sample.stratum!r})"
        yield Problem(line=one.line, field="stratum", text=text)
    yield from _position_problems(plan.design, one)


def _position_problems(design: Design, one: Placed) -> Iterator[Problem]:
    sample = one.sample
    if design is Design.ABBA and not isinstance(sample.position, int):
        yield Problem(line=one.line, field="position", text=f"must be 1 to 4 for abba (got {sample.position!r})")
    if design is not Design.ABBA and position_of(sample) > 2:
        text = f"must be 1 or 2, first or second, old or new (got {sample.position})"
        yield Problem(line=one.line, field="position", text=text)
    if sample.arm == "control":
        if design in (Design.ABBA, Design.BEFORE_AFTER):
            text = "this design has no control hosts; write two_arms or matched_pairs into the plan"
            yield Problem(line=one.line, field="arm", text=text)
        elif sample.position == "new":
            text = "a control host never runs the new kernel; write second for its runs after the reboot"
            yield Problem(line=one.line, field="position", text=text)
    if design is Design.PAIRS and not sample.pair:
        yield Problem(line=one.line, field="pair", text="is missing; matched pairs name the pair of every host")


def _duplicates(placed: Sequence[Placed]) -> Iterator[Problem]:
    seen: dict[Hashable, Placed] = {}
    for one in placed:
        first = seen.setdefault(_identity(one.sample), one)
        if any(getattr(first.sample, field) != getattr(one.sample, field) for field in _TOLD):
            text = f"was written in line {first.line} with another value, status or time; give every run its own name"
            yield Problem(line=one.line, field="run", text=f"{one.sample.run!r} {text}")


def _identities(plan: TrialPlan, placed: Sequence[Placed]) -> Iterator[Problem]:
    """A host is one thing: one stratum, one arm, one pair."""
    first: dict[str, Placed] = {}
    for one in placed:
        known = first.setdefault(one.sample.host, one)
        for field in ("stratum", "arm", *(("pair",) if plan.design is Design.PAIRS else ())):
            here, there = getattr(one.sample, field), getattr(known.sample, field)
            if here != there:
                text = f"{one.sample.host} has {there!r} in line {known.line} (got {here!r})"
                yield Problem(line=one.line, field=field, text=text)


def _boots(placed: Sequence[Placed]) -> Iterator[Problem]:
    """A boot belongs to one position: nothing changes without a reboot in between."""
    first: dict[tuple[str, str], Placed] = {}
    for one in placed:
        if not one.sample.boot:
            continue
        known = first.setdefault((one.sample.host, one.sample.boot), one)
        here, there = ((sample.cycle, position_of(sample)) for sample in (one.sample, known.sample))
        if here != there:
            text = f"{one.sample.boot!r} is also the boot of another position of {one.sample.host} (line {known.line})"
            yield Problem(line=one.line, field="boot", text=text)


def _times(placed: Sequence[Placed]) -> Iterator[Problem]:
    """What is called first must have come first, on every host."""
    latest: dict[tuple[str, int, int], Placed] = {}
    for one in placed:
        if one.sample.time is None:
            continue
        key = (one.sample.host, one.sample.cycle, position_of(one.sample))
        known = latest.setdefault(key, one)
        assert known.sample.time is not None
        if one.sample.time > known.sample.time:
            latest[key] = one
    told: set[tuple[str, int, int]] = set()
    for one in placed:
        host, cycle, position = one.sample.host, one.sample.cycle, position_of(one.sample)
        before = latest.get((host, cycle, position - 1))
        if before is None or one.sample.time is None or before.sample.time is None:
            continue
        if one.sample.time < before.sample.time and (host, cycle, position) not in told:
            told.add((host, cycle, position))
            text = f"position {position} of {host} begins before position {position - 1} ends (line {before.line})"
            yield Problem(line=one.line, field="time", text=text)


def _pairs(placed: Sequence[Placed]) -> Iterator[Problem]:
    """A pair is one treated and one control host of the same stratum."""
    members: dict[str, dict[str, Placed]] = {}
    for one in placed:
        members.setdefault(one.sample.pair, {}).setdefault(one.sample.host, one)
    for pair, hosts in members.items():
        placed_hosts = list(hosts.values())
        last = placed_hosts[-1]
        arms = sorted(one.sample.arm for one in placed_hosts)
        if arms not in (["control"], ["control", "treated"], ["treated"]):
            text = f"{pair!r} must be one treated and one control host (got {', '.join(sorted(hosts))})"
            yield Problem(line=last.line, field="pair", text=text)
        elif len({one.sample.stratum for one in placed_hosts}) > 1:
            text = f"{pair!r} joins hosts of different strata"
            yield Problem(line=last.line, field="pair", text=text)
