"""From a trial's runs to the blocks of one cell: who is a block, in which order, with which contrast."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.gate.cells import Design
from controller.gate.contrasts import paired_contrasts, side
from controller.gate.evidence import Outcome
from controller.gate.survival import BAD_OUTCOMES
from controller.gate.trial import Arm, Measurement, TrialMetric

Floats = NDArray[np.float64]
# A host and its cycle.
_Walk = tuple[str, int]

# Positions on the new kernel: the second of two, the middle ones of old, new, new, old.
NEW_POSITIONS: Final[Mapping[Design, frozenset[int]]] = {
    Design.TWO_ARMS: frozenset({2}),
    Design.PAIRS: frozenset({2}),
    Design.BEFORE_AFTER: frozenset({2}),
    Design.ABBA: frozenset({2, 3}),
}
# Ends of a run that say nothing of the kernel.
MISSING_OUTCOMES: Final = frozenset({Outcome.CANCELLED, Outcome.INFRASTRUCTURE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The contrasts of one cell in log units, + is worse: in the order in which they were complete, missing ones last.

    So a look at the first n blocks sees the same ones whatever comes later.
    """

    names: tuple[str, ...]
    # The host of each; the treated one of a pair.
    hosts: tuple[str, ...]
    values: Floats
    # Control hosts of two arms; empty otherwise.
    control_names: tuple[str, ...]
    control: Floats
    # For pairs, the treated and the control host's own changes behind each contrast, and the control host's name.
    own: tuple[Floats, Floats] | None
    partners: tuple[str, ...]
    # Blocks without a contrast and why, by name.
    incomplete: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """How runs ended on one kernel."""

    total: int
    bad: int
    missing: int


def is_new(design: Design, one: Measurement) -> bool:
    """Return whether a run was made on the new kernel; a control host never runs it."""
    return one.arm is Arm.TREATED and one.position in NEW_POSITIONS[design]


def run_counts(design: Design, runs: Iterable[Measurement]) -> tuple[RunCounts, RunCounts]:
    """Count how runs ended on the old and on the new kernel, each run once whatever it measured."""
    worst: dict[tuple[bool, str, int, int, str, str], Outcome] = {}
    for one in runs:
        key = (is_new(design, one), one.host, one.cycle, one.position, one.boot, one.run)
        seen = worst.get(key)
        if seen is None or _gravity(one.outcome) > _gravity(seen):
            worst[key] = one.outcome
    found: dict[bool, list[Outcome]] = {False: [], True: []}
    for (new, *_), outcome in worst.items():
        found[new].append(outcome)
    old, new_counts = (
        RunCounts(
            total=len(ends),
            bad=sum(end in BAD_OUTCOMES for end in ends),
            missing=sum(end in MISSING_OUTCOMES for end in ends),
        )
        for ends in (found[False], found[True])
    )
    return old, new_counts


