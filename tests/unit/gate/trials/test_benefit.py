"""The interval of a claimed saving, checked by hand, and every state it can give."""

import math

import numpy as np
import pytest

from controller.gate.hosts.benefit import Benefit, HostValues, fleet_total, implausible, judge_benefit
from controller.gate.verdict import ClaimState

OLD, NEW = (819.4, 819.6, 819.5), (567.1, 566.9, 567.0)


def host(
    name: str = "vm-1", old: tuple[float, ...] = OLD, new: tuple[float, ...] = NEW, sigma: float = 2.0
) -> HostValues:
    return HostValues(host=name, old=old, new=new, sigma_run=sigma)


def judged(*hosts: HostValues, claim: float = 230.4) -> Benefit:
    return judge_benefit(hosts, claim=claim, sigma_host=1.0, confidence=0.99)


def test_the_interval_covers_what_it_promises() -> None:
    generator = np.random.default_rng(20260218)
    reps, inside = 2000, 0
    for _ in range(reps):
        # Two hosts whose own savings lie around 252, three runs on either kernel.
        hosts = [
            HostValues(
                host=str(number),
                old=tuple(generator.normal(819, 2, 3)),
                new=tuple(generator.normal(819 - generator.normal(252, 1), 2, 3)),
                sigma_run=2.0,
            )
            for number in range(2)
        ]
        saving = judge_benefit(hosts, claim=230.0, sigma_host=1.0, confidence=0.95).saving
        assert saving is not None
        inside += saving.low <= 252 <= saving.high
    assert inside / reps == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / reps))


def test_the_interval_of_one_host() -> None:
    benefit = judged(host())
    assert benefit.saving is not None
    error = math.sqrt(2.0**2 * (1 / 3 + 1 / 3) + 1.0**2)
    assert benefit.saving.estimate == pytest.approx(252.5)
    assert benefit.saving.low == pytest.approx(252.5 - 2.575829 * error, abs=1e-4)
    assert benefit.saving.high == pytest.approx(252.5 + 2.575829 * error, abs=1e-4)
    assert benefit.state is ClaimState.CONFIRMED
    assert (benefit.old_runs, benefit.new_runs, benefit.doubt) == (3, 3, "")


def test_more_hosts_narrow_the_interval_and_weigh_the_same() -> None:
    many = (567.0,) * 30
    benefit = judged(host("a"), host("b", new=tuple(value + 2 for value in many)))
    assert benefit.saving is not None
    assert benefit.saving.estimate == pytest.approx((252.5 + 250.5) / 2)
    assert benefit.saving.error < judged(host()).hosts[0][1].error


@pytest.mark.parametrize(
    ("claim", "state"),
    [
        (245.0, ClaimState.CONFIRMED),
        (250.0, ClaimState.OPEN),
        (255.0, ClaimState.OPEN),
        (260.0, ClaimState.REFUTED),
    ],
)
def test_states_by_claim(claim: float, state: ClaimState) -> None:
    assert judged(host(), claim=claim).state is state


@pytest.mark.parametrize("hosts", [(), (host(old=()),), (host(new=()),), (host(old=(), new=()),)])
def test_no_data_is_open(hosts: tuple[HostValues, ...]) -> None:
    benefit = judged(*hosts)
    assert (benefit.state, benefit.saving, benefit.hosts) == (ClaimState.OPEN, None, ())


def test_one_run_a_side_and_constant_runs_are_enough() -> None:
    assert judged(host(old=(819.5,), new=(567.0,))).state is ClaimState.CONFIRMED
    assert judged(host(old=(819.5,) * 5, new=(567.0,) * 5)).state is ClaimState.CONFIRMED


def test_a_worse_kernel_refutes() -> None:
    benefit = judged(host(old=NEW, new=OLD))
    assert benefit.state is ClaimState.REFUTED
    assert benefit.saving is not None and benefit.saving.high < 0


def test_runs_that_spread_more_than_declared_leave_the_claim_open() -> None:
    benefit = judged(host("a"), host("b", new=(480.0, 567.0, 640.0)))
    assert benefit.state is ClaimState.OPEN
    assert benefit.doubt.startswith("runs on one kernel spread") and benefit.doubt.endswith("most on b")


def test_hosts_that_differ_more_than_declared_leave_the_claim_open() -> None:
    benefit = judged(host("a"), host("b"), host("c", new=(540.0, 540.5, 539.5)))
    assert benefit.state is ClaimState.OPEN
    assert benefit.doubt.startswith("hosts differ more than declared: c saves 279.5")


def test_the_fleet_total_adds_hosts_by_their_swap() -> None:
    (one,) = judged(host()).hosts
    total = fleet_total([(one[1], 2.0), (one[1], 0.5), (one[1], 0.0), (one[1], math.nan)], 0.99)
    assert total is not None
    assert total.estimate == pytest.approx(2.5 * 252.5)
    assert total.error == pytest.approx(one[1].error * math.hypot(2.0, 0.5))
    assert fleet_total([], 0.99) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -10.1, 2.0**20 + 1])
def test_what_cannot_be_a_measurement(value: float) -> None:
    assert implausible(value, 2.0, 2.0**20)


@pytest.mark.parametrize("value", [-9.9, 0.0, 819.5])
def test_what_can_be_a_measurement(value: float) -> None:
    assert not implausible(value, 2.0, 2.0**20)
