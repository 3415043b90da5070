"""Whether a shift beside a workload is seen, excluded or left open; by the gate's own bounds."""

import numpy as np
import pytest
from paired_shift import judge_shift

METRIC = "anonymous_sweep.throughput"
SEED = 20261126


def pairs(count: int, *, change: float, scatter: float) -> tuple[list[list[float]], list[list[float]]]:
    """Return runs without and beside, 3 a side, whose median is lower by the share `change`."""
    generator = np.random.default_rng(SEED)
    without = generator.lognormal(np.log(400), scatter, (count, 3))
    beside = generator.lognormal(np.log(400 * (1 + change)), scatter, (count, 3))
    return without.tolist(), beside.tolist()


def test_no_shift_passes_with_an_interval_around_nothing() -> None:
    shift = judge_shift(METRIC, *pairs(16, change=0.0, scatter=0.02))
    assert shift.passes
    assert shift.low_percent < 0 < shift.high_percent
    assert (shift.pairs, shift.runs, shift.margin_percent) == (16, 3, 5.0)


def test_a_slower_figure_fails_and_is_told_as_lower() -> None:
    shift = judge_shift(METRIC, *pairs(16, change=-0.10, scatter=0.02))
    assert (shift.verdict, shift.passes) == ("FAIL", False)
    assert shift.low_percent <= shift.estimate_percent <= shift.high_percent
    assert shift.estimate_percent == pytest.approx(-10, abs=2)


def test_a_real_shift_below_the_margin_does_not_pass() -> None:
    shift = judge_shift(METRIC, *pairs(16, change=-0.025, scatter=0.005))
    assert (shift.verdict, shift.passes) == ("MARGINAL", False)


def test_scatter_that_hides_the_margin_decides_nothing() -> None:
    shift = judge_shift(METRIC, *pairs(8, change=0.0, scatter=0.30))
    assert (shift.verdict, shift.passes) == ("INCONCLUSIVE", False)


def test_a_figure_that_never_moves_is_no_measurement() -> None:
    shift = judge_shift(METRIC, [[400.0] * 3] * 8, [[400.0] * 3] * 8)
    assert not shift.passes
