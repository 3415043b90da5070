"""Rows 10 and 11 on arrays: a million inputs of any kind, in any order, each with a defined verdict.

Raw values are spoiled in every way at once: zero, negative, NaN, infinite, huge and tiny numbers, ties, constants,
missing blocks, time-outs, plans of every size. Nothing may be decided on what is constant, on one host, or without a
design.
"""

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng

from controller.gate.planning.power import plan_cell
from controller.gate.statistics.cells import CellPlan, CellResults, Design, judge_cells
from controller.gate.statistics.contrasts import abba_contrasts, host_change, paired_contrasts
from controller.gate.verdict import Verdict

DESIGNS = (Design.TWO_ARMS, Design.PAIRS, Design.ABBA, Design.BEFORE_AFTER)
ROWS_A_BATCH = 4_000
STRANGE = np.array([0.0, -1.0, np.nan, np.inf, -np.inf, 1e300, 1e-300, 5e-324, 100.0])
Floats = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzzed:
    """What came of the inputs, in counts."""

    inputs: int
    seed: int
    verdicts: dict[str, int]
    undefined: int  # a verdict that is none, or an interval without its estimate
    baseless: int  # PASS, MARGINAL or FAIL on constant data, on too few blocks, or without a design
    reordered: int  # rows judged a second time, blocks shuffled between two looks and rows shuffled
    changed: int  # of these, rows whose result was not the same to the last bit

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def total(parts: list[Fuzzed]) -> Fuzzed | None:
    """Add up the parts of a run; None without any."""
    if not parts:
        return None
    return Fuzzed(
        inputs=sum(part.inputs for part in parts),
        seed=parts[0].seed,
        verdicts={name: sum(part.verdicts[name] for part in parts) for name in parts[0].verdicts},
        undefined=sum(part.undefined for part in parts),
        baseless=sum(part.baseless for part in parts),
        reordered=sum(part.reordered for part in parts),
        changed=sum(part.changed for part in parts),
    )


def fuzz(inputs: int, *, seed: int) -> Fuzzed:
    """Judge so many rows of spoiled data; an exception or a warning made an error ends it."""
    verdicts = {verdict.name: 0 for verdict in Verdict}
    undefined = baseless = reordered = changed = 0
    for batch in range(math.ceil(inputs / ROWS_A_BATCH)):
        rng = default_rng([seed, batch])
        rows = min(ROWS_A_BATCH, inputs - batch * ROWS_A_BATCH)
        plan, values = _plan(rng), {}
        values = _spoiled(rng, plan, rows)
        results = _judged(plan, values)
        for verdict in Verdict:
            verdicts[verdict.name] += int((results.verdict == verdict).sum())
        undefined += int((~np.isin(results.verdict, [int(v) for v in Verdict])).sum())
        undefined += int((np.isnan(results.low) | np.isnan(results.high) | (results.low > results.high)).sum())
        baseless += _baseless(plan, values, results)
        if batch % 4 == 0:
            reordered += rows
            changed += _changed(rng, plan, values, results)
    return Fuzzed(
        inputs=inputs, seed=seed, verdicts=verdicts, undefined=undefined, baseless=baseless,
        reordered=reordered, changed=changed,
    )  # fmt: skip


def _plan(rng: Generator) -> CellPlan:
    design = DESIGNS[rng.integers(len(DESIGNS))]
    margin = float(10 ** rng.uniform(-3, 0))
    sigma = margin * float(10 ** rng.uniform(-1, 0.4))
    # Mostly few blocks: that is where things can go wrong, and every number of missing ones has boundaries of its own.
    budget = int(rng.integers(1, 13)) if rng.random() < 0.95 else int(rng.integers(13, 40))
    ratio = float(rng.choice([0.3, 0.5, 1.0, 2.0]))
    cells = int(rng.choice([1, 1, 5, 20]))
    return plan_cell(design, margin=margin, sigma=sigma, cells=cells, control_ratio=ratio, budget=budget)


