"""A plan leaves hosts out and refuses kernels, and says of each why."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from engine_parts import KERNEL, ManualClock, Parts, host
from fake_power import FakePower

from controller.domain.caller import Caller
from controller.domain.errors import InvalidInput, Permanent
from controller.domain.hosts.host import Host, SwapDevice
from controller.views.plan_models import PlanView

SPEC = """\
apiVersion: kernroll/v1
kind: Rollout
metadata: {name: trial}
spec:
  kernels:
    x86_64: {debian: {version: "7.1.13"}}
  workloads:
    swap_mount: {device: {brd_size: 1TiB}, repetitions: 4}
"""
SWAP = (SwapDevice(path="/dev/nvme0n1", size_bytes=2**40, used_bytes=0, backend="nvme"),)


async def fleet(*hosts: Host) -> Parts:
    parts = await Parts(clock=ManualClock()).start()
    for one in hosts:
        await parts.sessions.connected(parts.stream(one.name), one)
    return parts


async def three() -> Parts:
    return await fleet(host("a"), replace(host("b"), labels={"zone": "b"}), replace(host("c"), swap_devices=SWAP))


async def plan(parts: Parts, *lines: str) -> PlanView:
    return await parts.operations.plan(SPEC + "".join(f"  {line}\n" for line in lines), "trial.yaml")


def chosen(view: PlanView) -> set[str]:
    return {name for wave in view.waves for name in wave.hosts}


async def test_an_expression_selects() -> None:
    parts = await three()
    view = await plan(parts, "selector: {where: 'swap_total >= TiB(1) || zone == \"b\"'}")
    assert (chosen(view), view.blockers) == ({"b", "c"}, ())
    view = await plan(parts, "selector: {where: 'swap_total > TiB(1)'}")
    assert view.blockers == ("The selector matches none of the 3 enrolled hosts.",)
    # Every condition must hold.
    view = await plan(parts, "selector: {hosts: [a, b], where: 'swap_total == 0', match: {zone: b}}")
    assert chosen(view) == {"b"}


async def test_hosts_that_no_delivery_reaches_are_refused_and_the_others_are_pinned() -> None:
    parts = await three()
    parts.operations.delivery_of = lambda host: "" if host.name == "c" else "hypervisor"
    view = await plan(parts, "strata: {labels: []}")
    assert view.blockers == (
        "No delivery of this controller reaches c, so no kernel could be brought there or taken back. Hosts that "
        "start from their own disk need kernroll-boot (`kernroll hosts enroll`) and a controller with --inventory; "
        "`kernroll lab status` lists the virtual machines that it serves.",
    )
    await parts.operations.start(SPEC + "  selector: {hosts: [a, b]}\n", "f", Caller("olga"))
    (attempts,) = parts.engine.world.attempts.values()
    assert {one.host: one.delivered_by for one in attempts.values()} == {"a": "hypervisor", "b": "hypervisor"}
    # As pinned, whatever is chosen now.
    parts.operations.delivery_of = lambda _host: "another"
    assert parts.engine.delivery_of("a", "") == "hypervisor"


async def test_where_a_host_serves_is_pinned_as_well() -> None:
    parts = await three()
    parts.operations.place_of = lambda host: "cluster" if host.name == "a" else ""
    await parts.operations.start(SPEC + "  strata: {labels: []}\n", "f", Caller("olga"))
    (attempts,) = parts.engine.world.attempts.values()
    assert {one.host: one.place for one in attempts.values()} == {"a": "cluster", "b": "", "c": ""}


async def test_hosts_whose_power_cannot_be_cut_are_told_and_rolled_all_the_same() -> None:
    parts = await three()
    power = FakePower("a")
    parts.operations.without_power = power.without
    wanted = "limits: {power_cycle: once}"
    view = await plan(parts, wanted)
    told = (
        "limits.power_cycle: b and c have no kernroll_power in the controller's inventory: one that neither boots nor "
        "falls back stays lost"
    )
    assert (told in view.notes, view.blockers, chosen(view)) == (True, (), {"a", "b", "c"})
    assert not any("power" in note for note in (await plan(parts)).notes)
    power.on = dict.fromkeys("abc", True)
    assert not any("power" in note for note in (await plan(parts, wanted)).notes)

    async def unreadable(_hosts: Sequence[str]) -> tuple[str, ...]:
        raise Permanent("inventory.yaml: no such file or directory")

    parts.operations.without_power = unreadable
    view = await plan(parts, wanted)
    told = "limits.power_cycle: whose power can be cut is not known now: inventory.yaml: no such file or directory"
    assert (told in view.notes, view.blockers) == (True, ())


async def test_labels_set_by_hand_select_too() -> None:
    parts = await three()
    await parts.operations.fleet.label("a", {"zone": "b"}, (), Caller("olga"))
    assert chosen(await plan(parts, "selector: {where: 'zone == \"b\"'}")) == {"a", "b"}
    assert chosen(await plan(parts, "selector: {match: {zone: b}}")) == {"a", "b"}
    assert set((await plan(parts, "strata: {labels: [zone]}")).waves[0].hosts) > {"c"}


async def test_a_host_that_an_expression_cannot_decide_on_is_named() -> None:
    view = await plan(await three(), "selector: {where: 'labels.zone == \"b\"'}")
    assert chosen(view) == {"b"}
    assert "a and c have no label zone: left out." in view.notes


async def test_a_wrong_expression_is_refused_with_line_and_column() -> None:
    with pytest.raises(InvalidInput) as caught:
        await plan(await three(), "selector:", "  where: 'archx == 5'")
    assert str(caught.value).startswith(
        "trial.yaml:10: spec.selector.where: column 1: archx is no fact of a host; did you mean arch?"
    )


async def test_a_host_in_quarantine_is_left_out_and_named() -> None:
    parts = await three()
    await parts.operations.fleet.quarantine("b", "memory errors", Caller("olga"))
    view = await plan(parts)
    assert (chosen(view), view.blockers) == ({"a", "c"}, ())
    assert "b is left out: in quarantine by olga: memory errors." in view.notes
    # It is no matter of a rollout that does not mean it.
    assert not [note for note in (await plan(parts, "selector: {hosts: [a]}")).notes if "quarantine" in note]
    only = await plan(parts, "selector: {hosts: [b]}")
    assert only.blockers == ("Every host that the selector matches is left out.",)


@pytest.mark.parametrize("rule", [KERNEL.release, KERNEL.digest, "7.1.*"])
async def test_a_kernel_that_is_denied_blocks_until_it_is_allowed(rule: str) -> None:
    parts = await three()
    await parts.operations.fleet.deny(rule, "", "corrupts", Caller("olga"))
    told = f"{KERNEL.release} is denied by olga: corrupts; `kernroll hosts allow {rule}` takes that back."
    assert (await plan(parts)).blockers == (told,)
    await parts.operations.fleet.allow(rule, None, "fixed", Caller("olga"))
    assert (await plan(parts)).blockers == ()


async def test_a_kernel_that_is_denied_somewhere_does_not_reach_those_hosts() -> None:
    parts = await three()
    await parts.operations.fleet.deny(KERNEL.release, "swap_total >= TiB(1)", "hangs", Caller("olga"))
    view = await plan(parts)
    assert (chosen(view), view.blockers) == ({"a", "b"}, ())
    assert f"c is left out: {KERNEL.release} is denied where swap_total >= TiB(1) by olga: hangs." in view.notes, (
        view.notes
    )
    # What the host does not tell may be so: the rule holds.
    await parts.operations.fleet.deny(KERNEL.release, 'firmware == "uefi"', "bricks", Caller("olga"))
    assert chosen(await plan(parts)) == set()
    assert (await plan(parts)).blockers == ("Every host that the selector matches is left out.",)


async def test_another_kernel_is_not_denied() -> None:
    parts = await three()
    await parts.operations.fleet.deny("7.1.12", "", "corrupts", Caller("olga"))
    assert (await plan(parts)).blockers == ()


async def test_old_against_old_changes_no_kernel_and_so_is_not_refused() -> None:
    parts = await three()
    await parts.operations.fleet.deny(KERNEL.release, "", "corrupts", Caller("olga"))
    view = await parts.operations.plan(SPEC, "trial.yaml", aa=True)
    assert (chosen(view), view.blockers) == ({"a", "b", "c"}, ())


async def test_what_a_release_hides_is_read_from_the_kernels_version_or_takes_consent() -> None:
    # Debian's 7.1.0-44-amd64 may be older or newer than 7.1.13; the second one says which.
    old, new = (f"#1 SMP PREEMPT_DYNAMIC Debian {version}-1 (2026-11-20)" for version in ("7.1.9", "7.1.20"))
    told = (("a", "#1 SMP"), ("b", old), ("c", new))
    parts = await fleet(
        *(replace(host(name, release="7.1.0-44-amd64"), kernel_version=version) for name, version in told)
    )
    assert (await plan(parts)).blockers == (
        f"a runs 7.1.0-44-amd64, and whether {KERNEL.release} is older cannot be told: "
        "spec.allow_downgrade: true consents to that.",
        f"c runs 7.1.0-44-amd64, and {KERNEL.release} is older: spec.allow_downgrade: true consents to that.",
    )


async def test_a_host_whose_platform_nobody_knows_is_told() -> None:
    parts = await fleet(host("a"), replace(host("b"), platform="unknown"))
    assert [note for note in (await plan(parts)).notes if "unknown" in note] == [
        "Whether b is metal, a virtual machine or emulated the agent cannot tell, so it is a stratum of platform "
        '"unknown": set platform in its agent.toml.'
    ]
    assert not any("unknown" in note for note in (await plan(parts, "selector: {hosts: [a]}")).notes)


async def test_an_older_kernel_takes_consent() -> None:
    parts = await fleet(host("a"), host("b", release="7.2.0-rc1"), host("c", release="custom"))
    assert (await plan(parts)).blockers == (
        f"b runs 7.2.0-rc1, and {KERNEL.release} is older: spec.allow_downgrade: true consents to that.",
        f"c runs custom, and whether {KERNEL.release} is older cannot be told: "
        "spec.allow_downgrade: true consents to that.",
    )
    assert (await plan(parts, "allow_downgrade: true")).blockers == ()
    assert (await plan(parts, "selector: {hosts: [a]}")).blockers == ()


async def test_a_host_of_another_rollout_is_named_also_when_an_expression_selects_it() -> None:
    parts = await three()
    await parts.operations.start(SPEC + "  selector: {hosts: [b]}\n", "first.yaml", Caller("olga"))
    text = SPEC.replace("trial", "second") + "  selector: {where: 'zone == \"b\"'}\n"
    view = await parts.operations.plan(text, "second.yaml")
    assert view.blockers == ("b is held by the active rollout trial.",)
    # Hosts that are free can be asked for.
    text = SPEC.replace("trial", "second") + "  selector: {where: 'rollout == \"\"'}\n"
    assert chosen(await parts.operations.plan(text, "second.yaml")) == {"a", "c"}


async def zones() -> Parts:
    hosts = [replace(host(f"{zone}{number}"), labels={"zone": zone}) for zone in "ab" for number in range(4)]
    return await fleet(*hosts, host("c"))


async def test_waves_go_zone_by_zone() -> None:
    waves = (
        "waves:",
        "  - {where: 'zone == \"a\"', per_stratum: 1, bake: 1h}",
        "  - {where: 'zone == \"a\"', percent: 75, bake: 1h}",
        "  - {where: 'zone == \"a\"', rest: true, bake: 1h}",
        "  - {where: 'zone == \"b\"', percent: 50, bake: 1h}",
        "  - {percent: 70, bake: 1h}",
        "  - {rest: true, bake: 1h}",
    )
    view = await plan(await zones(), *waves)
    assert view.blockers == ()
    assert [len(wave.hosts) for wave in view.waves] == [1, 2, 1, 2, 1, 2]
    first_zone = {name for wave in view.waves[:3] for name in wave.hosts}
    assert first_zone == {"a0", "a1", "a2", "a3"}
    assert all(name.startswith("b") for name in view.waves[3].hosts)
    assert chosen(view) == {*first_zone, "b0", "b1", "b2", "b3", "c"}


async def test_hosts_that_no_wave_is_meant_for_are_told() -> None:
    parts = await zones()
    view = await plan(parts, "waves: [{where: 'labels.zone == \"a\"', rest: true}]")
    assert len(chosen(view)) == 4
    assert "5 hosts would stay on the old kernel: the waves do not reach them." in view.notes
    assert "Wave 1: c has no label zone: left out." in view.notes
    # What is not selected is no wave's matter.
    view = await plan(
        parts, "selector: {where: 'has(labels.zone)'}", "waves: [{where: 'labels.zone == \"a\"', rest: true}]"
    )
    assert not [note for note in view.notes if note.startswith("Wave")]


async def test_hosts_that_are_compared_go_in_a_wave_that_is_meant_for_both() -> None:
    waves = ("waves:", "  - {where: 'zone == \"a\"', rest: true, bake: 1h}", "  - {rest: true, bake: 1h}")
    view = await plan(await zones(), *waves, "design: two_arms", "controls: {per_stratum: 1}")
    assert len(chosen(view)) == 9
    assert sum(len(wave.hosts) for wave in view.waves) == 9
    assert all(name.startswith("a") for name in view.waves[0].hosts)
    pairs = [{member.host for member in wave.compared} for wave in view.waves]
    assert sum(map(len, pairs)) == 2
    assert all(pair <= set(wave.hosts) for pair, wave in zip(pairs, view.waves, strict=True))
