"""Runs one scenario: draws, reduces and judges with the gate's public array calls, and counts.

Repetitions are drawn in batches; each batch has a generator of its own, spawned from the run's seed and the scenario's
name, so that a figure depends on nothing but these and the number of repetitions.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from noise import NEW_BOOTS, Draws, Floats, Noise, draw
from noise import Design as World
from noise import World as Truth
from numpy.random import Generator, SeedSequence, default_rng
from others import judged_by_others, merged
from scenarios import Looks, Missing, Scenario
from tally import Others, Tally, smallest_t_test

from controller.gate.planning.power import plan_cell
from controller.gate.statistics.cells import CellPlan, CellResults, Design, judge_cells
from controller.gate.statistics.completion import blocks_pass
from controller.gate.statistics.contrasts import abba_contrasts, host_change, paired_contrasts
from controller.gate.verdict import Verdict

GATE_DESIGN = {World.TWO_ARMS: Design.TWO_ARMS, World.PAIRS: Design.PAIRS, World.ABBA: Design.ABBA}
# Repetitions drawn at once, however many are asked for: the other judges, with fewer, get the first of the same draws.
BATCH = 1_000
# Unplanned looks differ from batch to batch, so there must be many batches.
UNPLANNED_BATCHES = 50
TIMED_OUT_SHARE = {Missing.SLOW_TENTH: 0.10, Missing.SLOW_QUARTER: 0.25}


def judged(scenario: Scenario, *, reps: int, seed: int) -> Tally:
    """Let the gate judge every repetition of a scenario."""
    plan = planned(scenario)
    design = GATE_DESIGN[scenario.design]
    ratio = plan.n_max_control / plan.n_max if design is Design.TWO_ARMS else None
    sigma = true_sigma(scenario.design, scenario.noise)
    t_blocks = smallest_t_test(sigma, scenario.delta, ratio=ratio)
    variance = sigma**2 / plan.n_max * (1 + 1 / ratio if ratio else 1)
    counts = dict.fromkeys(("passed", "marginal", "failed", "undecided", "any_fail", "named"), 0)
    used = squared = 0.0
    for size, rng in _batches(scenario, reps=reps, seed=seed):
        looks = _looks(scenario, plan, rng)
        any_fail = np.zeros(size, bool)
        for _ in range(scenario.cells):
            draws = _drawn(scenario, plan, rng, size)
            results = _judged(scenario, draws, looks)
            verdict = results.verdict
            any_fail |= verdict == Verdict.FAIL
            counts["passed"] += int((verdict == Verdict.PASS).sum())
            counts["marginal"] += int((verdict == Verdict.MARGINAL).sum())
            counts["failed"] += int((verdict == Verdict.FAIL).sum())
            counts["undecided"] += int(((verdict == Verdict.INCONCLUSIVE) | (verdict == Verdict.NEED_MORE_DATA)).sum())
            if draws.sick is not None:
                counts["named"] += int(results.sick[np.arange(size), draws.sick].sum())
            used += float(results.blocks.sum())
            squared += float((results.blocks.astype(float) ** 2).sum())
        counts["any_fail"] += int(any_fail.sum())
    total = reps * scenario.cells
    return Tally(
        reps=reps,
        cells=scenario.cells,
        blocks=plan.n_max + (plan.n_max_control if ratio else 0),
        blocks_used=used / total,
        blocks_squared=squared / total,
        t_blocks=t_blocks + (max(2, round(ratio * t_blocks)) if ratio else 0),
        information=scenario.delta**2 / (8 * variance),
        **counts,
    )


def outcome_of_others(scenario: Scenario, *, reps: int, seed: int) -> Others:
    """Let the other judges call the first cell of the same draws."""
    plan, parts = planned(scenario), []
    for size, rng in _batches(scenario, reps=reps, seed=seed):
        parts.append(judged_by_others(scenario.design, _drawn(scenario, plan, rng, size)))
    return merged(parts)


@lru_cache(maxsize=1024)
def planned(scenario: Scenario) -> CellPlan:
    """Return the gate's own plan for a scenario, with the true sigma."""
    return plan_cell(
        GATE_DESIGN[scenario.design],
        margin=scenario.delta,
        sigma=true_sigma(scenario.design, scenario.noise),
        cells=scenario.cells,
        control_ratio=scenario.ratio,
    )


