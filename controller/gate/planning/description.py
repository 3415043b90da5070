"""A cell's plan in words, printed before anything reboots: how many blocks, when, and what they can show."""

import math
from typing import Final

from controller.gate.planning.power import PROMOTE_SHARE, detectable, first_fail, sample_size
from controller.gate.statistics.cells import CellPlan, Design, Method

_BLOCKS: Final = {
    Design.PAIRS: ("host pair", "host pairs"),
    Design.ABBA: ("old–new–new–old cycle", "old–new–new–old cycles"),
    Design.TWO_ARMS: ("treated host", "treated hosts"),
    Design.BEFORE_AFTER: ("host", "hosts"),
}


def describe_plan(name: str, plan: CellPlan) -> tuple[str, ...]:
    """Return sentences on size, looks and errors, and on what a short budget can decide at all."""
    if plan.design is Design.BEFORE_AFTER:
        return (f"{name}: before and after without controls can decide nothing: the kernel is confounded with time.",)
    required = needed(plan)
    told = [
        f"{name}: {_blocks(plan, plan.n_max)}{_controls(plan)}, margin {_percent(plan.margin)}, noise "
        f"{_percent(plan.sigma)} each."
    ]
    if plan.n_max < required:
        told.append(
            f"{required} would be needed for this margin; with {plan.n_max} the smallest margin that can be decided is "
            f"{_percent(detectable(plan))}."
        )
    told.append(_looks(plan))
    promoted = plan.promote.alpha / PROMOTE_SHARE
    told.append(
        f"It reverts a kernel that is no worse than {_percent(plan.kappa * plan.margin)} in at most "
        f"{plan.revert.alpha * 100:g} % of all cases, and promotes one that is worse by {_percent(plan.margin)} or "
        f"more in at most {promoted * 100:g} %."
    )
    return tuple(told)


def needed(plan: CellPlan) -> int:
    """Return the blocks (two arms: treated hosts) that the plan's margin and errors take."""
    size = sample_size(plan.margin, plan.sigma, plan.revert.alpha, plan.promote.alpha / PROMOTE_SHARE)
    if plan.design is Design.TWO_ARMS:
        size *= 1 + plan.n_max / plan.n_max_control
    return math.ceil(size - 1e-9)


def _looks(plan: CellPlan) -> str:
    if plan.method is Method.T_SEQUENCE:
        return (
            "So few blocks are decided by the t confidence sequence, at any moment, on the plan's word that the noise "
            "is normal and that no host is sick."
        )
    full = (plan.n_max, plan.n_max_control) if plan.design is Design.TWO_ARMS else (plan.n_max,)
    first = first_fail(full, plan.revert)
    looks = ", ".join(str(look) for look in plan.looks[:-1])
    looks = f"looks at {looks} and {plan.looks[-1]}" if looks else f"one look, at {plan.looks[-1]}"
    if first is None:
        return f"{looks[0].upper()}{looks[1:]}; no look can FAIL: ranks need more blocks, and nothing passes either."
    return f"{looks[0].upper()}{looks[1:]}; the first that can FAIL is one at {_blocks(plan, first)}."


def _blocks(plan: CellPlan, count: int) -> str:
    one, many = _BLOCKS[plan.design]
    return f"{count} {one if count == 1 else many}"


def _controls(plan: CellPlan) -> str:
    return f" and {plan.n_max_control} control hosts" if plan.design is Design.TWO_ARMS else ""


def _percent(log_effect: float) -> str:
    return f"{math.expm1(log_effect) * 100:.3g} %"
