"""The decision on cells: every verdict, its error rates by simulation, hostile rows, Holm, plans and the ledger."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import nct, t

from controller.gate.ledger import Noise, learn, suspended
from controller.gate.planning.power import (
    contrast_sigma,
    detectable,
    first_fail,
    median_variance,
    plan_cell,
    sample_size,
)
from controller.gate.priors import PRIORS
from controller.gate.statistics.cells import CellPlan, Design, Method, judge_cells
from controller.gate.statistics.family import FamilyCell, holm_fails, rejects
from controller.gate.statistics.ranks import signed_rank_cut
from controller.gate.statistics.sequential import Spending
from controller.gate.verdict import MetricRole, Verdict

SEED = 20260218
REPS = 3000
DESIGNS = [Design.PAIRS, Design.ABBA, Design.TWO_ARMS]


def simulate(
    plan: CellPlan, theta: float, *, reps: int = REPS, missing: float = 0.0, seed: int = SEED
) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    generator = np.random.default_rng(seed)
    two = plan.design is Design.TWO_ARMS
    treated = generator.normal(theta, plan.sigma, (reps, plan.n_max))
    control = generator.normal(0, plan.sigma, (reps, plan.n_max_control)) if two else None
    treated[generator.random(treated.shape) < missing] = np.nan
    return judge_cells(treated, plan, control=control, with_bounds=False).verdict


def at_most(share: float, reps: int = REPS) -> float:
    """Return the share and three of its Monte-Carlo errors."""
    return float(share + 3 * np.sqrt(share * (1 - share) / reps))


@pytest.mark.parametrize("design", DESIGNS)
def test_error_rates_hold_and_decisions_are_made(design: Design) -> None:
    plan = plan_cell(design, margin=0.03, sigma=0.03)
    shares = {theta: simulate(plan, theta * 0.03) for theta in (0, 0.5, 1, 2)}
    print("seed", SEED, {theta: np.bincount(verdict, minlength=5) / REPS for theta, verdict in shares.items()})
    assert np.mean(shares[0] == Verdict.FAIL) <= 0.01
    assert np.mean(shares[0] == Verdict.PASS) >= 0.95
    assert np.mean(shares[0.5] == Verdict.FAIL) <= 0.10
    assert np.mean(shares[1] <= Verdict.MARGINAL) <= at_most(0.05)
    assert np.mean(shares[2] == Verdict.FAIL) >= 0.99


@pytest.mark.parametrize("design", DESIGNS)
def test_the_revert_error_holds_at_its_own_edge_and_at_unplanned_looks(design: Design) -> None:
    """At θ = κΔ, the worst case of "no regression", with gaps and with looks that nobody planned."""
    plan = plan_cell(design, margin=0.03, sigma=0.02)
    odd = replace(plan, looks=tuple(sorted({3, 4, 7, *range(8, plan.n_max, 5), plan.n_max})))
    for one, missing in ((plan, 0.0), (odd, 0.0), (odd, 0.3)):
        assert np.mean(simulate(one, plan.kappa * 0.03, missing=missing) == Verdict.FAIL) <= at_most(0.01)
        assert np.mean(simulate(one, 0.03, missing=missing) <= Verdict.MARGINAL) <= at_most(0.05)


def test_every_verdict_has_its_numbers() -> None:
    plan = CellPlan(design=Design.PAIRS, margin=0.03, n_max=12, looks=(12,), sigma=0.01)
    around = np.linspace(-0.004, 0.004, 12)
    rows = np.stack([around, around + 0.015, around + 0.05, around * 20 + 0.02])
    found = judge_cells(rows, plan)
    assert found.verdict.tolist() == [Verdict.PASS, Verdict.MARGINAL, Verdict.FAIL, Verdict.INCONCLUSIVE]
    assert found.estimate == pytest.approx([0, 0.015, 0.05, 0.02])
    assert found.low[1] > 0
    assert found.high[1] < 0.03
    assert found.low[2] > 0.25 * 0.03
    assert (found.low < found.estimate).all()
    assert (found.estimate < found.high).all()
    assert judge_cells(rows, plan, final=False).verdict[3] == Verdict.NEED_MORE_DATA


def test_a_decision_is_made_at_the_first_look_that_allows_one() -> None:
    plan = plan_cell(Design.PAIRS, margin=0.03, sigma=0.03)
    clear = np.tile(np.linspace(0.10, 0.12, plan.n_max), (1, 1))
    found = judge_cells(clear, plan)
    assert (found.verdict[0], found.look[0], found.blocks[0]) == (Verdict.FAIL, 1, plan.looks[0])
    assert plan.looks[0] == first_fail((plan.n_max,), plan.revert)


def test_without_a_design_nothing_is_decided() -> None:
    plan = CellPlan(design=Design.BEFORE_AFTER, margin=0.03, n_max=50, looks=(50,), sigma=0.01)
    assert (judge_cells(np.full((3, 50), 0.2), plan).verdict == Verdict.INCONCLUSIVE).all()


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("value", [0.0, -0.5, 1e300, np.nan, np.inf, -np.inf])
def test_rows_without_variance_or_values_never_pass(design: Design, value: float) -> None:
    plan = plan_cell(design, margin=0.03, sigma=0.03)
    control = np.zeros((1, plan.n_max_control)) if design is Design.TWO_ARMS else None
    found = judge_cells(np.full((1, plan.n_max), value), plan, control=control)
    assert found.verdict[0] == Verdict.INCONCLUSIVE


def test_worst_ranks_fail_and_never_pass() -> None:
    plan = plan_cell(Design.PAIRS, margin=0.03, sigma=0.03)
    generator = np.random.default_rng(SEED)
    row = generator.normal(0, 0.03, (1, plan.n_max))
    row[0, ::2] = np.inf
    found = judge_cells(row, plan)
    assert found.verdict[0] not in (Verdict.PASS, Verdict.MARGINAL)
    row[0, :] = np.where(np.arange(plan.n_max) % 5, np.inf, 0.05)
    found = judge_cells(row, plan)
    assert found.verdict[0] == Verdict.FAIL
    assert found.estimate[0] == np.inf
    # As many on either side say nothing, and are taken the hard way for both questions.
    row[0, :] = np.where(np.arange(plan.n_max) % 2, np.inf, -np.inf)
    assert judge_cells(row, plan).verdict[0] == Verdict.INCONCLUSIVE


def test_one_sick_host_fails_nothing_and_hides_nothing() -> None:
    plan = plan_cell(Design.TWO_ARMS, margin=0.03, sigma=0.03)
    generator = np.random.default_rng(SEED)
    treated = generator.normal(0, 0.03, (REPS, plan.n_max))
    control = generator.normal(0, 0.03, (REPS, plan.n_max_control))
    treated[:, 0] += 0.4
    found = judge_cells(treated, plan, control=control)
    assert np.mean(found.verdict == Verdict.FAIL) <= 0.01
    assert np.mean(found.sick[:, 0]) >= 0.95
    treated[:, 0] -= 0.4
    control[:, 1] += 0.4
    found = judge_cells(treated + 0.03, plan, control=control)
    assert np.mean(found.verdict <= Verdict.MARGINAL) <= at_most(0.05)
    assert np.mean(found.sick_control[:, 1]) >= 0.95


def test_what_cannot_fail_cannot_pass() -> None:
    """Three treated and three control hosts could PASS at 5 % (1/20), but never FAIL at 1 %."""
    plan = CellPlan(design=Design.TWO_ARMS, margin=0.03, n_max=3, n_max_control=3, looks=(3,), sigma=0.001)
    treated, control = np.array([[0.0, 0.001, -0.001]]), np.array([[0.0005, 0.0015, -0.0005]])
    found = judge_cells(treated, plan, control=control)
    assert found.high[0] < plan.margin
    assert found.verdict[0] == Verdict.INCONCLUSIVE
    enough = replace(plan, n_max=5, n_max_control=5, looks=(5,))
    treated, control = (np.append(arm, [[0.0007, -0.0007]], axis=1) for arm in (treated, control))
    assert judge_cells(treated, enough, control=control).verdict[0] == Verdict.PASS


def test_a_withheld_pass_waits_and_is_undecided_in_the_end() -> None:
    plan = plan_cell(Design.PAIRS, margin=0.03, sigma=0.03)
    clear = np.tile(np.linspace(-0.005, 0.005, plan.n_max), (3, 1))
    withhold = np.zeros((3, len(plan.looks)), dtype=bool)
    withhold[1, :2] = True
    withhold[2] = True
    found = judge_cells(clear, plan, withhold=withhold)
    assert found.verdict.tolist() == [Verdict.PASS, Verdict.PASS, Verdict.INCONCLUSIVE]
    assert found.look.tolist() == [1, 3, len(plan.looks)]


def test_no_blocks_are_missing_blocks() -> None:
    plan = plan_cell(Design.TWO_ARMS, margin=0.03, sigma=0.03)
    for treated, control in ((np.zeros((2, 0)), np.zeros((2, 0))), (np.zeros((2, 3)), np.zeros((2, 0)))):
        assert (judge_cells(treated, plan, control=control).verdict == Verdict.INCONCLUSIVE).all()
    assert len(judge_cells(np.zeros((0, 5)), plan, control=np.zeros((0, 5))).verdict) == 0


def test_the_sick_partner_of_a_pair_is_named() -> None:
    plan = plan_cell(Design.PAIRS, margin=0.03, sigma=0.03)
    generator = np.random.default_rng(SEED)
    treated, control = (generator.normal(0, 0.02, (50, plan.n_max)) for _ in range(2))
    control[:, 2] += 0.4
    found = judge_cells(treated - control, plan, own=(treated, control))
    assert np.mean(found.sick_control[:, 2]) >= 0.95
    assert not found.sick[:, 2].any()


def test_low_noise_on_few_blocks_is_decided_by_the_t_sequence() -> None:
    plan = plan_cell(Design.PAIRS, margin=0.03, sigma=0.004, budget=5)
    assert plan.method is Method.T_SEQUENCE
    generator = np.random.default_rng(SEED)
    rows = generator.normal(0, 0.004, (REPS, 5))
    assert np.mean(judge_cells(rows, plan).verdict <= Verdict.MARGINAL) > 0.9
    assert np.mean(judge_cells(rows + 0.06, plan).verdict == Verdict.FAIL) > 0.9
    assert np.mean(judge_cells(rows + 0.03, plan).verdict <= Verdict.MARGINAL) <= at_most(0.03)
    assert np.mean(judge_cells(rows + 0.0075, plan).verdict == Verdict.FAIL) <= at_most(0.01)
    # Noise that is not low leaves ranks, which cannot decide on five blocks.
    noisy = plan_cell(Design.PAIRS, margin=0.03, sigma=0.03, budget=5)
    assert noisy.method is Method.RANKS
    assert (judge_cells(rows, noisy).verdict != Verdict.FAIL).all()


def test_a_plan_has_the_size_of_its_formula() -> None:
    plan = plan_cell(Design.PAIRS, margin=0.03, sigma=0.06)
    assert plan.n_max == 77  # ⌈1.15 · 1.05 · 4 · (2.326 + 1.645)²⌉
    assert sample_size(0.03, 0.06, 0.01, 0.05) == pytest.approx(76.17, abs=0.01)
    arms = plan_cell(Design.TWO_ARMS, margin=0.03, sigma=0.06)
    assert arms.n_max == arms.n_max_control == 153
    uneven = plan_cell(Design.TWO_ARMS, margin=0.03, sigma=0.06, control_ratio=0.5)
    assert (uneven.n_max, uneven.n_max_control) == (229, 115)
    assert detectable(plan) <= 0.03
    assert detectable(replace(plan, n_max=19)) == pytest.approx(2 * 0.03, rel=0.02)


def test_the_first_look_that_can_fail_moves_with_the_number_of_cells() -> None:
    """At the first of four looks: about 10 blocks for one cell, 13 for five, 15 for twenty."""

    def first(cells: int) -> int:
        spent = Spending(alpha=0.01 / cells).spent(0.25)
        return next(n for n in range(1, 100) if signed_rank_cut(n, spent)[0])

    assert [first(1), first(5), first(20)] == [10, 13, 15]
    # Of a plan of 40 the share that a first look may spend is a little larger at those numbers.
    assert [first_fail((40,), Spending(alpha=0.01 / cells)) for cells in (1, 5, 20)] == [10, 12, 14]
    assert first_fail((6,), Spending(alpha=0.01)) is None


def plain_t_test_size(margin: float, sigma: float, alpha_revert: float, alpha_promote: float) -> int:
    """Return the smallest number of blocks with which a single look of a t-test has the same two errors."""
    for n in range(2, 10_000):
        shift = margin / sigma * np.sqrt(n)
        if float(nct.sf(t.isf(alpha_revert, n - 1), n - 1, shift)) >= 1 - alpha_promote:
            return n
    raise AssertionError("no number is enough")


def test_sizes_against_a_plain_t_test() -> None:
    for sigma in (0.03, 0.05, 0.06):
        plan = plan_cell(Design.PAIRS, margin=0.03, sigma=sigma)
        plain = plain_t_test_size(margin=0.03, sigma=sigma, alpha_revert=0.01, alpha_promote=0.05)
        assert plan.n_max <= 1.25 * plain


def test_the_noise_of_a_contrast_comes_from_its_parts() -> None:
    generator = np.random.default_rng(SEED)
    for n in (1, 2, 3, 4, 8, 12):
        drawn = np.median(generator.normal(size=(60_000, n)), axis=1)
        assert median_variance(n) == pytest.approx(drawn.var(), rel=0.06)
    change = contrast_sigma(Design.TWO_ARMS, run_sd=0.03, runs=4, boot_sd=0.01)
    assert contrast_sigma(Design.PAIRS, run_sd=0.03, runs=4, boot_sd=0.01) == pytest.approx(change * 2**0.5)
    assert contrast_sigma(Design.ABBA, run_sd=0.03, runs=4, boot_sd=0.01) == pytest.approx(change / 2**0.5)


def test_holm_hands_on_what_a_failed_cell_had() -> None:
    generator = np.random.default_rng(SEED)
    plan = replace(plan_cell(Design.PAIRS, margin=0.03, sigma=0.03), n_max=20, looks=(10, 20))
    strong = FamilyCell(plan=plan, values=generator.normal(0.09, 0.03, 20))
    even = np.linspace(-0.03, 0.05, 20)
    # A cell between the level of two and the level of one: by itself with half of α it does not fail.
    shift = next(s for s in np.arange(0.0, 0.1, 0.001) if rejects(FamilyCell(plan=plan, values=even + s), 0.01))
    weak = FamilyCell(plan=plan, values=even + shift)
    assert not rejects(weak, 0.005)
    assert holm_fails([strong, weak], 0.01) == (True, True)
    assert holm_fails([weak, weak], 0.01) == (False, False)
    assert holm_fails([], 0.01) == ()


def test_a_ledger_replaces_the_prior_when_it_has_enough() -> None:
    generator = np.random.default_rng(SEED)
    changes = generator.normal(0, 0.02, 400).tolist()
    assert learn(changes[:7], 0.05) == Noise(sigma=0.05, hosts=0)
    learned = learn(changes, 0.05)
    assert learned.hosts == 400
    assert 0.02 < learned.sigma < 0.0225
    assert learn(changes[::-1], 0.05) == learned
    assert learn([0.0] * 20, 0.05).hosts == 0
    assert learn([*changes, float("nan"), float("inf")], 0.05) == learned


def test_a_cell_that_breaks_its_promise_is_suspended() -> None:
    assert suspended(0, 5, 0.01) == ""
    assert suspended(1, 100, 0.01) == ""
    assert "4 of 40" in suspended(4, 40, 0.01)


def test_priors_are_complete() -> None:
    for name, prior in PRIORS.items():
        assert prior.name == name
        assert 0 < prior.cv < 1
        assert (prior.margin > 0) == (prior.role is not MetricRole.EXPLAIN)