@lru_cache(maxsize=64)
def true_sigma(design: World, noise: Noise) -> float:
    """Return the standard deviation of one block's contrast (of a single host's difference for two arms).

    By simulation with a fixed seed. Two arms: the root mean square of the arms' own, since only treated hosts react.
    """
    draws = draw(default_rng(2718), design, noise, Truth(), size=(4, 50_000, 50_000))
    made = contrasts(design, draws)
    if made.control is None:
        return float(np.std(made.treated))
    return float(np.sqrt((np.var(made.treated) + np.var(made.control)) / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrasts:
    """What the gate judges: [reps, blocks] each."""

    treated: Floats
    # Changes of control hosts, for two arms.
    control: Floats | None = None
    # Hosts' own changes, treated and control, behind matched pairs.
    own: tuple[Floats, Floats] | None = None


def contrasts(design: World, draws: Draws) -> Contrasts:
    """Reduce runs to each block's contrast by the gate's own means."""
    runs, timed_out = np.exp(draws.treated), draws.timed_out
    if design is World.ABBA:
        a1, b1, b2, a2 = (runs[:, :, boot] for boot in range(4))
        masks = None if timed_out is None else tuple(timed_out[:, :, boot] for boot in range(4))
        return Contrasts(treated=abba_contrasts(a1, b1, b2, a2, timed_out=masks))
    masks_by_side = {}
    if timed_out is not None:
        masks_by_side = {"first_timed_out": timed_out[:, :, :1], "second_timed_out": timed_out[:, :, 1:]}
    own = host_change(runs[:, :, :1], runs[:, :, 1:], **masks_by_side)
    assert draws.control is not None, "two arms and pairs have controls"
    other = np.exp(draws.control)
    controls = host_change(other[:, :, :1], other[:, :, 1:])
    if design is World.PAIRS:
        return Contrasts(treated=paired_contrasts(own, controls), own=(own, controls))
    return Contrasts(treated=own, control=controls)


def _judged(scenario: Scenario, draws: Draws, plan: CellPlan) -> CellResults:
    made = contrasts(scenario.design, draws)
    withhold = None
    if draws.timed_out is not None or scenario.missing is Missing.RUNS:
        withhold = _withheld(scenario.design, draws, plan.looks)
    return judge_cells(made.treated, plan, control=made.control, own=made.own, withhold=withhold, with_bounds=False)


def _withheld(design: World, draws: Draws, looks: tuple[int, ...]) -> np.ndarray:
    """Say at which looks [reps, looks] runs that died or are missing forbid a PASS, by the enrolled treated blocks."""
    new = np.array(NEW_BOOTS[design], bool)[:, None]
    missing = np.isnan(draws.treated)
    bad = ~missing & draws.timed_out if draws.timed_out is not None else np.zeros_like(missing)

    def count(mask: np.ndarray) -> np.ndarray:
        return np.asarray(mask.sum(axis=(2, 3)).cumsum(axis=1)[:, np.array(looks) - 1])

    old_counts = (count(bad & ~new), count(~missing & ~new))
    new_counts = (count(bad & new), count(~missing & new))
    lost = {"old_missing": count(missing & ~new), "new_missing": count(missing & new)}
    return np.asarray(blocks_pass(*old_counts, *new_counts, **lost))


def _drawn(scenario: Scenario, plan: CellPlan, rng: Generator, size: int) -> Draws:
    truth = Truth(
        theta=scenario.theta * scenario.delta,
        drift=scenario.drift,
        treated_level=scenario.treated_level,
        sick=scenario.sick,
    )
    shape = (size, plan.n_max, plan.n_max_control or 1)
    draws = draw(rng, scenario.design, scenario.noise, truth, size=shape)
    if scenario.missing in TIMED_OUT_SHARE:
        # Had they gone on, they would have been the slow tail; those that end look like the old kernel's.
        on_new = np.array(NEW_BOOTS[scenario.design], bool)[:, None]
        timed_out = on_new & (rng.random(draws.treated.shape) < TIMED_OUT_SHARE[scenario.missing])
        # Something is hidden from the first block on; before that there would be nothing to see.
        timed_out[:, 0, on_new[:, 0].argmax(), 0] = True
        return replace(draws, timed_out=timed_out)
    if scenario.missing is Missing.BLOCKS:
        draws.treated[rng.random(draws.treated.shape[:2]) < 0.3] = np.nan
        if draws.control is not None:
            draws.control[rng.random(draws.control.shape[:2]) < 0.3] = np.nan
    if scenario.missing is Missing.RUNS:
        draws.treated[rng.random(draws.treated.shape) < 0.3] = np.nan
        if draws.control is not None:
            draws.control[rng.random(draws.control.shape) < 0.3] = np.nan
    return draws


def _looks(scenario: Scenario, plan: CellPlan, rng: Generator) -> CellPlan:
    """Return the plan with the looks that really happen: the last one always has all blocks."""
    match scenario.looks:
        case Looks.PLANNED:
            return plan
        case Looks.UNPLANNED:
            many = int(rng.integers(1, max(2, min(10, plan.n_max - 2))))
            picked = rng.choice(np.arange(2, plan.n_max), size=min(many, plan.n_max - 2), replace=False)
            return replace(plan, looks=(*sorted(int(n) for n in picked), plan.n_max))
        case Looks.EVERY:
            return replace(plan, looks=tuple(range(2, plan.n_max + 1)))


def _batches(scenario: Scenario, *, reps: int, seed: int) -> Iterator[tuple[int, Generator]]:
    size = BATCH
    if scenario.looks is Looks.UNPLANNED:
        size = max(1, min(BATCH, reps // UNPLANNED_BATCHES))
    name = int.from_bytes(hashlib.sha256(scenario.key.encode()).digest()[:8], "big")
    streams = SeedSequence([seed, name])
    for start in range(0, reps, size):
        yield min(size, reps - start), default_rng(streams.spawn(1)[0])
