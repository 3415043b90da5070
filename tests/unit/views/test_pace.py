"""What a plan says about its speed and length."""

from dataclasses import replace

import pytest
from candidates import candidate
from hypothesis import given
from hypothesis import strategies as st
from simulated_fleet import SPEC, Simulation

from controller.domain.hosts.boot_times import FEWEST_BOOTS, BootTimes
from controller.domain.planning.policy import policy_of
from controller.domain.planning.selection import HostCandidate, plan_waves
from controller.domain.record.deadlines import longest_walk_s, step_limits
from controller.domain.record.events import Moved
from controller.domain.record.journey import Step
from controller.domain.record.policy import PlaceBound, WavePolicy
from controller.domain.spec.document import RolloutSpec
from controller.domain.spec.parse import parse_spec
from controller.domain.state.occupancy import Occupancy
from controller.domain.state.turns import Turns, next_turns
from controller.views.plans.pace import pace_sentences, walks_at_most

PACED = SPEC.replace("  claim:", '  windows: [{days: [thu], from: "01:00", to: "03:00", zone: UTC}]\n  claim:').replace(
    "ON_REFUTED", "pause"
)


def candidates(count: int, platform: str = "vm") -> list[HostCandidate]:
    return [candidate(f"h{number}", f"x86_64/{platform}", labels={"zone": "ab"[number % 2]}) for number in range(count)]


def told(
    text: str,
    count: int = 5,
    waves: tuple[WavePolicy, ...] | None = None,
    platform: str = "vm",
    boots: dict[str, BootTimes] | None = None,
) -> tuple[str, ...]:
    spec: RolloutSpec = parse_spec(text, "paced.yaml")
    hosts = candidates(count, platform)
    plan = plan_waves(spec, hosts, "salt")
    policy = policy_of(spec, tuple(wave.bake_s for wave in plan.waves), waves=waves)
    return pace_sentences(policy, plan, {host.name: host.subject.labels for host in hosts}, 1000.0, boots or {})


def test_budget_windows_approvals_and_length_are_told() -> None:
    waves = (WavePolicy(max_duration_s=1.0), WavePolicy(max_duration_s=1.0, approvals=2))
    assert told(PACED.replace("IN_FLIGHT", "2"), waves=waves) == (
        "At most 2 hosts of this rollout under way at a time.",
        "At most 1 host of the same zone unavailable at a time, hosts that are away now included.",
        "Hosts go down only thu from 01:00 to 03:00 in UTC.",
        "The next window opens at 1970-01-01 01:00:00 UTC.",
        "Wave 2 begins when 2 persons approved it; the rollout pauses without that after 7 d.",
        "It pauses when more than 0 hosts fail for reasons of their rig, and reverts on the first that speaks against "
        "the kernel.",
        "It takes at least 2 min (the soak times alone) and at most 46 min (every limit used up, within "
        "maintenance windows); waits for people are not counted.",
    )


def test_without_bounds_of_its_own_a_rollout_is_cautious() -> None:
    text = PACED.replace("    max_in_flight: IN_FLIGHT\n", "")
    assert "At most 2 hosts of the fleet (2% of 100) unavailable at a time, hosts that are away now included." in told(
        text, 100
    )
    assert policy_of(parse_spec(text, "paced.yaml"), (1.0,)).max_unavailable == (
        PlaceBound(key="fleet", share=0.02),
        PlaceBound(key="zone", count=1),
    )


def test_the_longest_check_of_a_program_counts_once_a_wave() -> None:
    checks = """  checks:
    - {name: a, webhook: {url: "http://a"}, deadline: 5m}
    - {name: b, webhook: {url: "http://b"}, deadline: 10m}
    - {name: c, webhook: {url: "http://c"}, deadline: 5h, dry_run: true}
    - {name: d, manual: true, deadline: 5h}
"""
    assert "at most 1 h 6 min" in told(PACED.replace("IN_FLIGHT", "2") + checks)[-1]


NO_BOOT_TIMEOUT = PACED.replace("IN_FLIGHT", "2").replace("    boot_timeout: 60s\n", "")


@pytest.mark.parametrize(
    ("platform", "most"),
    # Four walks one after the other, 60 s for a boot before: 14 min more each, or 44.
    [("vm", "1 h 42 min"), ("metal", "3 h 42 min"), ("emulated", "3 h 42 min"), ("unknown", "3 h 42 min")],
)
def test_the_default_boot_timeout_counts(platform: str, most: str) -> None:
    assert f"at most {most} (" in told(NO_BOOT_TIMEOUT, platform=platform)[-1]


