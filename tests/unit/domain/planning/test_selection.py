"""Who takes part in a rollout, in which order, and what keeps it from starting."""

import pytest
from candidates import candidate, changed
from growth import steps

from controller.domain.planning.selection import HostCandidate, WavePlan, plan_waves
from controller.domain.record.journey import Role
from controller.domain.spec.document import RolloutSpec
from controller.domain.spec.parse import parse_spec

SPEC = """\
apiVersion: kernroll/v1
kind: Rollout
metadata: {{name: test}}
spec:
  kernels:
    x86_64: {{debian: {{version: "7.1.13"}}}}
    arm64: {{debian: {{version: "7.1.13"}}}}
  workloads:
    swap_mount: {{device: {{brd_size: 1TiB}}}}
{extra}
"""


def spec(*lines: str) -> RolloutSpec:
    return parse_spec(SPEC.format(extra="\n".join(f"  {line}" for line in lines)), "test.yaml")


def hosts(count: int, architecture: str = "x86_64", platform: str = "vm", **labels: str) -> list[HostCandidate]:
    return [
        candidate(
            f"{architecture.replace('_', '-')}-{platform}-{index:03}",
            f"{architecture}/{platform}",
            labels=labels,
            release="7.0.13+deb13-cloud-amd64",
        )
        for index in range(count)
    ]


def names(plan: WavePlan, role: Role = Role.TREATED) -> list[list[str]]:
    return [[host.host for host in wave.hosts if host.role is role] for wave in plan.waves]


FLEET = hosts(2) + hosts(1, "arm64")


def test_one_host_of_each_stratum_first_then_the_rest() -> None:
    plan = plan_waves(spec(), FLEET, "salt")
    assert [len(wave.hosts) for wave in plan.waves] == [2, 1]
    assert [wave.number for wave in plan.waves] == [1, 2]
    assert {host.stratum for host in plan.waves[0].hosts} == {"x86_64/vm", "arm64/vm"}
    assert (plan.blockers, plan.notes, plan.seed) == ((), (), "salt")
    assert plan.strata == {"arm64/vm": 1, "x86_64/vm": 2}


def test_the_plan_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    many = hosts(50)
    first = plan_waves(spec(), many, "salt")
    assert plan_waves(spec(), list(reversed(many)), "salt") == first
    assert plan_waves(spec(), many, "pepper").waves != first.waves
    assert plan_waves(spec("salt: pepper"), many, "salt").seed == "pepper"


def test_another_host_does_not_change_the_order_of_the_others() -> None:
    many = hosts(50)
    before = [name for wave in names(plan_waves(spec(), many, "s")) for name in wave]
    after = [name for wave in names(plan_waves(spec(), many[:-1], "s")) for name in wave]
    assert after == [name for name in before if name != many[-1].name]


def test_shares_count_the_earlier_waves() -> None:
    plan = plan_waves(
        spec("waves: [{per_stratum: 1}, {percent: 5}, {percent: 25}, {rest: true}]"),
        hosts(100) + hosts(3, "arm64"),
        "s",
    )
    sizes = [[sum(host.stratum == stratum for host in wave.hosts) for wave in plan.waves] for stratum in plan.strata]
    assert sizes == [[1, 0, 0, 2], [1, 4, 20, 75]]


def test_empty_waves_are_left_out_and_hosts_that_no_wave_reaches_are_told() -> None:
    plan = plan_waves(spec(), hosts(1), "s")
    assert [len(wave.hosts) for wave in plan.waves] == [1]
    assert plan.notes == (
        "The kernel for arm64 is not used: no host of that architecture is selected.",
        "1 of 2 waves would be empty and is left out.",
    )
    short = plan_waves(spec("waves: [{per_stratum: 1}]"), FLEET, "s")
    assert short.notes == ("1 host would stay on the old kernel: the waves do not reach them.",)


def test_selection_by_fact_label_and_name() -> None:
    fleet = FLEET + [changed(host, name=f"b-{host.name}", labels={"zone": "b"}) for host in FLEET]
    assert plan_waves(spec("selector: {match: {zone: b}}"), fleet, "s").strata == {"arm64/vm": 1, "x86_64/vm": 2}
    assert plan_waves(spec("selector: {match: {architecture: [arm64]}}"), fleet, "s").strata == {"arm64/vm": 2}
    assert plan_waves(spec("selector: {hosts: [b-arm64-vm-000]}"), fleet, "s").strata == {"arm64/vm": 1}
    assert plan_waves(spec("selector: {match: {platform: metal}}"), fleet, "s").strata == {}


