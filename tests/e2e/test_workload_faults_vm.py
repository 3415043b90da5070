"""What can happen to a workload, in a real VM: each ends in a defined result, on a clean host, with no report lost.

One guest serves all tests; where a test restarts it, the next one finds it as a restart leaves it. The agent says in
its progress what it is doing, and a fault comes when it says so; that the fault hit the phase is told by the outcome.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fault_cases import CASES, LARGE, MAKEFILE, MIB, sweep_on, zram
from faulty_guest import FaultyGuest, faulty_guest, tarball

from agent.workloads.registry import KINDS
from controller.gate.kernel_log import Severity, classify
from protos.kernroll.v1 import agent_pb2, common_pb2, workloads_pb2

# Twenty minutes of an otherwise idle machine, so they are left out of `make test`.
pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

KERNEL = "6.18.15"
# A disk in a slot of its own, which can be pulled out.
HOT_DEVICE, HOT_SERIAL = "hotdisk", "kernroll-hot"
Outcome = agent_pb2.CommandOutcome
OK, DIED = common_pb2.RUN_STATUS_OK, common_pb2.RUN_STATUS_DIED
# A panic on purpose is a fault itself; tests of rollouts have it. Any other that has no case here fails.
kinds = pytest.mark.parametrize("kind", [each for each in KINDS if each != "panic_drill"])


def order_of(kind: str) -> agent_pb2.RunWorkload:
    workload = agent_pb2.RunWorkload(preset=workloads_pb2.PRESET_SMALL)
    workload.MergeFrom(CASES[kind].workload)
    return workload


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultyGuest]:
    """The guest of all tests."""
    seed = {"linux.tar": tarball({"Makefile": MAKEFILE, "Kconfig": "", "large.c": LARGE})}
    directory = tmp_path_factory.mktemp("faults")
    disk = directory / "hot.img"
    disk.touch()
    os.truncate(disk, 256 * MIB)
    more = (
        *("-device", "pcie-root-port,id=slot0,chassis=1", "-drive", f"if=none,id=hot,file={disk},format=raw"),
        *("-device", f"nvme,drive=hot,bus=slot0,id={HOT_DEVICE},serial={HOT_SERIAL}"),
    )
    async with faulty_guest(directory, KERNEL, seed=seed, more_qemu=more) as started:
        yield started


# Phase -> warm-ups ordered, and what the outcome then says, and the runs that are reported.
PHASES = {
    "prepare": (0, "while it prepared", []),
    "warm-up": (1, "during warm-up 0", [DIED]),
    "run": (1, "during run 1", [OK, DIED]),
    "clean up": (0, "while it cleaned up", [OK]),
}
# A command may be over before the fault arrives; then it is not what was asked for.
ATTEMPTS = 4


@kinds
@pytest.mark.parametrize("phase", PHASES)
async def test_killed_agent(guest: FaultyGuest, kind: str, phase: str) -> None:
    case = CASES[kind]
    warmups, said, statuses = PHASES[phase]
    step = case.preparing if phase == "prepare" else case.running
    # A clean-up is shorter than the way of a message, so that the guest itself waits for it.
    fault = "kill_agent_cleaning_up" if phase == "clean up" else "kill_agent"
    # Nothing is acknowledged, so that every report must outlive the agent.
    guest.controller.acknowledges = False
    for _ in range(ATTEMPTS):
        command = guest.order(order_of(kind), warmups=warmups)
        await guest.reaches(command, step, beyond=0.5 if phase == "run" else 0.0)
        sessions = len(guest.controller.hellos)
        if await guest.hands.ask(fault):
            await guest.joined_after(sessions)
        outcome = await guest.ended(command)
        if said in outcome.detail:
            break
    assert outcome.status == Outcome.STATUS_DIED
    assert outcome.detail == f"the agent was killed {said}; cleaned up since"
    runs = guest.runs(command)
    assert [run.status for run in runs] == statuses, [run.error for run in runs]
    assert all(run.samples for run in runs if run.status == OK)
    await guest.assert_nothing_lost()
    await guest.assert_clean()


@kinds
async def test_cancelled_in_a_run(guest: FaultyGuest, kind: str) -> None:
    command = guest.order(order_of(kind))
    await guest.reaches(command, CASES[kind].running)
    guest.cancel(command)
    outcome = await guest.ended(command)
    assert (outcome.status, outcome.detail) == (Outcome.STATUS_CANCELLED, "cancelled")
    assert [run.status for run in guest.runs(command)] == [common_pb2.RUN_STATUS_CANCELLED]
    await guest.assert_clean()


@pytest.mark.parametrize("kind", ["valkey_get", "kernel_build"])
async def test_cancelled_while_it_prepares(guest: FaultyGuest, kind: str) -> None:
    command = guest.order(order_of(kind))
    await guest.reaches(command, CASES[kind].preparing)
    guest.cancel(command)
    outcome = await guest.ended(command)
    assert (outcome.status, outcome.detail) == (Outcome.STATUS_CANCELLED, "cancelled")
    assert guest.runs(command) == []
    await guest.assert_clean()


@contextlib.asynccontextmanager
async def full_disk(guest: FaultyGuest) -> AsyncIterator[None]:
    """Let the disk be full to the last block within the context."""
    assert await guest.hands.ask("fill_disk") > 0
    try:
        yield
    finally:
        await guest.hands.ask("free_disk")


async def test_full_disk_before_a_command(guest: FaultyGuest) -> None:
    async with full_disk(guest):
        command = guest.order(order_of("anon_sweep"))
        outcome = await guest.ended(command)
        await guest.assert_clean()
    assert outcome.status == Outcome.STATUS_INFRASTRUCTURE
    assert "No space left on device" in outcome.detail
    assert guest.runs(command) == []


async def test_disk_that_fills_in_a_run_costs_no_sample_and_leaves_nothing(guest: FaultyGuest) -> None:
    command = guest.order(order_of("anon_sweep"))
    await guest.reaches(command, CASES["anon_sweep"].running)
    async with full_disk(guest):
        outcome = await guest.ended(command)
        await guest.assert_clean_but("leftovers")
        assert outcome.status == Outcome.STATUS_COMPLETED, outcome.detail
        (run,) = guest.runs(command)
        assert run.samples
    # The next command writes down what could not be written.
    assert (await guest.ended(guest.order(order_of("swap_mount")))).status == Outcome.STATUS_COMPLETED
    await guest.assert_clean()


async def test_disk_that_fills_under_a_server_that_saves(guest: FaultyGuest) -> None:
    command = guest.order(order_of("valkey_get"))
    await guest.reaches(command, CASES["valkey_get"].running)
    async with full_disk(guest):
        outcome = await guest.ended(command)
        await guest.assert_clean_but("leftovers")
    assert outcome.status == Outcome.STATUS_INFRASTRUCTURE
    assert "a background save failed; is there room" in outcome.detail
    # The next agent finds nothing to take down, and room to say so.
    await guest.returns(lambda: guest.hands.ask("kill_agent"))
    await guest.assert_clean()


async def test_disk_that_fills_under_swap(guest: FaultyGuest) -> None:
    """A sparse file cannot grow, so pages cannot leave memory, and the limit is below what the processes hold."""
    command = guest.order(sweep_on(workloads_pb2.SwapSource(kind=workloads_pb2.SWAP_KIND_LOOP, size_bytes=64 * MIB)))
    await guest.reaches(command, "writing everything once")
    async with full_disk(guest):
        outcome = await guest.ended(command)
        await guest.assert_clean_but("leftovers")
    assert outcome.status in (Outcome.STATUS_DIED, Outcome.STATUS_INFRASTRUCTURE), outcome
    await guest.returns(lambda: guest.hands.ask("kill_agent"))
    await guest.assert_clean()


async def test_killed_agent_on_a_full_disk(guest: FaultyGuest) -> None:
    command = guest.order(order_of("anon_sweep"), warmups=1)
    await guest.reaches(command, CASES["anon_sweep"].running, beyond=0.5)
    async with full_disk(guest):
        await guest.returns(lambda: guest.hands.ask("kill_agent"))
        outcome = await guest.ended(command)
        await guest.assert_clean_but("leftovers")
    assert outcome.detail == "the agent was killed during run 1; cleaned up since"
    assert [run.status for run in guest.runs(command)] == [OK, DIED]
    await guest.returns(lambda: guest.hands.ask("kill_agent"))
    await guest.assert_clean()


async def test_server_that_the_kernel_kills_for_memory(guest: FaultyGuest) -> None:
    command = guest.order(order_of("valkey_get"), warmups=1)
    await guest.reaches(command, CASES["valkey_get"].running, beyond=0.5)
    await guest.hands.ask("starve", 4 * MIB)
    outcome = await guest.ended(command)
    assert outcome.status == Outcome.STATUS_DIED
    assert "killed for memory" in outcome.detail
    assert [run.status for run in guest.runs(command)] == [OK, DIED]
    await guest.assert_clean()


RESTARTED = {
    # What a restart does not take with it: a file, a directory, a header on a disk.
    "loop": sweep_on(workloads_pb2.SwapSource(kind=workloads_pb2.SWAP_KIND_LOOP, size_bytes=64 * MIB)),
    "block device": sweep_on(
        workloads_pb2.SwapSource(kind=workloads_pb2.SWAP_KIND_BLOCK_DEVICE, path="/dev/kernroll-swap")
    ),
    "kernel_build": CASES["kernel_build"].workload,
}


@pytest.mark.parametrize("name", RESTARTED)
async def test_restarted_in_the_middle(guest: FaultyGuest, name: str) -> None:
    workload = agent_pb2.RunWorkload(preset=workloads_pb2.PRESET_SMALL)
    workload.MergeFrom(RESTARTED[name])
    boot = guest.controller.hellos[-1].facts.boot_id
    command = guest.order(workload)
    await guest.reaches(command, "building" if name == "kernel_build" else "sequential pass 1")
    await guest.returns(lambda: guest.hands.last_word("reset"))
    outcome = await guest.ended(command)
    assert outcome.status == Outcome.STATUS_DIED
    assert outcome.detail == "the host was restarted during run 0; cleaned up since"
    assert [run.status for run in guest.runs(command)] == [DIED]
    reports = [each for each in guest.controller.reports.values() if each.command_id == command]
    assert {each.boot_id for each in reports} == {boot}
    await guest.assert_clean()
    assert await guest.hands.ask("shell", "head -c 4096 /dev/kernroll-swap | tr -d '\\0' | wc -c") == [0, "0"]


async def test_swap_that_somebody_switches_off(guest: FaultyGuest) -> None:
    command = guest.order(sweep_on(zram(512), passes=3))
    await guest.reaches(command, CASES["anon_sweep"].running)
    await guest.hands.ask("shell", "swapoff /dev/zram0")
    outcome = await guest.ended(command)
    # Its memory does not fit any more.
    assert outcome.status == Outcome.STATUS_DIED, outcome
    assert "killed" in outcome.detail
    await guest.assert_clean()


async def test_swap_whose_file_somebody_removes(guest: FaultyGuest) -> None:
    command = guest.order(sweep_on(workloads_pb2.SwapSource(kind=workloads_pb2.SWAP_KIND_LOOP, size_bytes=64 * MIB)))
    await guest.reaches(command, CASES["anon_sweep"].running)
    assert await guest.hands.ask("shell", "rm /var/lib/kernroll/scratch/*.swap") == [0, ""]
    outcome = await guest.ended(command)
    # The loop device holds the file open: nothing is lost but its name.
    assert outcome.status == Outcome.STATUS_COMPLETED, outcome.detail
    await guest.assert_clean()


async def test_a_swap_file_that_is_on_cannot_be_removed(guest: FaultyGuest) -> None:
    command = guest.order(sweep_on(workloads_pb2.SwapSource(kind=workloads_pb2.SWAP_KIND_FILE, size_bytes=64 * MIB)))
    await guest.reaches(command, CASES["anon_sweep"].running)
    status, said = await guest.hands.ask("shell", "rm -f /var/lib/kernroll/scratch/*.swap")
    assert status != 0
    assert "Operation not permitted" in said
    assert (await guest.ended(command)).status == Outcome.STATUS_COMPLETED
    await guest.assert_clean()


async def test_a_panic_is_told_in_the_kernels_own_words(guest: FaultyGuest) -> None:
    boot = guest.controller.hellos[-1].facts.boot_id
    command = guest.order(order_of("anon_sweep"))
    await guest.reaches(command, CASES["anon_sweep"].running)
    await guest.returns(lambda: guest.hands.last_word("shell", "echo c > /proc/sysrq-trigger"))
    assert (await guest.ended(command)).detail == "the host was restarted during run 0; cleaned up since"
    told = [
        record.text
        for each in guest.controller.reports.values()
        if each.boot_id == boot
        for record in each.kernel_log.records
    ]
    assert any(
        text.startswith("kernroll: this boot ended without a shutdown; the kernel kept 200 lines") for text in told
    )
    (fatal,) = {each.line for each in classify(told) if each.severity is Severity.FATAL and "panic" in each.line}
    assert "Kernel panic - not syncing: sysrq triggered crash" in fatal
    await guest.assert_clean()


async def test_a_swap_disk_that_is_pulled_out(guest: FaultyGuest) -> None:
    """The kernel goes on listing it, and nothing but a restart switches off what has no name: the agent says so."""
    disk = await guest.hands.ask("disk", HOT_SERIAL)
    block = workloads_pb2.SwapSource(kind=workloads_pb2.SWAP_KIND_BLOCK_DEVICE, path=disk)
    command = guest.order(sweep_on(block, passes=5))
    await guest.reaches(command, CASES["anon_sweep"].running)
    await asyncio.to_thread(guest.monitor, "device_del", id=HOT_DEVICE)
    outcome = await guest.ended(command)
    assert outcome.status in (Outcome.STATUS_DIED, Outcome.STATUS_INFRASTRUCTURE)
    assert f"{disk} was removed while it was switched on" in outcome.detail
    refused = await guest.ended(guest.order(order_of("anon_sweep")))
    assert refused.status == Outcome.STATUS_INFRASTRUCTURE
    assert "restart the host" in refused.detail
    # The machine has the disk again afterwards.
    await guest.returns(lambda: guest.hands.last_word("reset"))
    assert await guest.hands.ask("disk", HOT_SERIAL)
    await guest.assert_clean()
