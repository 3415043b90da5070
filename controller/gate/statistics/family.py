"""Several critical cells at the last look: which of them FAIL, with the family's error held (Holm).

Before the last look each cell spends its own weighted share of α (Bonferroni). At the last one, a cell that has failed
hands its share to the rest (Holm 1979; for spending functions Maurer and Bretz 2013: the boundary of a cell at a larger
share is what its own looks would have led to with that share from the start).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from controller.gate.statistics.cells import CellPlan, Design
from controller.gate.statistics.looks import History, Question, ask_ranks, take

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyCell:
    """One critical cell at its last look: its blocks in order of enrolment, as for `judge_cells`, one row."""

    plan: CellPlan
    values: Floats
    control: Floats | None = None
    # Its part of the family's error, relative to the others.
    weight: float = 1.0


def holm_fails(cells: Sequence[FamilyCell], alpha: float) -> tuple[bool, ...]:
    """Return which cells reject θ ≤ κΔ at their last look; the chance of any false one is at most alpha."""
    failed: set[int] = set()
    while True:
        left = [index for index in range(len(cells)) if index not in failed]
        total = sum(cells[index].weight for index in left)
        new = [index for index in left if rejects(cells[index], alpha * cells[index].weight / total)]
        if not new:
            return tuple(index in failed for index in range(len(cells)))
        failed.update(new)


def rejects(cell: FamilyCell, alpha: float) -> bool:
    """Return whether L > κΔ at the last look, when the cell spends `alpha` over its looks."""
    plan = cell.plan
    margin = np.array([plan.margin])
    row = np.zeros(1, dtype=np.int64)
    history = History.blank(1, len(plan.looks), 1 if cell.control is None else 2)
    for k, (n, m) in enumerate(zip(plan.looks, plan.control_looks, strict=True)):
        others = None if cell.control is None else cell.control[None, :m]
        sample = take(cell.values[None, :n], others, margin)
        history.record(row, k, sample)
    full = (plan.n_max, plan.n_max_control) if plan.design is Design.TWO_ARMS else (plan.n_max,)
    spending = replace(plan.revert, alpha=alpha), plan.promote
    question = Question(margin=margin, kappa=plan.kappa, final=True)
    found = ask_ranks(sample, question, history.upto(row, len(plan.looks) - 1), spending, full)
    return bool(found.above_kappa[0] and not sample.constant[0])