def blocks_of(design: Design, metric: TrialMetric, runs: Sequence[Measurement], fewest_runs: int) -> Blocks:
    """Return the blocks of one stratum on one metric; `runs` are those of this cell alone."""
    walks: dict[_Walk, list[Measurement]] = defaultdict(list)
    for one in runs:
        walks[one.host, one.cycle].append(one)
    several = {host for host, cycle in walks if cycle > 1}
    positions = (1, 2, 3, 4) if design is Design.ABBA else (1, 2)
    changes: dict[_Walk, float] = {}
    incomplete: list[tuple[str, str]] = []
    for key in sorted(walks):
        reason = _shortage(walks[key], NEW_POSITIONS[design], positions, fewest_runs)
        changes[key] = math.nan if reason else _change(metric, walks[key], design)
        if reason:
            incomplete.append((_name(key, several), reason))
    times = {key: _last_time(runs) for key, runs in walks.items()}
    treated = [key for key in walks if walks[key][0].arm is Arm.TREATED]
    controls = [key for key in walks if walks[key][0].arm is Arm.CONTROL]
    behind: dict[_Walk, tuple[float, float]] = {}
    partner: dict[tuple[str, int], _Walk] = {}
    if design is Design.PAIRS:
        partner = {(walks[key][0].pair, key[1]): key for key in sorted(controls)}
        for key in treated:
            other = partner.get((walks[key][0].pair, key[1]))
            behind[key] = changes[key], math.nan if other is None else changes[other]
            changes[key] = float(paired_contrasts(*(np.array([change]) for change in behind[key]))[0])
            times[key] = max(times[key], math.inf if other is None else times[other])

    def order(key: _Walk) -> tuple[bool, float, _Walk]:
        return math.isnan(changes[key]), times[key], key

    treated, controls = sorted(treated, key=order), sorted(controls, key=order)
    own = None
    if design is Design.PAIRS:
        first, second = (np.array([behind[key][side] for key in treated], dtype=np.float64) for side in (0, 1))
        own = first, second
    if design is not Design.TWO_ARMS:
        controls = []
    return Blocks(
        names=tuple(_name(key, several) for key in treated),
        hosts=tuple(host for host, _ in treated),
        values=np.array([changes[key] for key in treated], dtype=np.float64),
        control_names=tuple(_name(key, several) for key in controls),
        control=np.array([changes[key] for key in controls], dtype=np.float64),
        own=own,
        partners=tuple(
            _name(partner.get((walks[key][0].pair, key[1]), key), several) for key in treated if design is Design.PAIRS
        ),
        incomplete=tuple(incomplete),
    )


def _gravity(outcome: Outcome) -> int:
    if outcome in BAD_OUTCOMES:
        return 2
    return 1 if outcome in MISSING_OUTCOMES else 0


def _name(key: _Walk, several: set[str]) -> str:
    return f"{key[0]} cycle {key[1]}" if key[0] in several else key[0]


def _last_time(runs: Sequence[Measurement]) -> float:
    """Return when a walk was complete; walks without times follow, by name."""
    return max((one.time for one in runs if one.time is not None), default=math.inf)


def _shortage(runs: Sequence[Measurement], new: frozenset[int], positions: tuple[int, ...], fewest: int) -> str:
    """Return why a walk gives no contrast; empty when it does."""
    counted = dict.fromkeys(positions, 0)
    for one in runs:
        if not one.warmup and one.outcome not in MISSING_OUTCOMES:
            counted[one.position] += 1
    old_runs = sum(count for place, count in counted.items() if place not in new)
    new_runs = sum(count for place, count in counted.items() if place in new)
    if min(old_runs, new_runs) >= fewest and all(counted.values()):
        return ""
    if len(positions) == 4:
        return f"{'+'.join(str(counted[place]) for place in positions)} runs, {fewest} needed on each kernel"
    return f"{old_runs} runs first and {new_runs} second, {fewest} needed"


def _change(metric: TrialMetric, runs: Sequence[Measurement], design: Design) -> float:
    places: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in runs:
        if one.warmup or one.outcome in MISSING_OUTCOMES:
            continue
        bad = one.outcome in BAD_OUTCOMES
        assert bad or one.value is not None, "a run that ended well has a value"
        places[one.position][one.boot].append(math.inf if bad or one.value is None else one.value)
    sides = {place: _side(metric, boots) for place, boots in places.items()}
    if design is Design.ABBA:
        return float(paired_contrasts(sides[2] + sides[3], sides[1] + sides[4])[0] / 2)
    return float(paired_contrasts(sides[2], sides[1])[0])


def _side(metric: TrialMetric, boots: Mapping[str, list[float]]) -> Floats:
    """Return y of one side: the median of the boots' medians; a run that did not end is infinitely bad."""
    widest = max(len(values) for values in boots.values())
    table = np.full((1, len(boots), widest), np.nan)
    for row, name in enumerate(sorted(boots)):
        table[0, row, : len(boots[name])] = sorted(boots[name])
    ended_badly = np.isinf(table)
    return side(table, higher_is_better=metric.higher_is_better, timed_out=ended_badly)
