"""Null distributions against scipy's exact ones; bounds against their definitions and their promised coverage."""

import numpy as np
import pytest
from scipy import stats

from controller.gate.statistics import bounds as module
from controller.gate.statistics import ranks
from controller.gate.statistics.bounds import bounds, counts, describe
from controller.gate.statistics.ranks import rank_sum_cdf, rank_sum_cut, signed_rank_cdf, signed_rank_cut

SEED = 20260218


@pytest.mark.parametrize("n", [1, 2, 5, 13, 25])
def test_the_signed_rank_table_is_scipys(n: int) -> None:
    ranked = np.arange(1.0, n + 1)
    cdf = signed_rank_cdf(n)
    generator = np.random.default_rng(SEED + n)
    for _ in range(6):
        signs = generator.choice([-1.0, 1.0], n)
        statistic = int(ranked[signs > 0].sum())
        expected = stats.wilcoxon(ranked * signs, alternative="less", method="exact").pvalue
        assert cdf[statistic] == pytest.approx(expected, rel=1e-9)
    assert cdf[0] == pytest.approx(2.0**-n)
    assert cdf[-1] == pytest.approx(1)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 7), (8, 8), (20, 11), (40, 38)])
def test_the_rank_sum_table_is_scipys(n: int, m: int) -> None:
    generator = np.random.default_rng(SEED + n)
    cdf = rank_sum_cdf(n, m)
    for _ in range(4):
        x, y = generator.normal(size=n), generator.normal(size=m)
        test = stats.mannwhitneyu(x, y, alternative="less", method="exact")
        assert cdf[int(test.statistic)] == pytest.approx(test.pvalue, rel=1e-9)
    assert rank_sum_cdf(m, n) is rank_sum_cdf(min(n, m), max(n, m))


def test_a_cut_keeps_its_level_and_the_next_one_would_not() -> None:
    for n in (4, 7, 10, 30):
        for level in (0.0005, 0.01, 0.05):
            cut, attained = signed_rank_cut(n, level)
            assert attained <= level
            assert signed_rank_cdf(n)[cut] > level
    for n, m in ((3, 3), (6, 9), (30, 30)):
        cut, attained = rank_sum_cut(n, m, 0.01)
        assert attained <= 0.01 < rank_sum_cdf(n, m)[cut]


def test_too_few_observations_have_no_cut() -> None:
    assert signed_rank_cut(6, 0.01) == (0, 0.0)  # 2⁻⁶ = 1.6 %
    assert signed_rank_cut(7, 0.01)[0] == 1
    assert rank_sum_cut(4, 4, 0.01) == (0, 0.0)  # 1/70
    assert signed_rank_cut(0, 0.5) == (0, 0.0) == rank_sum_cut(5, 0, 0.5)
    assert signed_rank_cut(50, 0.0) == (0, 0.0)


@pytest.mark.parametrize("level", [0.05, 0.01, 0.001])
def test_the_edgeworth_form_meets_the_exact_one(level: float, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = signed_rank_cut(100, level), rank_sum_cut(50, 45, level)
    monkeypatch.setattr(ranks, "EXACT_SIGNED_RANK", 10)
    monkeypatch.setattr(ranks, "EXACT_RANK_SUM", 10)
    near = signed_rank_cut.__wrapped__(100, level), rank_sum_cut.__wrapped__(50, 45, level)
    for (cut, attained), (other, approximate) in zip(exact, near, strict=True):
        assert abs(cut - other) <= 1
        assert approximate == pytest.approx(attained, rel=0.02)


def test_the_bounds_are_order_statistics_of_all_walsh_averages() -> None:
    generator = np.random.default_rng(SEED)
    values = generator.normal(size=(3, 9))
    walsh = np.sort([[(row[i] + row[j]) / 2 for i in range(9) for j in range(i, 9)] for row in values])
    cut = np.array([1, 4, 0])
    estimate, low, high = bounds(values, None, cut, cut)
    assert estimate == pytest.approx(np.median(walsh, axis=1))
    assert list(low) == [walsh[0, 0], walsh[1, 3], -np.inf]
    assert list(high) == [walsh[0, -1], walsh[1, -4], np.inf]


def test_missing_values_are_not_there() -> None:
    generator = np.random.default_rng(SEED)
    values, control = generator.normal(size=(1, 6)), generator.normal(size=(1, 5))
    holes = np.insert(values, [0, 3, 6], np.nan, axis=1)
    cut = np.array([2])
    assert bounds(holes, None, cut, cut) == bounds(values, None, cut, cut)
    assert bounds(holes, control, cut, cut) == bounds(values, control, cut, cut)
    nothing = np.full((1, 3), np.nan)
    estimate, low, high = bounds(nothing, None, cut, cut)
    assert np.isnan(estimate[0])
    assert (low[0], high[0]) == (-np.inf, np.inf)


@pytest.mark.parametrize("two_arms", [False, True])
def test_selecting_is_sorting(two_arms: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(SEED)
    for _ in range(25):
        shape = (2, int(generator.integers(1, 60)))
        # Rounded, so that there are ties.
        values = np.round(generator.standard_t(2, shape), int(generator.integers(1, 12)))
        values[generator.random(shape) < 0.1] = np.nan
        control = np.round(generator.normal(size=(2, int(generator.integers(1, 60)))), 2) if two_arms else None
        cuts, limits = np.array([1, 0]), np.round(generator.normal(size=(2, 3)), 1)
        monkeypatch.setattr(module, "MANY", 10**9)
        sorted_out = *bounds(values, control, cuts, cuts), *counts(values, control, below=limits, upto=limits)
        monkeypatch.setattr(module, "MANY", 0)
        selected = *bounds(values, control, cuts, cuts), *counts(values, control, below=limits, upto=limits)
        for one, other in zip(sorted_out, selected, strict=True):
            assert np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("noise", ["normal", "t3", "uniform", "rounded"])
def test_intervals_cover_what_they_promise(noise: str) -> None:
    generator = np.random.default_rng(SEED)
    reps, shape, other = 4000, (4000, 14), (4000, 11)
    draw = {
        "normal": lambda size: generator.normal(size=size),
        "t3": lambda size: generator.standard_t(3, size),
        "uniform": lambda size: generator.uniform(-1, 1, size),
        "rounded": lambda size: np.round(generator.normal(size=size), 1),
    }[noise]
    # 5 % outside on either side at most, and three Monte-Carlo errors.
    allowed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / reps)
    for control in (None, draw(other)):
        _, low, high = describe(draw(shape), control, 0.90)
        print("seed", SEED, noise, "above", np.mean(low > 0), "below", np.mean(high < 0))
        assert np.mean(low > 0) <= allowed
        assert np.mean(high < 0) <= allowed