def _spoiled(rng: Generator, plan: CellPlan, rows: int) -> dict[str, Floats]:
    """Return raw runs [rows, blocks, boots, runs] by name, and masks of runs that timed out."""
    boots = 4 if plan.design is Design.ABBA else 2
    scale = float(rng.choice([1e-3, 0.03, 1.0, 100.0]))
    shift = float(rng.choice([-3, -1, 0, 0, 1, 3])) * plan.margin
    made = {}
    for name, blocks in (("treated", plan.n_max), ("control", max(plan.n_max_control, plan.n_max))):
        values = 100 * np.exp(np.clip(scale * rng.standard_normal((rows, blocks, boots, 2)), -500, 500))
        if name == "treated":
            values[:, :, 1] *= np.exp(shift)
        kind = rng.integers(0, 5, rows)
        values[kind == 1] = 100.0
        values[kind == 2] = np.round(values[kind == 2])
        hit = rng.random(values.shape) < rng.choice([0.0, 0.0, 0.05, 0.5, 0.98], rows)[:, None, None, None]
        values = np.where(hit, rng.choice(STRANGE, values.shape), values)
        values[rng.random((rows, blocks)) < rng.choice([0.0, 0.0, 0.3, 0.95], rows)[:, None]] = np.nan
        made[name] = values
        made[f"{name} timed out"] = (
            rng.random(values.shape) < rng.choice([0.0, 0.0, 0.0, 0.2, 1.0], rows)[:, None, None, None]
        )
    return made


def _changes(values: dict[str, Floats], name: str) -> Floats:
    runs, mask = values[name], values[f"{name} timed out"]
    return host_change(runs[:, :, :1], runs[:, :, 1:], first_timed_out=mask[:, :, :1], second_timed_out=mask[:, :, 1:])


def _contrasts(plan: CellPlan, values: dict[str, Floats]) -> tuple[Floats, Floats | None]:
    if plan.design is Design.ABBA:
        runs, mask = values["treated"], values["treated timed out"]
        a1, b1, b2, a2 = (runs[:, :, boot] for boot in range(4))
        return abba_contrasts(a1, b1, b2, a2, timed_out=tuple(mask[:, :, boot] for boot in range(4))), None
    treated = _changes(values, "treated")
    if plan.design is Design.TWO_ARMS:
        return treated, _changes(values, "control")[:, : plan.n_max_control]
    if plan.design is Design.PAIRS:
        return paired_contrasts(treated, _changes(values, "control")[:, : plan.n_max]), None
    return treated, None


def _judged(plan: CellPlan, values: dict[str, Floats]) -> CellResults:
    treated, control = _contrasts(plan, values)
    return judge_cells(treated, plan, control=control)


def _baseless(plan: CellPlan, values: dict[str, Floats], results: CellResults) -> int:
    decided = np.isin(results.verdict, [Verdict.PASS, Verdict.MARGINAL, Verdict.FAIL])
    if plan.design is Design.BEFORE_AFTER:
        return int(decided.sum())
    treated, control = _contrasts(plan, values)
    enrolled = np.array(plan.looks)[np.maximum(results.look, 1) - 1]
    seen = np.where(np.arange(treated.shape[1]) < enrolled[:, None], treated, np.nan)
    few = np.count_nonzero(~np.isnan(seen), axis=1) < 2
    if control is not None:
        # A control arm of two and a large treated arm can be enough for ranks; one host never is.
        few |= np.count_nonzero(~np.isnan(control), axis=1) < 2
    return int((decided & (few | results.constant)).sum())


def _changed(rng: Generator, plan: CellPlan, values: dict[str, Floats], before: CellResults) -> int:
    """Shuffle rows, runs within boots, and blocks enrolled between the same two looks; count rows that changed."""
    rows = len(before.verdict)
    order = rng.permutation(rows)
    blocks = _shuffled(rng, plan.looks, plan.n_max)
    controls = blocks if plan.design is not Design.TWO_ARMS else _shuffled(rng, plan.control_looks, plan.n_max_control)
    moved = {}
    for name, value in values.items():
        which = blocks if name.startswith("treated") else controls
        moved[name] = value[order][:, which][..., ::-1]
    after = _judged(plan, moved)
    names = ("verdict", "look", "blocks", "present", "estimate", "low", "high", "constant")
    same = np.ones(rows, bool)
    for name in names:
        one, other = np.asarray(getattr(before, name))[order], np.asarray(getattr(after, name))
        same &= (one == other) | (np.isnan(one) & np.isnan(other))
    return int((~same).sum())


def _shuffled(rng: Generator, looks: tuple[int, ...], total: int) -> np.ndarray:
    edges = [0, *looks, total]
    parts = [rng.permutation(np.arange(low, high)) for low, high in pairwise(edges) if high > low]
    return np.concatenate(parts) if parts else np.arange(total)
