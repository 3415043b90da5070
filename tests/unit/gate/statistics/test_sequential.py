"""Boundaries against published constants, spending by the information reached, and the t confidence sequence."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import ndtr

from controller.gate.statistics.bounds import bounds
from controller.gate.statistics.sequential import START, Shape, Spending, information, rank_look
from controller.gate.statistics.tsequence import half_width, moments, smallest_count

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
SEED = 20260218


def boundaries(shares: Sequence[float], spending: Spending) -> tuple[float, ...]:
    """Return the upper z boundaries for looks at these shares of the information, ascending."""
    path, found = START, []
    for t in shares:
        z = path.solve(t, spending.spent(t))
        path = path.advance(t, z)
        found.append(z)
    return tuple(found)


def test_obrien_fleming_type_boundaries_are_the_published_ones() -> None:
    # Jennison and Turnbull (2000), Lan and DeMets: five looks, one-sided 2.5 %.
    found = boundaries(FIFTHS, Spending(alpha=0.025, shape=Shape.OBRIEN_FLEMING))
    assert found == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=6e-4)


def test_hwang_shih_decani_boundaries() -> None:
    found = boundaries(FIFTHS, Spending(alpha=0.025, gamma=-2))
    # Published to a few thousandths; the first one has a closed form that needs no recursion.
    assert found == pytest.approx([2.894, 2.711, 2.517, 2.317, 2.112], abs=4e-3)
    first = 0.025 * math.expm1(0.4) / math.expm1(2)
    assert ndtr(-found[0]) == pytest.approx(first, rel=1e-9)


def test_pocock_and_obrien_fleming_constants_come_out_of_the_recursion() -> None:
    """The classic constants, five looks, two-sided 5 %: Pocock 2.413, O'Brien–Fleming 2.040 (·√5/k)."""
    for constant, shape in ((2.413, lambda t: 1.0), (2.040, lambda t: 1 / math.sqrt(t))):
        spent = _spent([constant * shape(t) for t in FIFTHS])
        # The lower boundary is not in play, which leaves one side's share: 2.5 %.
        assert spent == pytest.approx(0.025, abs=2.5e-4)


def test_a_recursion_is_what_simulated_paths_do() -> None:
    generator = np.random.default_rng(SEED)
    shares = (0.13, 0.31, 0.8, 1.0)
    spending = Spending(alpha=0.05, gamma=-1)
    steps = np.diff([0, *shares])
    paths = np.cumsum(generator.normal(size=(200_000, 4)) * np.sqrt(steps), axis=1) / np.sqrt(shares)
    crossed = (paths > boundaries(shares, spending)).any(axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 200_000))


def test_spending_ends_at_alpha_and_never_falls() -> None:
    for one in (
        Spending(alpha=0.01),
        Spending(alpha=0.05, gamma=1),
        Spending(alpha=0.05, gamma=0),
        Spending(alpha=0.025, shape=Shape.OBRIEN_FLEMING),
    ):
        spent = [one.spent(t) for t in np.linspace(-0.5, 1.5, 41)]
        assert spent == sorted(spent)
        assert spent[0] == 0
        assert spent[-1] == pytest.approx(one.alpha)


def test_a_look_without_new_information_spends_nothing_and_a_final_one_replaces_it() -> None:
    spending = Spending(alpha=0.05, gamma=-1)
    once = rank_look(((12,),), (20,), spending, False)
    assert rank_look(((12,), (12,)), (20,), spending, False) == once
    last = rank_look(((12,), (12,)), (20,), spending, True)
    assert last == rank_look(((12,),), (20,), spending, True)
    assert last.level == pytest.approx(0.05, rel=1e-6)


def test_what_a_rank_test_cannot_spend_stays_for_later() -> None:
    spending = Spending(alpha=0.01)
    # Neither look at 5 and 6 of 20 blocks can reject at all.
    after, alone = rank_look(((5,), (6,), (14,)), (20,), spending, False), rank_look(((14,),), (20,), spending, False)
    assert after.cut == alone.cut
    assert after.level == pytest.approx(alone.level, rel=1e-9)
    assert rank_look(((5,),), (20,), spending, False).cut == 0


def test_the_attained_levels_add_up_to_no_more_than_was_spent() -> None:
    spending = Spending(alpha=0.01)
    counts: tuple[tuple[int, ...], ...] = ()
    for n in (9, 12, 15, 17, 20):
        counts = (*counts, (n,))
        look = rank_look(counts, (20,), spending, n == 20)
        assert look.attained <= look.level <= spending.spent(n / 20) + 1e-12


def test_two_arms_count_by_their_harmonic_mean() -> None:
    assert information((10,)) == 10
    assert information((10, 10)) == 5
    assert information((10, 0)) == 0
    assert rank_look(((0, 5),), (20, 20), Spending(alpha=0.05), True).cut == 0


def test_the_t_sequence_is_finite_where_it_should_be() -> None:
    # At n = 3: Δ/σ > 4.04 at 1 %, > 1.73 at 5 %.
    assert smallest_count(4.05**2, 0.01, 3) == 3
    assert smallest_count(4.03**2, 0.01, 3) is None
    assert smallest_count(1.74**2, 0.05, 3) == 3
    assert smallest_count(1.72**2, 0.05, 3) is None
    assert np.isinf(half_width(np.array([0.0, 1.0]), np.ones(2), 100.0, 0.05)).all()


def test_the_t_sequence_holds_at_every_look() -> None:
    generator = np.random.default_rng(SEED)
    reps, n = 8000, 30
    outside = np.zeros(reps, dtype=bool)
    values = generator.normal(size=(reps, n))
    for look in range(2, n + 1):
        count, mean, deviation = moments(values[:, :look])
        outside |= mean - half_width(count, deviation, 4.0, 0.01) > 0
    print("seed", SEED, "ever outside", outside.mean())
    assert outside.mean() <= 0.01
    assert outside.mean() >= 0.002


@pytest.mark.parametrize("noise", ["normal", "t3"])
@pytest.mark.parametrize("two_arms", [False, True])
def test_repeated_bounds_hold_at_all_looks_together(noise: str, two_arms: bool) -> None:
    generator = np.random.default_rng(SEED)
    reps, alpha, looks = 6000, 0.05, (7, 9, 10, 14, 20)
    spending = Spending(alpha=alpha, gamma=-1)

    def draw() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        shape = (reps, 20)
        return generator.normal(size=shape) if noise == "normal" else generator.standard_t(3, shape)

    values, control = draw(), draw() if two_arms else None
    above, beneath = np.zeros(reps, dtype=bool), np.zeros(reps, dtype=bool)
    for k, n in enumerate(looks):
        counts = tuple((one, one) if two_arms else (one,) for one in looks[: k + 1])
        cut = np.full(reps, rank_look(counts, (20, 20) if two_arms else (20,), spending, n == 20).cut)
        _, low, high = bounds(values[:, :n], None if control is None else control[:, :n], cut, cut)
        above |= low > 0
        beneath |= high < 0
    allowed = alpha + 3 * math.sqrt(alpha * (1 - alpha) / reps)
    print("seed", SEED, noise, "ever above", above.mean(), "ever below", beneath.mean())
    assert above.mean() <= allowed
    assert beneath.mean() <= allowed
    # Nearly everything is spent.
    assert above.mean() >= 0.75 * alpha


def _spent(z: list[float]) -> float:
    path = START
    for t, boundary in zip(FIFTHS, z, strict=True):
        path = path.advance(t, boundary)
    return path.spent
