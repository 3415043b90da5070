"""The supervisor as the process it is: started, killed, started again, spoken to over its socket."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S

from controller.adapters.delivery.hypervisor.client import call
from controller.adapters.delivery.hypervisor.delivery import HypervisorDelivery
from controller.adapters.delivery.hypervisor.processes import start_supervisor, stop_vm, vm_status
from controller.adapters.delivery.hypervisor.sockets import short_path
from controller.domain.delivery import BootCause, BootEnd, DeliveryStatus
from controller.domain.errors import NotFound, Permanent, Temporary
from controller.domain.kernels import Kernel

MakeVm = Callable[..., Path]
MakeKernel = Callable[..., Kernel]
DEADLINE_S = PATIENCE_S


def starts(vm_dir: Path) -> list[int]:
    """Return the process ids of all stand-in QEMUs that were ever started."""
    file = vm_dir / "starts"
    return [int(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []


def wait_for(vm_dir: Path, wanted: Callable[[DeliveryStatus], bool]) -> DeliveryStatus:
    """Return the first state that is as wanted, starting the supervisor again when it is gone."""

    async def watch() -> DeliveryStatus:
        async with asyncio.timeout(DEADLINE_S):
            async for state in HypervisorDelivery(vm_dir.parent).watch([vm_dir.name]):
                if wanted(state):
                    return state
        raise AssertionError("the watch ended by itself")

    return asyncio.run(watch())


def kill_supervisor(vm_dir: Path) -> None:
    """Kill the supervisor with no chance to say anything."""
    pid = vm_status(vm_dir).supervisor_pid
    assert pid is not None
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    # Readable as soon as the process has ended.
    assert asyncio.run(_readable(fd))
    os.close(fd)


async def _readable(fd: int) -> bool:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    async with asyncio.timeout(DEADLINE_S):
        return await ended.wait()


def trial(vm_dir: Path, kernel: Kernel, *, boot_timeout_s: float = 60.0) -> None:
    """Stage, arm and reboot."""

    async def run() -> None:
        delivery = HypervisorDelivery(vm_dir.parent)
        host = vm_dir.name
        await delivery.stage(host, f"{kernel.digest}-stage", kernel)
        await delivery.arm(
            host, f"{kernel.digest}-arm", kernel.digest, boot_timeout_s=boot_timeout_s, probation_timeout_s=60
        )
        await delivery.reboot(host, f"{kernel.digest}-reboot")

    asyncio.run(run())


def running(vm_dir: Path) -> DeliveryStatus:
    """Start the VM and return its state once QEMU has a console."""
    start_supervisor(vm_dir)
    return console(vm_dir, 1)


def console(vm_dir: Path, number: int) -> DeliveryStatus:
    """Return the state once the console of a boot exists."""
    state = wait_for(vm_dir, lambda s: bool(s.boots) and s.boots[-1].number >= number)
    asyncio.run(_exists(vm_dir / "boots" / str(number) / "console.log"))
    return state


async def _exists(path: Path) -> None:
    async with asyncio.timeout(DEADLINE_S):
        for _ in iter(path.exists, True):
            await asyncio.sleep(0)


def test_a_supervisor_starts_once_and_stops_with_its_machine(make_vm: MakeVm) -> None:
    vm_dir = make_vm("vm1")
    before = vm_status(vm_dir)
    assert (before.switched_on, before.supervisor_pid, before.delivery.default) == (False, None, "old")
    running(vm_dir)
    pid = vm_status(vm_dir).supervisor_pid
    start_supervisor(vm_dir)
    now = vm_status(vm_dir)
    assert (now.switched_on, now.supervisor_pid, len(starts(vm_dir))) == (True, pid, 1)
    # Nobody's child and in a session of its own, so that it outlives whoever started it.
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    stop_vm(vm_dir)
    after = vm_status(vm_dir)
    assert (after.switched_on, after.supervisor_pid, after.delivery.running) == (False, None, None)
    assert after.delivery.boots[-1].end is BootEnd.STOPPED
    with pytest.raises(ProcessLookupError):
        os.kill(starts(vm_dir)[0], 0)
    stop_vm(vm_dir)
    start_supervisor(vm_dir)
    state = wait_for(vm_dir, lambda s: len(s.boots) == 2)
    assert state.boots[-1].cause is BootCause.INITIAL


def test_a_killed_supervisor_adopts_the_running_machine(make_vm: MakeVm) -> None:
    vm_dir = make_vm("vm1")
    running(vm_dir)
    kill_supervisor(vm_dir)
    state = wait_for(vm_dir, lambda s: s.running == "old")
    assert (len(state.boots), len(starts(vm_dir))) == (1, 1)
    # It is really in charge: it ends the machine that it did not start.
    asyncio.run(HypervisorDelivery(vm_dir.parent).reboot("vm1", "c1"))
    wait_for(vm_dir, lambda s: len(s.boots) == 2)
    assert (vm_dir / "boots" / "2").exists()


def test_a_deadline_passes_while_the_supervisor_is_dead(make_vm: MakeVm, make_kernel: MakeKernel) -> None:
    vm_dir = make_vm("vm1")
    running(vm_dir)
    trial(vm_dir, make_kernel("new"), boot_timeout_s=0.5)
    kill_supervisor(vm_dir)
    state = wait_for(vm_dir, lambda s: s.boots[-1].cause is BootCause.FALLBACK)
    assert [boot.end for boot in state.boots[:2]] == [BootEnd.REPLACED, BootEnd.NOT_ACKNOWLEDGED]
    console(vm_dir, 3)
    assert len(starts(vm_dir)) == 3


@pytest.mark.parametrize(
    ("last_words", "end", "line"),
    [
        ("[  5.0] Kernel panic - not syncing: alone\n", BootEnd.PANIC, "Kernel panic - not syncing: alone"),
        ("[  5.0] reboot: Power down\n", BootEnd.RESET, "reboot: Power down"),
    ],
)
def test_a_machine_ends_while_the_supervisor_is_dead(
    make_vm: MakeVm, make_kernel: MakeKernel, last_words: str, end: BootEnd, line: str
) -> None:
    vm_dir = make_vm("vm1")
    running(vm_dir)
    trial(vm_dir, make_kernel("new"))
    console(vm_dir, 2)
    kill_supervisor(vm_dir)
    with (vm_dir / "boots" / "2" / "console.log").open("a") as out:
        out.write(last_words)
    os.kill(starts(vm_dir)[-1], signal.SIGKILL)
    state = wait_for(vm_dir, lambda s: s.boots[-1].cause is BootCause.FALLBACK)
    assert (state.boots[1].end, state.boots[1].console_line) == (end, line)
    console(vm_dir, 3)
    assert len(starts(vm_dir)) == 3


def test_a_qemu_that_refuses_and_one_that_is_deaf(make_vm: MakeVm, make_kernel: MakeKernel) -> None:
    vm_dir = make_vm("vm1")
    running(vm_dir)
    trial(vm_dir, make_kernel("broken", "refuses"))
    state = wait_for(vm_dir, lambda s: s.boots[-1].cause is BootCause.FALLBACK)
    assert (state.boots[1].end, state.boots[1].console_line) == (
        BootEnd.RESET,
        "stub-qemu: could not open the disk",
    )
    trial(vm_dir, make_kernel("stubborn", "deaf"), boot_timeout_s=0.5)
    state = wait_for(vm_dir, lambda s: s.boots[-1].number == 5)
    assert (state.boots[3].end, state.running) == (BootEnd.NOT_ACKNOWLEDGED, "old")


def test_a_stopped_machine_is_not_started_by_the_controller(make_vm: MakeVm) -> None:
    vm_dir = make_vm("vm1")
    running(vm_dir)
    stop_vm(vm_dir)
    delivery = HypervisorDelivery(vm_dir.parent)
    assert asyncio.run(delivery.status("vm1")).running is None
    with pytest.raises(Temporary, match="switched off"):
        asyncio.run(delivery.reboot("vm1", "c1"))
    assert vm_status(vm_dir).supervisor_pid is None


def test_a_path_longer_than_a_socket_address_works(make_vm: MakeVm) -> None:
    vm_dir = make_vm("v" * 150)
    running(vm_dir)
    assert call(vm_dir, "status").running == "old"


def test_the_local_api_answers_nonsense(make_vm: MakeVm) -> None:
    vm_dir = make_vm("vm1")
    running(vm_dir)
    with pytest.raises(Permanent, match=r"unknown operation 'dance'; known are acknowledge, arm, bless"):
        call(vm_dir, "dance")
    with pytest.raises(Permanent, match=r"request\.command_id: is missing"):
        call(vm_dir, "reboot")
    with socket.socket(socket.AF_UNIX) as connection:
        with short_path(vm_dir, "supervisor.sock") as path:
            connection.connect(path)
        connection.sendall(b'not json\n{"v":7,"op":"status"}\n{"v":1,"op":"status"}\n')
        with connection.makefile("rb") as stream:
            answers = [stream.readline() for _ in range(3)]
        assert b"not JSON" in answers[0]
        assert b"protocol version 7" in answers[1]
        assert b'"ok":true' in answers[2]
    assert call(vm_dir, "status").running == "old"


def test_a_directory_that_is_no_vm_is_refused(tmp_path: Path, make_vm: MakeVm) -> None:
    with pytest.raises(NotFound, match="no such file"):
        start_supervisor(tmp_path)
    vm_dir = make_vm("vm1")
    (vm_dir / "journal").write_text('{"kind":"unheard_of"}\n{"kind":"switched_off","at":1}\n')
    with pytest.raises(Permanent, match=r"journal:1: unknown record"):
        start_supervisor(vm_dir)
    (vm_dir / "journal").unlink()
    for host in ("", "..", "a/b", "nobody"):
        with pytest.raises(NotFound, match="no such VM"):
            asyncio.run(HypervisorDelivery(tmp_path / "fleet").status(host))


def test_the_old_kernel_can_be_gone_from_the_store(make_vm: MakeVm, make_kernel: MakeKernel, tmp_path: Path) -> None:
    vm_dir = make_vm("vm1")
    running(vm_dir)
    bad = make_kernel("bad", "panics")
    for file in (tmp_path / "store" / "old").iterdir():
        file.unlink()
    trial(vm_dir, bad)
    state = wait_for(vm_dir, lambda s: s.boots[-1].cause is BootCause.FALLBACK)
    assert (state.boots[1].end, state.running) == (BootEnd.PANIC, "old")
    console(vm_dir, 3)
