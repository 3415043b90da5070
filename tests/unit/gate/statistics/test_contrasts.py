"""From runs to one number a block: medians, orientation, worst ranks, the three designs; sick hosts and completion."""

import math

import numpy as np
import pytest
from scipy import stats

from controller.gate.statistics.completion import blocks_pass, completion_p
from controller.gate.statistics.contrasts import abba_contrasts, host_change, log_margin, median, paired_contrasts, side
from controller.gate.statistics.heterogeneity import fleet_line
from controller.gate.statistics.outliers import sick_hosts

SEED = 20260218


def test_a_run_is_a_run_and_a_boot_is_one_value() -> None:
    # Two boots: medians e² and e⁴; the many runs of the second boot do not outvote the first.
    boots = np.exp([[[2.0, 2.0, np.nan, np.nan], [4.0, 4.0, 4.0, 100.0]]])
    assert side(boots) == pytest.approx([3.0])
    assert side(boots, higher_is_better=True) == pytest.approx([-3.0])


def test_slower_is_worse_and_fewer_is_worse_too() -> None:
    old, new = np.full((1, 1, 1, 3), 100.0), np.full((1, 1, 1, 3), 103.0)
    assert host_change(old, new) == pytest.approx(np.array([[log_margin(0.03)]]))
    assert host_change(old, new, higher_is_better=True) == pytest.approx(np.array([[-log_margin(0.03)]]))


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_what_is_no_measurement_is_missing(value: float) -> None:
    old, new = np.full((1, 1, 1, 3), 2.0), np.array([[[[value, 2.0, value]]]])
    assert host_change(old, new) == pytest.approx(np.zeros((1, 1)))
    assert np.isnan(host_change(old, np.full((1, 1, 1, 3), value))).all()


def test_huge_and_tiny_values_have_logarithms() -> None:
    old, new = np.full((1, 1, 1, 1), 1e-300), np.full((1, 1, 1, 1), 1e300)
    assert host_change(old, new) == pytest.approx(np.array([[600 * math.log(10)]]))


def test_timed_out_runs_are_the_worst_rank() -> None:
    runs = np.ones((1, 1, 1, 3))
    most, few, none = (np.array([[[[True] * k + [False] * (3 - k)]]]) for k in (2, 1, 0))
    assert host_change(runs, runs, second_timed_out=most, first_timed_out=none)[0, 0] == np.inf
    assert host_change(runs, runs, first_timed_out=most)[0, 0] == -np.inf
    assert host_change(runs, runs, second_timed_out=few)[0, 0] == 0
    assert np.isnan(host_change(runs, runs, first_timed_out=most, second_timed_out=most)[0, 0])


def test_pairs_subtract_their_own_control_and_abba_cancels_a_linear_drift() -> None:
    assert paired_contrasts(np.array([[0.05, np.nan]]), np.array([[0.02, 0.0]]))[0, 0] == pytest.approx(0.03)
    assert np.isnan(paired_contrasts(np.array([[np.inf]]), np.array([[np.inf]]))[0, 0])
    drift = [np.exp(np.full((1, 2, 3), 0.01 * k)) for k in range(4)]
    drift[1] *= 1.04
    drift[2] *= 1.04
    assert abba_contrasts(*drift) == pytest.approx(np.full((1, 2), math.log(1.04)))
    lost = np.ones((1, 2, 3), dtype=bool)
    nothing = ~lost
    assert (abba_contrasts(*drift, timed_out=(nothing, lost, nothing, nothing)) == np.inf).all()


def test_the_median_leaves_missing_values_out() -> None:
    assert median(np.array([[3.0, np.nan, 1.0, 2.0]]))[0] == 2
    assert np.isnan(median(np.array([[np.nan]]))[0])
    assert median(np.array([[np.inf, np.inf, 1.0]]))[0] == np.inf


def test_a_sick_host_is_found_and_a_sick_kernel_is_not_called_one() -> None:
    generator = np.random.default_rng(SEED)
    treated, control = generator.normal(0.02, 0.01, (1, 12)), generator.normal(0, 0.01, (1, 12))
    margin = np.array([0.03])
    treated[0, 3] += 0.3
    control[0, 7] -= 0.3
    hosts, others = sick_hosts(treated, control, margin)
    assert others is not None
    assert np.flatnonzero(hosts.bad).tolist() == [3]
    assert np.flatnonzero(others.good).tolist() == [7]
    assert not hosts.good.any()
    assert not others.bad.any()
    # A third of all hosts is the kernel, not a sick host.
    treated[0, :4] = 0.3
    assert not sick_hosts(treated, None, margin)[0].bad.any()
    # Few hosts have no quartiles.
    assert not sick_hosts(treated[:, :4], None, margin)[0].bad.any()


def test_completion_is_fishers_exact_test() -> None:
    for old_bad, old, new_bad, new in ((2, 30, 7, 28), (0, 10, 1, 10), (5, 5, 0, 5), (0, 4, 0, 4)):
        expected = stats.fisher_exact([[new_bad, new - new_bad], [old_bad, old - old_bad]], alternative="greater")
        assert completion_p(old_bad, old, new_bad, new) == pytest.approx(expected.pvalue)
    assert completion_p(0, 0, 3, 3) == 1


def test_more_lost_runs_or_uneven_gaps_withhold_a_pass() -> None:
    assert blocks_pass(0, 28, 1, 28)
    assert not blocks_pass(1, 28, 1, 28)
    assert not blocks_pass(0, 28, 0, 28)
    assert blocks_pass(0, 28, 0, 20, old_missing=0, new_missing=8)
    assert blocks_pass(0, 20, 0, 28, old_missing=8, new_missing=0)
    assert not blocks_pass(0, 20, 0, 20, old_missing=8, new_missing=7)
    assert not blocks_pass(0, 0, 0, 0)


def test_the_fleet_line_is_the_inverse_variance_mean_and_hides_where_strata_disagree() -> None:
    line = fleet_line([0.02, 0.01, 0.015], [0.01, 0.005, 0.01])
    assert line is not None
    weights = [1e4, 4e4, 1e4]
    assert line.mean == pytest.approx((0.02 * 1e4 + 0.01 * 4e4 + 0.015 * 1e4) / 6e4)
    assert line.high - line.mean == pytest.approx(1.959964 / math.sqrt(sum(weights)))
    assert line.q == pytest.approx(
        sum(w * (x - line.mean) ** 2 for w, x in zip(weights, (0.02, 0.01, 0.015), strict=True))
    )
    assert line.shown
    apart = fleet_line([-0.019, 0.012], [0.004, 0.004])
    assert apart is not None
    assert not apart.shown
    assert apart.p < 1e-6
    alone = fleet_line([0.02, math.nan, 0.1], [0.01, 1.0, 0.0])
    assert alone is not None
    assert (alone.mean, alone.strata, alone.shown) == (0.02, 1, True)
    assert fleet_line([], []) is None
    assert fleet_line([0.02, 0.01], [0.01, 0.02]) == fleet_line([0.01, 0.02], [0.02, 0.01])


def test_the_fleet_line_covers_what_it_promises() -> None:
    generator = np.random.default_rng(SEED)
    reps, inside = 1000, 0
    errors = [0.01, 0.005, 0.02]
    for _ in range(reps):
        line = fleet_line(generator.normal(0.02, errors).tolist(), errors, 0.90)
        assert line is not None
        inside += line.low <= 0.02 <= line.high
    assert inside / reps == pytest.approx(0.90, abs=3 * math.sqrt(0.9 * 0.1 / reps))
