"""One real VM: trial, blessing, a real panic, a kernel that hangs, and a supervisor that is killed on the way."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.adapters.delivery.hypervisor.definition import Disk, Qemu, SerialChannel, VmDefinition, save_definition
from controller.adapters.delivery.hypervisor.delivery import HypervisorDelivery
from controller.adapters.delivery.hypervisor.processes import start_supervisor, stop_vm, vm_status
from controller.adapters.kernels import KernelStore
from controller.adapters.local.cache import Cache
from controller.domain.delivery import BootCause, BootEnd, BootRecord, DeliveryStatus
from controller.domain.kernels import DebianKernel, Kernel
from controller.lab.images import base_command_line, build_seed, guest_settings, prepare_guest
from controller.lab.toolset import prepare_toolset

pytestmark = pytest.mark.vm

HOST = "trial"
BOOT_S = 120.0


@pytest.fixture
def store() -> KernelStore:
    """The user's kernel store, so that nothing is fetched twice."""
    return KernelStore(Cache.from_environment())


@pytest.fixture
def vm_dir(tmp_path: Path, store: KernelStore) -> Iterator[Path]:
    """A VM on 7.0.13 with a real userland and nobody to talk to."""
    cache = Cache.from_environment()
    toolset = prepare_toolset(cache)
    qemu = toolset.qemu("x86_64")
    directory = tmp_path / HOST
    directory.mkdir()
    toolset.create_overlay(prepare_guest(cache, "x86_64").path, directory / "root.qcow2")
    build_seed(cache, directory / "seed.ext4", {"guest.env": guest_settings(hostname=HOST, network=False)})
    definition = VmDefinition(
        name=HOST,
        architecture="x86_64",
        memory_mib=512,
        vcpus=1,
        accelerator="tcg",
        cpu_model="max",
        qemu=Qemu(binary=qemu.binary, arguments=qemu.arguments, environment=qemu.environment),
        disks=(
            Disk(path="root.qcow2", format="qcow2", serial="kernroll-root"),
            Disk(path="seed.ext4", format="raw", serial="kernroll-seed", read_only=True),
        ),
        command_line=base_command_line("x86_64"),
        # Ports that nobody listens on: the guest must not care.
        channel=SerialChannel(agent_port=1, enroll_port=2),
        kernel=store.resolve(DebianKernel(version="7.0.13"), "x86_64"),
    )
    save_definition(directory, definition)
    yield directory
    stop_vm(directory)


async def newest(vm_dir: Path, wanted: Callable[[BootRecord], bool]) -> DeliveryStatus:
    """Return the first state whose newest boot is as wanted."""
    async with asyncio.timeout(BOOT_S):
        async for state in HypervisorDelivery(vm_dir.parent).watch([HOST]):
            if state.boots and wanted(state.boots[-1]):
                return state
    raise AssertionError("the watch ended by itself")


async def userland(vm_dir: Path, number: int, release: str) -> None:
    """Return once the guest's first process has named its kernel on the console of a boot."""
    console = vm_dir / "boots" / str(number) / "console.log"
    async with asyncio.timeout(BOOT_S):
        for _ in iter(lambda: console.exists() and f"runs {release}" in console.read_text(errors="replace"), True):
            await asyncio.sleep(0.1)


async def trial(vm_dir: Path, kernel: Kernel, prefix: str, *, boot_timeout_s: float = BOOT_S) -> DeliveryStatus:
    """Stage, arm and reboot; return the state when that boot has started."""
    delivery = HypervisorDelivery(vm_dir.parent)
    await delivery.stage(HOST, f"{prefix}-stage", kernel)
    await delivery.arm(HOST, f"{prefix}-arm", kernel.digest, boot_timeout_s=boot_timeout_s, probation_timeout_s=BOOT_S)
    await delivery.reboot(HOST, f"{prefix}-reboot")
    return await newest(vm_dir, lambda boot: boot.command_id == f"{prefix}-reboot")


def kill_supervisor(vm_dir: Path) -> None:
    """Kill the supervisor with no chance to say anything."""
    pid = vm_status(vm_dir).supervisor_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def test_a_real_kernel_is_tried_blessed_and_fallen_back_to(vm_dir: Path, store: KernelStore) -> None:
    better = store.resolve(DebianKernel(version="7.1.13"), "x86_64")
    # Its NVMe driver is a module and there is no initrd: it cannot mount its root.
    panics = store.resolve(DebianKernel(version="7.1.13", flavour=""), "x86_64")
    delivery = HypervisorDelivery(vm_dir.parent)
    start_supervisor(vm_dir)
    old = (await delivery.status(HOST)).default
    await userland(vm_dir, 1, "7.0.13")

    await trial(vm_dir, better, "better")
    kill_supervisor(vm_dir)
    await userland(vm_dir, 2, "7.1.13")
    await delivery.acknowledge(HOST, "ack")
    await delivery.bless(HOST, "bless")
    state = await delivery.status(HOST)
    assert (state.default, state.running, len(state.boots)) == (better.digest, better.digest, 2)

    await trial(vm_dir, panics, "panics")
    state = await newest(vm_dir, lambda boot: boot.cause is BootCause.FALLBACK)
    assert state.boots[2].end is BootEnd.PANIC
    assert state.boots[2].console_line.startswith("Kernel panic - not syncing: VFS: Unable to mount root fs")
    assert state.running == better.digest

    # The old kernel as a trial that nobody hears of, with the supervisor dead when its time is up.
    await delivery.arm(HOST, "hang-arm", old, boot_timeout_s=2.0, probation_timeout_s=BOOT_S)
    await delivery.reboot(HOST, "hang-reboot")
    await newest(vm_dir, lambda boot: boot.command_id == "hang-reboot")
    kill_supervisor(vm_dir)
    state = await newest(vm_dir, lambda boot: boot.number == 6)
    assert (state.boots[4].end, state.boots[5].cause) == (BootEnd.NOT_ACKNOWLEDGED, BootCause.FALLBACK)
    await userland(vm_dir, 6, "7.1.13")
    assert [boot.number for boot in state.boots] == [1, 2, 3, 4, 5, 6]