def test_a_label_cannot_hide_a_fact() -> None:
    liar = changed(hosts(1, "arm64")[0], labels={"architecture": "x86_64"})
    assert plan_waves(spec("selector: {match: {architecture: x86_64}}"), [liar], "s").strata == {}


def test_a_selector_knows_every_fact_by_name() -> None:
    fleet = [changed(host, firmware=firmware) for host, firmware in zip(hosts(3), ("uefi", "bios", ""), strict=True)]
    assert names(plan_waves(spec("selector: {match: {firmware: [uefi], arch: x86_64}}"), fleet, "s")) == [
        [fleet[0].name]
    ]
    (blocker,) = plan_waves(spec("selector: {match: {firmware: [devicetree]}}"), fleet, "s").blockers
    assert blocker.endswith("firmware is bios and uefi there.")


def test_labels_split_strata() -> None:
    fleet = hosts(1, zone="a") + [changed(host, name="other") for host in hosts(1)]
    plan = plan_waves(spec("strata: {labels: [zone]}"), fleet, "s")
    assert plan.strata == {"x86_64/vm/zone=?": 1, "x86_64/vm/zone=a": 1}
    assert "other has no label zone; the stratum says zone=?." in plan.notes


@pytest.mark.parametrize(
    ("line", "fleet", "blocker"),
    [
        ("", [], "No host is enrolled."),
        (
            "selector: {match: {zone: c}}",
            hosts(1, zone="a") + hosts(1, "arm64", zone="b"),
            "The selector matches none of the 2 enrolled hosts. zone is a and b there.",
        ),
        (
            "selector: {match: {rack: c}}",
            hosts(2),
            "The selector matches none of the 2 enrolled hosts. None of them has the label rack.",
        ),
        ("selector: {hosts: [gone, x86-64-vm-000]}", hosts(1), "gone is not enrolled."),
        (
            "",
            hosts(1, "riscv64"),
            "riscv64-vm-000 is riscv64, for which the spec has no kernel: add kernels.riscv64 or select other hosts.",
        ),
        ("", [changed(host, connected=False) for host in hosts(2)], "x86-64-vm-000, x86-64-vm-001 are not connected."),
        (
            "",
            [changed(host, connected=False) for host in hosts(8)],
            "x86-64-vm-000, x86-64-vm-001, x86-64-vm-002, x86-64-vm-003, x86-64-vm-004 and 3 others are not connected.",
        ),
        (
            "",
            [changed(host, rollout="other") for host in hosts(1)],
            "x86-64-vm-000 is held by the active rollout other.",
        ),
        (
            'from: {x86_64: {version: "7.0.1"}}',
            hosts(1),
            "x86-64-vm-000 runs 7.0.13+deb13-cloud-amd64, but the spec expects 7.0.1.",
        ),
        (
            'from: {x86_64: {release: "6.18.*"}}',
            hosts(1),
            "x86-64-vm-000 runs 7.0.13+deb13-cloud-amd64, but the spec expects 6.18.*.",
        ),
        ("", hosts(1) + hosts(1), "x86-64-vm-000 is listed twice."),
    ],
)
def test_blockers(line: str, fleet: list[HostCandidate], blocker: str) -> None:
    lines = [line] if line else []
    assert plan_waves(spec(*lines), fleet, "s").blockers == (
        blocker.replace("000, x86-64-vm-001 are", "000 and x86-64-vm-001 are"),
    )


@pytest.mark.parametrize("wanted", ['version: "7.0.13"', 'release: "7.0.13*"', 'version: "7.0.13+deb13"'])
def test_hosts_that_run_what_is_expected_do_not_block(wanted: str) -> None:
    assert plan_waves(spec(f"from: {{x86_64: {{{wanted}}}}}"), hosts(1), "s").blockers == ()


def test_a_host_of_the_same_rollout_does_not_block() -> None:
    assert plan_waves(spec(), [changed(host, rollout="test") for host in hosts(1)], "s").blockers == ()


def test_the_work_of_planning_grows_with_the_fleet_and_no_faster() -> None:
    rollout = spec("waves: [{per_stratum: 1}, {percent: 1}, {percent: 5}, {percent: 25}, {rest: true}]")
    (one,) = hosts(1)
    fleet = [changed(one, name=f"host-{index:06}", platform=f"p{index % 7}") for index in range(4_000)]
    half, whole = (steps(lambda size=size: plan_waves(rollout, fleet[:size], "s")) for size in (2_000, 4_000))
    assert whole < 2.1 * half
    assert sum(len(wave.hosts) for wave in plan_waves(rollout, fleet, "s").waves) == 4_000
