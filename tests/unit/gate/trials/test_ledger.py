"""What the ledger's rows teach: changes between boots, noise for plans, suspended cells, and what a fleet sees."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from controller.gate.ledger import (
    FEWEST_CHANGES,
    NEWEST_JUDGEMENTS,
    Boot,
    Judgement,
    Ledger,
    Noise,
    differences,
    learn_host_kernel,
    log_changes,
    old_against_new,
    old_against_old,
    suspensions,
)
from controller.gate.planning.fleet_power import cell_noise, fleet_power
from controller.gate.planning.power import contrast_sigma
from controller.gate.priors import BOOT_SHARE, HOST_KERNEL_SD, PRIORS
from controller.gate.statistics.cells import Design

SEED = 20260218
METRIC = "kernel_build.system_time"
STRATUM = "arm64/vm"


def boot(host: str, at: float, value: float, **other: object) -> Boot:
    made = Boot(
        host=host,
        stratum=STRATUM,
        metric=METRIC,
        rollout="u1",
        kernel="old",
        order="o",
        boot_id=f"{host}-{at}",
        at=at,
        value=value,
        runs=4,
    )
    return replace(made, **other)  # type: ignore[arg-type]  # any field


def judgement(at: int, *, failed: bool, metric: str = METRIC) -> Judgement:
    return Judgement(stratum=STRATUM, metric=metric, rollout=f"u{at}", at=float(at), alpha=0.01, failed=failed)


def noisy(hosts: int, *, sd: float, host_kernel_sd: float = 0.0) -> Ledger:
    """Return three boots a host: two on the old kernel, then one on the new."""
    print(f"seed {SEED}")
    generator = np.random.default_rng(SEED)
    boots = []
    for index in range(hosts):
        first, second, third = generator.normal(0, sd / math.sqrt(2), 3)
        effect = generator.normal(-0.02, host_kernel_sd)
        name = f"h{index}"
        boots += [
            boot(name, 1.0, 60 * math.exp(first)),
            boot(name, 2.0, 60 * math.exp(second)),
            boot(name, 3.0, 60 * math.exp(third + effect), kernel="new"),
        ]
    return Ledger(boots=tuple(boots))


def test_each_host_gives_its_newest_change_between_two_boots_of_one_kernel() -> None:
    rows = [
        boot("a", 1.0, 50.0),
        boot("a", 2.0, 60.0),
        boot("a", 3.0, 66.0),
        boot("a", 4.0, 30.0, kernel="new"),
        # Measured twice under one boot: that says nothing of boots.
        boot("b", 1.0, 50.0, boot_id="same"),
        boot("b", 2.0, 70.0, boot_id="same"),
        # Another rollout may have measured the neighbour.
        boot("c", 1.0, 10.0, rollout="u0"),
        boot("c", 2.0, 11.0, rollout="u1"),
        # Another order measures something else.
        boot("d", 1.0, 10.0, order="other"),
        boot("d", 2.0, 11.0),
    ]
    for order in itertools.islice(itertools.permutations(rows), 200):
        assert old_against_old(order) == {"a": (60.0, 66.0), "c": (10.0, 11.0)}
    assert old_against_new(rows) == {"u1": {"a": (66.0, 30.0)}}
    assert old_against_new([boot("a", 1.0, 2.0, rollout="u0"), boot("a", 2.0, 1.0, kernel="new")]) == {}
    # Of several orders the newest pair counts.
    again = [boot("d", 3.0, 7.0, order="other"), boot("d", 4.0, 8.0)]
    assert old_against_old([*rows, *again])["d"] == (11.0, 8.0)
    assert log_changes({"a": (60.0, 66.0), "b": (0.0, 1.0)}) == (pytest.approx(math.log(1.1)),)
    assert differences({"a": (60.0, 66.0)}) == (6.0,)


def test_noise_comes_from_the_ledger_when_enough_hosts_were_seen() -> None:
    prior = PRIORS[METRIC]
    few = cell_noise(noisy(FEWEST_CHANGES - 1, sd=0.02), STRATUM, prior, 4)
    assert few.change.hosts == few.host_kernel.hosts == 0
    assumed = contrast_sigma(Design.TWO_ARMS, run_sd=prior.cv, runs=4, boot_sd=BOOT_SHARE * prior.cv)
    assert (few.change.sigma, few.host_kernel.sigma) == (assumed, HOST_KERNEL_SD)
    many = cell_noise(noisy(400, sd=0.02, host_kernel_sd=0.03), STRATUM, prior, 4)
    assert many.change.hosts == many.host_kernel.hosts == 400
    assert many.change.sigma == pytest.approx(0.02, rel=0.1)
    assert many.host_kernel.sigma == pytest.approx(0.03, rel=0.15)
    # Steadier boots than the plan's would promise too little noise.
    assert cell_noise(noisy(400, sd=0.02), STRATUM, prior, 3).change.hosts == 0
    # Another stratum has not been seen.
    assert cell_noise(noisy(400, sd=0.02), "x86_64/vm", prior, 4).change.hosts == 0


def test_a_kernel_that_acts_alike_everywhere_adds_nothing_between_hosts() -> None:
    wide, narrow = [0.1, -0.1] * 8, [0.01, -0.01] * 20
    assert learn_host_kernel(wide, [narrow], 0.5) == Noise(sigma=0.0, hosts=40)
    # A few hosts do not lower what is assumed, and too few say nothing.
    assert learn_host_kernel(wide, [narrow[:10]], 0.5) == Noise(sigma=0.5, hosts=10)
    assert learn_host_kernel(wide, [narrow[:6]], 0.5) == Noise(sigma=0.5, hosts=0)
    # Two kernels that act differently, each alike on all hosts.
    moved = [change + 0.4 for change in narrow]
    assert learn_host_kernel(wide, [narrow, moved], 0.5) == Noise(sigma=0.0, hosts=80)


def test_a_difference_between_hosts_is_seldom_taken_for_smaller_than_it_is() -> None:
    print(f"seed {SEED}")
    generator = np.random.default_rng(SEED)
    found = []
    for _ in range(400):
        old = generator.normal(0, 0.02, 40)
        new = generator.normal(0, np.hypot(0.02, 0.02), 40)
        found.append(learn_host_kernel(old.tolist(), [new.tolist()], 0.005).sigma)
    assert np.mean(np.array(found) < 0.02) < 0.3


def test_a_cell_that_errs_too_often_is_suspended_until_its_newest_judgements_are_clean() -> None:
    clean = [judgement(at, failed=False) for at in range(20)]
    assert suspensions(clean) == {}
    assert suspensions([*clean, judgement(20, failed=True)]) == {}
    erring = [*clean, *(judgement(20 + at, failed=True) for at in range(4))]
    assert suspensions(reversed(erring)) == {
        (STRATUM, METRIC): "4 of 24 old-vs-old judgements failed, 16.7% where 1.00% was promised"
    }
    mended = [*erring, *(judgement(100 + at, failed=False) for at in range(NEWEST_JUDGEMENTS))]
    assert suspensions(mended) == {}
    assert suspensions([*erring, judgement(1, failed=False, metric="other")]).keys() == {(STRATUM, METRIC)}


def test_a_fleet_sees_what_the_plans_say() -> None:
    noise = cell_noise(Ledger(), STRATUM, PRIORS[METRIC], 4)
    two, pairs, abba = fleet_power(0.03, noise, cells=1, hosts=100)
    assert (two.design, pairs.design, abba.design) == (Design.TWO_ARMS, Design.PAIRS, Design.ABBA)
    assert two.hosts_needed == two.plan.n_max + two.plan.n_max_control
    assert pairs.hosts_needed == 2 * pairs.plan.n_max
    assert abba.hosts_needed == abba.plan.n_max < pairs.hosts_needed
    assert (two.blocks_there, pairs.blocks_there, abba.blocks_there) == (50, 50, 100)
    assert pairs.first_fail is not None and pairs.first_fail <= pairs.plan.n_max
    # What a hundred hosts can decide on is what needs a hundred hosts.
    for power in (two, pairs, abba):
        assert power.detectable is not None
        again = next(p for p in fleet_power(power.detectable, noise, cells=1, hosts=100) if p.design is power.design)
        assert again.plan.n_max == pytest.approx(power.blocks_there, abs=1)


def test_a_handful_of_hosts_decides_nothing() -> None:
    noise = cell_noise(Ledger(), STRATUM, PRIORS[METRIC], 4)
    for power in fleet_power(0.03, noise, cells=1, hosts=3):
        assert power.detectable is None
        assert power.hosts_needed > 3
