"""What a plan says of hangs that nothing would end on hosts with their own disk, and when it refuses."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from engine_parts import TEXT, ManualClock, Parts, host, walked
from own_boot import WATCHDOG, own_boot

from controller.domain.hosts.host import Host
from controller.domain.hosts.loaders import HostWatchdog
from controller.domain.planning.own_disks import DELIVERY
from controller.domain.record.effects import ArmKernel, Effect
from controller.domain.record.journey import Step
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
OLDER = "it does not tell whether a watchdog would end a hang. Bring a newer kernroll-boot there"


def own_disk(name: str, watchdog: HostWatchdog | None) -> Host:
    return replace(host(name), boot=own_boot(name, refusals=(), watchdog=watchdog))


async def disks() -> Parts:
    """Return a fleet of one host with a gap, two that are too old to tell, one without any, and a virtual machine."""
    parts = await Parts(clock=ManualClock()).start()
    well = own_disk("well", replace(WATCHDOG, gaps=()))
    for one in (own_disk("gap", WATCHDOG), own_disk("old", None), own_disk("older", None), well, host("vm")):
        await parts.sessions.connected(parts.stream(one.name), one)
    parts.operations.delivery_of = lambda one: DELIVERY if one.boot else "hypervisor"
    return parts


async def plan(parts: Parts, *lines: str) -> PlanView:
    return await parts.operations.plan(SPEC + "".join(f"  {line}\n" for line in lines), "trial.yaml")


GAP = "gap: the driver comes late. Add it to the RAM disk."


def said(sentences: Iterable[str]) -> list[str]:
    """Return what is said of hangs."""
    return [one for one in sentences if GAP in one or OLDER in one]


async def test_where_a_watchdog_is_required_hosts_without_one_block_the_plan_each_with_cause_and_remedy() -> None:
    view = await plan(await disks(), "limits: {watchdog: required}")
    found = sorted(said(view.blockers))
    assert found[0] == GAP
    assert found[1].startswith(f"old and older: {OLDER}")
    assert (len(found), said(view.notes)) == (2, [])


@pytest.mark.parametrize("lines", [(), ("limits: {watchdog: wanted}",)])
async def test_by_default_it_is_only_told(lines: tuple[str, ...]) -> None:
    view = await plan(await disks(), *lines)
    found = sorted(said(view.notes))
    assert found[0] == f"A hang may not end by itself on {GAP}"
    assert found[1].startswith(f"A hang may not end by itself on old and older: {OLDER}")
    assert (len(found), said(view.blockers)) == (2, [])


async def test_where_it_is_ignored_nothing_is_said() -> None:
    view = await plan(await disks(), "limits: {watchdog: ignored}")
    assert said((*view.blockers, *view.notes)) == []


@pytest.mark.parametrize(("asked", "required"), [("required", True), ("wanted", False)])
async def test_a_kernel_is_armed_by_what_the_plan_required(asked: str, required: bool) -> None:
    before = await walked(Step.ARM, TEXT.replace("  limits:\n", f"  limits:\n    watchdog: {asked}\n"))
    submitted: list[Effect] = []
    parts = Parts(before.disk, before.clock)
    parts.engine.on_effects = submitted.extend
    await parts.start()
    assert [one.require_watchdog for one in submitted if isinstance(one, ArmKernel)] == [required]
