"""From a trial's runs to the blocks of one cell: who is a block, in which order, with which contrast."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.gate.evidence.seen import Outcome
from controller.gate.hosts.survival import BAD_OUTCOMES
from controller.gate.statistics.cells import Design
from controller.gate.statistics.contrasts import paired_contrasts, side
from controller.gate.trial.model import Arm, Measurement, TrialMetric

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
# Of what one run told of several metrics the gravest counts: 0 ended well, 1 missing, 2 bad.
_GRAVITY: Final = {
    outcome: 2 if outcome in BAD_OUTCOMES else 1 if outcome in MISSING_OUTCOMES else 0 for outcome in Outcome
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The contrasts of one cell in log units, + is worse: in the order in which they were complete.

    So a look at the first n blocks sees the same ones whatever comes later. Those without a contrast come last, or in
    their place.
    """

    names: tuple[str, ...]
    # The host of each; the treated one of a pair.
    hosts: tuple[str, ...]
    values: Floats
    # When each was complete.
    times: Floats
    # Control hosts of two arms; empty otherwise.
    control_names: tuple[str, ...]
    control: Floats
    control_times: Floats
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
    worst: dict[tuple[Arm, str, int, int, str, str], int] = {}
    for one in runs:
        key = (one.arm, one.host, one.cycle, one.position, one.boot, one.run)
        gravity = _GRAVITY[one.outcome]
        if gravity > worst.get(key, -1):
            worst[key] = gravity
    news = NEW_POSITIONS[design]
    # (new kernel, gravity) -> runs.
    found = Counter(
        (arm is Arm.TREATED and position in news, end) for (arm, _, _, position, _, _), end in worst.items()
    )
    old, new = (
        RunCounts(
            total=sum(found[kernel, end] for end in range(3)),
            bad=found[kernel, _GRAVITY[Outcome.DIED]],
            missing=found[kernel, _GRAVITY[Outcome.CANCELLED]],
        )
        for kernel in (False, True)
    )
    return old, new


def blocks_of(
    design: Design, metric: TrialMetric, runs: Sequence[Measurement], fewest_runs: int, *, in_place: bool = False
) -> Blocks:
    """Return the blocks of one stratum on one metric; `runs` are those of this cell alone.

    `in_place` keeps a block without a contrast among those of its time instead of putting it last: for looks that come
    at times and not at counts.
    """
    walks: dict[_Walk, list[Measurement]] = defaultdict(list)
    for one in runs:
        walks[one.host, one.cycle].append(one)
    several = {host for host, cycle in walks if cycle > 1}
    short = {key: _shortage(walks[key], design, fewest_runs) for key in sorted(walks)}
    changes = _changes(metric, {key: walks[key] for key, reason in short.items() if not reason}, design)
    changes.update((key, math.nan) for key, reason in short.items() if reason)
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
            times[key] = max(times[key], math.inf if other is None and not in_place else times[other or key])
        first, second = (np.array([behind[key][side] for key in treated], dtype=np.float64) for side in (0, 1))
        changes.update(zip(treated, paired_contrasts(first, second).tolist(), strict=True))

    def order(key: _Walk) -> tuple[bool, float, _Walk]:
        return not in_place and math.isnan(changes[key]), times[key], key

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
        times=np.array([times[key] for key in treated], dtype=np.float64),
        control_names=tuple(_name(key, several) for key in controls),
        control=np.array([changes[key] for key in controls], dtype=np.float64),
        control_times=np.array([times[key] for key in controls], dtype=np.float64),
        own=own,
        partners=tuple(
            _name(partner.get((walks[key][0].pair, key[1]), key), several) for key in treated if design is Design.PAIRS
        ),
        incomplete=tuple((_name(key, several), reason) for key, reason in short.items() if reason),
    )


def _name(key: _Walk, several: set[str]) -> str:
    return f"{key[0]} cycle {key[1]}" if key[0] in several else key[0]


def _last_time(runs: Sequence[Measurement]) -> float:
    """Return when a walk was complete; walks without times follow, by name."""
    return max((one.time for one in runs if one.time is not None), default=math.inf)


def _shortage(runs: Sequence[Measurement], design: Design, fewest: int) -> str:
    """Return why a walk gives no contrast; empty when it does."""
    counted = dict.fromkeys(_positions(design), 0)
    for one in runs:
        if not one.warmup and one.outcome not in MISSING_OUTCOMES:
            counted[one.position] += 1
    new = NEW_POSITIONS[design]
    old_runs = sum(count for place, count in counted.items() if place not in new)
    new_runs = sum(count for place, count in counted.items() if place in new)
    if min(old_runs, new_runs) >= fewest and all(counted.values()):
        return ""
    if design is Design.ABBA:
        return f"{'+'.join(map(str, counted.values()))} runs, {fewest} needed on each kernel"
    return f"{old_runs} runs first and {new_runs} second, {fewest} needed"


def _positions(design: Design) -> tuple[int, ...]:
    return (1, 2, 3, 4) if design is Design.ABBA else (1, 2)


def _changes(metric: TrialMetric, walks: Mapping[_Walk, Sequence[Measurement]], design: Design) -> dict[_Walk, float]:
    """Return every walk's own change. All walks at once: thousands of small arrays would cost seconds."""
    if not walks:
        return {}
    positions = _positions(design)
    # Sides of one shape (boots, most runs in a boot) become one array.
    shaped: dict[tuple[int, int], list[tuple[int, int, list[list[float]]]]] = defaultdict(list)
    for row, runs in enumerate(walks.values()):
        for column, boots in enumerate(_boots(runs, positions)):
            shaped[len(boots), max(map(len, boots))].append((row, column, boots))
    sides = np.full((len(walks), len(positions)), np.nan)
    for (boots_count, widest), members in sorted(shaped.items()):
        table = np.full((len(members), boots_count, widest), np.nan)
        for index, (_, _, boots) in enumerate(members):
            for boot, values in enumerate(boots):
                table[index, boot, : len(values)] = values
        # A run that did not end is infinitely bad.
        found = side(table, higher_is_better=metric.higher_is_better, timed_out=np.isinf(table))
        sides[[row for row, _, _ in members], [column for _, column, _ in members]] = found
    if design is Design.ABBA:
        contrasts = paired_contrasts(sides[:, 1] + sides[:, 2], sides[:, 0] + sides[:, 3]) / 2
    else:
        contrasts = paired_contrasts(sides[:, 1], sides[:, 0])
    return dict(zip(walks, contrasts.tolist(), strict=True))


def _boots(runs: Sequence[Measurement], positions: tuple[int, ...]) -> list[list[list[float]]]:
    """Return the values of every position, boot by boot by name; infinite for a run that ended badly."""
    places: dict[int, dict[str, list[float]]] = {position: defaultdict(list) for position in positions}
    for one in runs:
        if one.warmup or one.outcome in MISSING_OUTCOMES:
            continue
        bad = one.outcome in BAD_OUTCOMES
        assert bad or one.value is not None, "a run that ended well has a value"
        places[one.position][one.boot].append(math.inf if bad or one.value is None else one.value)
    return [[sorted(boots[name]) for name in sorted(boots)] for boots in places.values()]