def test_what_is_known_of_boots_counts() -> None:
    boots = {"x86_64/vm": BootTimes((30.0,) * FEWEST_BOOTS)}
    assert told(NO_BOOT_TIMEOUT, boots=boots)[-1] == told(PACED.replace("IN_FLIGHT", "2"))[-1]


def test_every_boot_of_a_design_counts() -> None:
    """ABBA walks old, new, new, old twice, and then the new kernel: eight probations, not one."""
    text = PACED.replace("IN_FLIGHT", "2")
    abba = text.replace("  claim:", "  design: abba\n  abba: {per_stratum: 5, cycles: 2}\n  claim:")
    drilled = text.replace("  claim:", "  drill: {per_stratum: 1, revert_slo: 10m}\n  claim:")
    plain = told(text)[-1]
    assert told(abba)[-1] != plain
    assert told(drilled)[-1] != plain


def spent(simulation: Simulation) -> float:
    """Seconds from the start to the end of the host that took longest."""
    at: dict[str, list[float]] = {}
    for key, event in simulation.log:
        if key.host and isinstance(event, Moved):
            at.setdefault(key.host, []).append(event.at)
    return max(times[-1] - times[0] for times in at.values())


def test_no_host_takes_longer_than_the_limits_of_its_steps_together() -> None:
    """The table that is added up is the one that deadlines come from."""
    simulation = Simulation([["a"]], drilled=("a",))
    simulation.run()
    policy, planned = simulation.rollout.policy, simulation.rollout.waves[0][0]
    limits = step_limits(policy, 60.0)
    walked = [event for key, event in simulation.log if key.host and isinstance(event, Moved)]
    waits = [event for event in walked if event.deadline is not None and event.step is not Step.BAKE]
    assert {event.step: event.deadline - event.at for event in waits if event.deadline} == {
        event.step: limits[event.step] for event in waits
    }
    assert longest_walk_s(policy, planned, 60.0) == sum(limits[event.step] for event in waits)
    assert spent(simulation) < longest_walk_s(policy, planned, 60.0) + policy.bake_s[0]


_LABELS = st.fixed_dictionaries({}, optional={"zone": st.sampled_from("ab"), "rack": st.sampled_from("xyz")})


@given(
    hosts=st.lists(st.tuples(_LABELS, st.integers(1, 9)), min_size=1, max_size=12),
    guests_of=st.none() | st.integers(0, 3),
    flying=st.none() | st.integers(1, 3),
    bounds=st.dictionaries(st.sampled_from(["fleet", "zone", "rack"]), st.integers(1, 3), max_size=3),
)
def test_no_order_of_hosts_takes_longer_than_is_said(
    hosts: list[tuple[dict[str, str], int]], guests_of: int | None, flying: int | None, bounds: dict[str, int]
) -> None:
    """Hosts take up to nine units each; the real engine's turns decide who moves."""
    names = [f"h{number}" for number in range(len(hosts))]
    labels = {name: dict(of) for name, (of, _) in zip(names, hosts, strict=True)}
    if guests_of is not None:
        for name in names[guests_of + 1 :: 3]:
            labels[name]["hypervisor"] = names[min(guests_of, len(names) - 1)]
    limits = tuple(PlaceBound(key=key, count=count) for key, count in bounds.items())
    policy = replace(policy_of(parse_spec(PACED.replace("IN_FLIGHT", "2"), "paced.yaml"), (1.0,)))
    policy = replace(policy, max_in_flight=flying, max_unavailable=limits)
    occupancy, turns = Occupancy(), Turns()
    for position, name in enumerate(names):
        occupancy.set(name, labels[name], moving=False, away=False)
        turns.add(name, 0, tuple(labels[name].get(bound.key) for bound in limits), position)
    moving: dict[str, int] = {}
    now = 0
    while turns.waiting or moving:
        count = 10**6 if flying is None else flying - len(moving)
        for name in next_turns(turns, occupancy, limits, last_wave=0, count=count).hosts:
            turns.leave(name)
            occupancy.set(name, labels[name], moving=True, away=False)
            moving[name] = now + hosts[names.index(name)][1]
        now = min(moving.values())
        for name in [one for one, end in moving.items() if end == now]:
            del moving[name]
            occupancy.set(name, labels[name], moving=False, away=False)
    assert now <= 9 * walks_at_most(policy, names, labels)
