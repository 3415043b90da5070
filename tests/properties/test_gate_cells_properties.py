"""Whatever the numbers, a cell gets a verdict; the order of blocks within a look changes no bit; careful is careful."""

from dataclasses import fields, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from controller.gate.planning.power import plan_cell
from controller.gate.statistics.cells import CellPlan, CellResults, Design, judge_cells
from controller.gate.statistics.contrasts import host_change
from controller.gate.verdict import Verdict

VALUES = st.one_of(
    st.floats(-0.2, 0.2),
    st.sampled_from([0.0, 0.03, 0.0075, 1e300, -1e300, 5e-324, float("nan"), float("inf"), float("-inf")]),
    st.floats(),
)
MARGINS = st.sampled_from([1e-4, 0.03, 0.5])


@st.composite
def cells(draw: st.DrawFn) -> tuple[CellPlan, NDArray[np.float64], NDArray[np.float64] | None]:
    """A plan of any design, with one row of blocks for it."""
    design = draw(st.sampled_from([Design.PAIRS, Design.ABBA, Design.TWO_ARMS]))
    plan = plan_cell(
        design,
        margin=draw(MARGINS),
        sigma=draw(MARGINS),
        cells=draw(st.sampled_from([1, 20])),
        budget=draw(st.integers(1, 25)),
        control_ratio=draw(st.sampled_from([0.5, 1.0])),
    )
    row = np.array([draw(st.lists(VALUES, min_size=plan.n_max, max_size=plan.n_max))])
    if design is not Design.TWO_ARMS:
        return plan, row, None
    count = plan.n_max_control
    return plan, row, np.array([draw(st.lists(VALUES, min_size=count, max_size=count))])


def same(one: CellResults, other: CellResults) -> bool:
    """Return whether two results are equal to the last bit; who is sick moves with the blocks."""
    names = [field.name for field in fields(CellResults) if not field.name.startswith("sick")]
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in names)


@settings(deadline=None, max_examples=60)
@given(cells(), st.integers(0, 2**32))
def test_the_order_of_blocks_within_a_look_changes_no_bit(
    cell: tuple[CellPlan, NDArray[np.float64], NDArray[np.float64] | None], seed: int
) -> None:
    plan, row, control = cell
    last = replace(plan, looks=(plan.n_max,))
    expected = judge_cells(row, last, control=control)
    generator = np.random.default_rng(seed)
    mixed = row[:, generator.permutation(row.shape[1])]
    others = None if control is None else control[:, generator.permutation(control.shape[1])]
    assert same(judge_cells(mixed, last, control=others), expected)


@settings(deadline=None, max_examples=60)
@given(cells())
def test_a_cell_gets_one_of_four_verdicts_and_bounds_that_fit_it(
    cell: tuple[CellPlan, NDArray[np.float64], NDArray[np.float64] | None],
) -> None:
    plan, row, control = cell
    found = judge_cells(row, plan, control=control)
    verdict = Verdict(int(found.verdict[0]))
    assert verdict in (Verdict.PASS, Verdict.MARGINAL, Verdict.FAIL, Verdict.INCONCLUSIVE)
    if verdict in (Verdict.PASS, Verdict.MARGINAL):
        assert found.high[0] < plan.margin
        assert (found.low[0] > 0) == (verdict is Verdict.MARGINAL)
    if verdict is Verdict.FAIL:
        assert found.low[0] > plan.kappa * plan.margin
        assert found.high[0] >= plan.margin
        assert found.estimate[0] > 0
    assert same(judge_cells(np.repeat(row, 2, axis=0)[:1], plan, control=control), found)


@settings(deadline=None, max_examples=60)
@given(cells(), st.floats(0, 0.5))
def test_a_worse_block_never_turns_a_verdict_into_a_pass(
    cell: tuple[CellPlan, NDArray[np.float64], NDArray[np.float64] | None], worse: float
) -> None:
    plan, row, control = cell
    last = replace(plan, looks=(plan.n_max,))
    before = judge_cells(row, last, control=control)
    after = judge_cells(row + worse, last, control=control)
    if not before.constant[0] and before.verdict[0] > Verdict.MARGINAL:
        assert after.verdict[0] > Verdict.MARGINAL


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.floats(), st.sampled_from([1e300, -1.0, 0.0])), min_size=16, max_size=16), st.booleans())
def test_any_runs_give_a_change_that_is_a_number_or_missing(values: list[float], higher: bool) -> None:
    runs = np.array(values).reshape(2, 2, 1, 4)
    change = host_change(runs[:1], runs[1:], higher_is_better=higher)
    assert change.shape == (1, 2)
    assert (np.isnan(change) | (np.abs(change) < 1500)).all()
    assert np.array_equal(change, host_change(runs[:1, :, :, ::-1], runs[1:], higher_is_better=higher), equal_nan=True)
