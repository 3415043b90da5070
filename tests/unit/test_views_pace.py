"""What a plan says about its speed and length."""

from simulated_fleet import SPEC

from controller.domain.policy import PlaceBound, WavePolicy, policy_of
from controller.domain.selection import HostCandidate, plan_waves
from controller.domain.spec import RolloutSpec, parse_spec
from controller.views.pace import pace_sentences

PACED = SPEC.replace("  claim:", '  windows: [{days: [thu], from: "01:00", to: "03:00", zone: UTC}]\n  claim:').replace(
    "ON_REFUTED", "pause"
)


def candidates(count: int) -> list[HostCandidate]:
    return [
        HostCandidate(
            name=f"h{number}",
            stratum="x86_64/vm",
            architecture="x86_64",
            labels={"zone": "ab"[number % 2]},
            connected=True,
            kernel_release="7.0.13",
        )
        for number in range(count)
    ]


def told(text: str, count: int = 5, waves: tuple[WavePolicy, ...] | None = None) -> tuple[str, ...]:
    spec: RolloutSpec = parse_spec(text, "paced.yaml")
    hosts = candidates(count)
    plan = plan_waves(spec, hosts, "salt")
    policy = policy_of(spec, tuple(wave.bake_s for wave in plan.waves), waves=waves)
    return pace_sentences(policy, plan, {host.name: host.labels for host in hosts}, 1000.0)


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
        "It takes at least 2 min (the soak times alone) and at most 29 min 30 s (every limit used up, within "
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
    assert "at most 49 min 30 s" in told(PACED.replace("IN_FLIGHT", "2") + checks)[-1]
