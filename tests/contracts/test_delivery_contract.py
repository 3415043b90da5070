"""What every implementation of the Delivery port does, whatever is behind it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest
from engine_parts import host
from fake_delivery import FakeDelivery
from own_disk_worlds import HOST, AskedWorld, OwnDiskWorld
from patience import PATIENCE_S

from controller.adapters.delivery.hypervisor.client import call_async
from controller.adapters.delivery.hypervisor.delivery import HypervisorDelivery
from controller.adapters.delivery.hypervisor.supervising.supervisor import supervise
from controller.adapters.delivery.routed import RoutedDelivery
from controller.domain.delivery import BootCause, BootEnd, BootRecord, DeliveryStatus
from controller.domain.errors import NotFound, Permanent
from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel
from controller.domain.record.effects import RebootHost, StageKernel
from controller.services.ports import Delivery

UNKNOWN = "f" * 64
BOOT_S = 100.0
PROBATION_S = 50.0
# Generous: the stand-in QEMU answers within a few hundred milliseconds even on a busy machine.
DEADLINE_S = PATIENCE_S


class World(Protocol):
    """An implementation with one host that runs the kernel `old`, and the levers a test pulls."""

    delivery: Delivery
    # Whether anybody can tell that the machine is down; one that starts from its own disk tells when it is back.
    sees_it_down: bool

    @property
    def host(self) -> Host: ...
    def advance(self, seconds: float) -> None: ...
    async def panic(self, line: str) -> None: ...
    async def reset(self) -> None: ...


class FakeWorld:
    sees_it_down = True

    def __init__(self, old: Kernel) -> None:
        self.time = 1_000.0
        self.machines = FakeDelivery(lambda: self.time)
        self.machines.add_host(HOST, old)
        self.machines.panics_at_boot("bad")
        self.delivery: Delivery = self.machines

    @property
    def host(self) -> Host:
        return host(HOST)

    def advance(self, seconds: float) -> None:
        self.time += seconds
        self.machines.settle()

    async def panic(self, line: str) -> None:
        self.machines.panic(HOST, line)

    async def reset(self) -> None:
        self.machines.reset(HOST)


class RoutedWorld(FakeWorld):
    """The same machines behind the delivery that knows several."""

    def __init__(self, old: Kernel) -> None:
        super().__init__(old)
        elsewhere = FakeDelivery(lambda: self.time)
        self.delivery = RoutedDelivery({"elsewhere": elsewhere, "here": self.machines}, lambda _host, _command: "here")


class RealWorld:
    """The hypervisor adapter, the stand-in QEMU, and a supervisor inside this process, so that its clock is ours."""

    sees_it_down = True

    def __init__(self, vm_dir: Path) -> None:
        self.time = 1_000.0
        self.vm_dir = vm_dir
        self.delivery = HypervisorDelivery(vm_dir.parent)

    @property
    def host(self) -> Host:
        return host(HOST)

    def advance(self, seconds: float) -> None:
        self.time += seconds

    async def _last_boot_dir(self) -> Path:
        boot = (await self.delivery.status(HOST)).boots[-1]
        directory = self.vm_dir / "boots" / str(boot.number)
        async with asyncio.timeout(DEADLINE_S):
            for _ in iter((directory / "console.log").exists, True):
                await asyncio.sleep(0)
        return directory

    async def panic(self, line: str) -> None:
        with (await self._last_boot_dir() / "console.log").open("a") as console:
            console.write(f"[   12.345678] {line}\n")

    async def reset(self) -> None:
        os.kill(int((await self._last_boot_dir() / "pid").read_text()), 9)


@pytest.fixture(params=["fake", "routed", "hypervisor", "ansible", "agent"])
async def world(
    request: pytest.FixtureRequest,
    make_vm: Callable[..., Path],
    make_kernel: Callable[..., Kernel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """One host, switched on, running `old`."""
    if request.param == "fake":
        yield FakeWorld(make_kernel("old"))
        return
    if request.param == "routed":
        yield RoutedWorld(make_kernel("old"))
        return
    if request.param == "ansible":
        yield OwnDiskWorld(tmp_path / "machine", make_kernel("old"), monkeypatch)
        return
    if request.param == "agent":
        yield AskedWorld(tmp_path / "machine", make_kernel("old"), monkeypatch)
        return
    real = RealWorld(make_vm(HOST))
    ready = asyncio.Event()
    work = asyncio.create_task(supervise(real.vm_dir, switch_on=True, now=lambda: real.time, ready=ready.set))
    async with asyncio.timeout(DEADLINE_S):
        await ready.wait()
    yield real
    await call_async(real.vm_dir, "stop")
    await work


async def until(world: World, wanted: Callable[[DeliveryStatus], bool]) -> DeliveryStatus:
    """Return the first state that is as wanted."""
    async with asyncio.timeout(DEADLINE_S):
        async with contextlib.aclosing(world.delivery.watch([HOST])) as states:
            async for state in states:
                if wanted(state):
                    return state
    raise AssertionError("the watch ended by itself")


async def boot(world: World, wanted: Callable[[BootRecord], bool]) -> DeliveryStatus:
    """Return the first state whose newest boot is as wanted."""
    return await until(world, lambda state: bool(state.boots) and wanted(state.boots[-1]))


async def trial(world: World, kernel: Kernel, prefix: str = "t") -> DeliveryStatus:
    """Stage, arm and reboot into a kernel; return the state once that boot is on record."""
    await world.delivery.stage(HOST, f"{prefix}-stage", kernel)
    await arm(world, f"{prefix}-arm", kernel.digest)
    await world.delivery.reboot(HOST, f"{prefix}-reboot")
    return await until(world, lambda s: any(b.command_id == f"{prefix}-reboot" for b in s.boots))


async def arm(world: World, command_id: str, digest: str) -> None:
    """Arm with the suite's time limits."""
    await world.delivery.arm(HOST, command_id, digest, boot_timeout_s=BOOT_S, probation_timeout_s=PROBATION_S)


async def test_it_knows_its_hosts_and_how_long_a_call_may_take(world: World) -> None:
    assert world.delivery.reaches(world.host)
    assert not world.delivery.reaches(host("another"))
    for effect in (StageKernel(command_id="u/h/1", host=HOST, kernel="k"), RebootHost(command_id="u/h/2", host=HOST)):
        assert 1.0 <= world.delivery.longest_s(effect) <= 3600.0


async def test_a_host_starts_with_its_default(world: World) -> None:
    state = await boot(world, lambda b: b.number == 1)
    assert (state.host, state.default, state.armed, state.running) == (HOST, "old", None, "old")
    assert state.boots[0].cause is BootCause.INITIAL
    assert state.boots[0].command_id == ""


async def test_staging_and_arming_change_nothing_that_runs(world: World, make_kernel: Callable[..., Kernel]) -> None:
    await world.delivery.stage(HOST, "c1", make_kernel("new"))
    await arm(world, "c2", "new")
    state = await world.delivery.status(HOST)
    assert (state.default, state.armed, state.running, len(state.boots)) == ("old", "new", "old", 1)


async def test_a_blessed_trial_becomes_the_default(world: World, make_kernel: Callable[..., Kernel]) -> None:
    state = await trial(world, make_kernel("new"))
    assert (state.boots[-1].cause, state.running, state.default, state.armed) == (BootCause.TRIAL, "new", "old", None)
    assert state.boots[0].end is BootEnd.REPLACED
    await world.delivery.acknowledge(HOST, "ack")
    await world.delivery.bless(HOST, "bless")
    world.advance(BOOT_S + PROBATION_S)
    state = await world.delivery.status(HOST)
    assert (state.default, state.running, len(state.boots)) == ("new", "new", 2)
    # The former default stays staged.
    await arm(world, "again", "old")


async def test_a_trial_that_panics_falls_back(world: World, make_kernel: Callable[..., Kernel]) -> None:
    await trial(world, make_kernel("bad", "panics"))
    state = await boot(world, lambda b: b.cause is BootCause.FALLBACK)
    assert state.boots[1].end is BootEnd.PANIC
    assert state.boots[1].console_line.startswith("Kernel panic - not syncing: VFS:")
    assert (state.running, state.default, state.armed) == ("old", "old", None)


async def test_a_trial_that_resets_falls_back(world: World, make_kernel: Callable[..., Kernel]) -> None:
    await trial(world, make_kernel("new"))
    await world.reset()
    state = await boot(world, lambda b: b.cause is BootCause.FALLBACK)
    assert state.boots[1].end is BootEnd.RESET


async def test_a_trial_that_is_not_acknowledged_falls_back(world: World, make_kernel: Callable[..., Kernel]) -> None:
    await trial(world, make_kernel("new"))
    world.advance(BOOT_S - 1)
    assert (await world.delivery.status(HOST)).boots[-1].end is None
    world.advance(1)
    state = await boot(world, lambda b: b.cause is BootCause.FALLBACK)
    assert state.boots[1].end is BootEnd.NOT_ACKNOWLEDGED


async def test_a_trial_that_is_not_blessed_falls_back(world: World, make_kernel: Callable[..., Kernel]) -> None:
    await trial(world, make_kernel("new"))
    world.advance(BOOT_S - 1)
    await world.delivery.acknowledge(HOST, "ack")
    world.advance(PROBATION_S - 1)
    assert (await world.delivery.status(HOST)).boots[-1].end is None
    world.advance(1)
    state = await boot(world, lambda b: b.cause is BootCause.FALLBACK)
    assert state.boots[1].end is BootEnd.NOT_BLESSED


async def test_a_panic_in_probation_falls_back(world: World, make_kernel: Callable[..., Kernel]) -> None:
    await trial(world, make_kernel("new"))
    await world.delivery.acknowledge(HOST, "ack")
    await world.panic("Kernel panic - not syncing: later")
    state = await boot(world, lambda b: b.cause is BootCause.FALLBACK)
    assert (state.boots[1].end, state.boots[1].console_line) == (BootEnd.PANIC, "Kernel panic - not syncing: later")


@pytest.mark.parametrize("verb", ["acknowledge", "bless"])
async def test_a_trial_that_is_over_is_refused(world: World, make_kernel: Callable[..., Kernel], verb: str) -> None:
    await trial(world, make_kernel("bad", "panics"))
    await boot(world, lambda b: b.cause is BootCause.FALLBACK)
    with pytest.raises(Permanent, match=r"over: the kernel panicked.*Kernel panic - not syncing"):
        await getattr(world.delivery, verb)(HOST, "late")
    assert (await world.delivery.status(HOST)).default == "old"


async def test_a_repeated_command_does_nothing(world: World, make_kernel: Callable[..., Kernel]) -> None:
    new = make_kernel("new")
    await trial(world, new)
    await world.delivery.acknowledge(HOST, "ack")
    await world.delivery.bless(HOST, "bless")
    before = await world.delivery.status(HOST)
    await world.delivery.stage(HOST, "t-stage", new)
    await arm(world, "t-arm", "new")
    await world.delivery.reboot(HOST, "t-reboot")
    await world.delivery.acknowledge(HOST, "ack")
    await world.delivery.bless(HOST, "bless")
    assert await world.delivery.status(HOST) == before


async def test_a_command_id_means_one_command(world: World, make_kernel: Callable[..., Kernel]) -> None:
    await world.delivery.stage(HOST, "c1", make_kernel("new"))
    with pytest.raises(Permanent, match="already used for stage"):
        await world.delivery.reboot(HOST, "c1")


async def test_a_reboot_with_nothing_armed_boots_the_default(world: World) -> None:
    await world.delivery.reboot(HOST, "c1")
    state = await boot(world, lambda b: b.number == 2)
    assert (state.boots[-1].cause, state.boots[-1].command_id, state.running) == (BootCause.REQUESTED, "c1", "old")


async def test_a_control_host_walks_a_trial_of_its_own_kernel(world: World) -> None:
    await arm(world, "c1", "old")
    await world.delivery.reboot(HOST, "c2")
    state = await boot(world, lambda b: b.number == 2)
    assert (state.boots[-1].cause, state.running) == (BootCause.TRIAL, "old")
    await world.delivery.bless(HOST, "c3")
    world.advance(BOOT_S + PROBATION_S)
    assert (await world.delivery.status(HOST)).boots[-1].end is None


async def test_a_revert_boots_the_former_kernel(world: World, make_kernel: Callable[..., Kernel]) -> None:
    await trial(world, make_kernel("new"))
    await world.delivery.bless(HOST, "bless")
    await world.delivery.revert(HOST, "revert", "old")
    state = await boot(world, lambda b: b.number == 3)
    assert (state.boots[-1].cause, state.boots[-1].command_id) == (BootCause.REVERT, "revert")
    assert (state.default, state.armed, state.running) == ("old", None, "old")


async def test_a_revert_out_of_a_trial_ends_it(world: World, make_kernel: Callable[..., Kernel]) -> None:
    await trial(world, make_kernel("new"))
    await world.delivery.revert(HOST, "revert", "old")
    state = await boot(world, lambda b: b.number == 3)
    assert (state.boots[1].end, state.boots[2].cause) == (BootEnd.REPLACED, BootCause.REVERT)


async def test_a_revert_to_what_runs_only_disarms(world: World, make_kernel: Callable[..., Kernel]) -> None:
    await world.delivery.stage(HOST, "c1", make_kernel("new"))
    await arm(world, "c2", "new")
    await world.delivery.revert(HOST, "c3", "old")
    state = await world.delivery.status(HOST)
    assert (state.armed, state.running, len(state.boots)) == (None, "old", 1)


async def test_a_default_that_ends_unasked_is_restarted(world: World) -> None:
    await boot(world, lambda b: b.number == 1)
    await world.panic("Kernel panic - not syncing: out of the blue")
    if world.sees_it_down:
        state = await boot(world, lambda b: b.end is not None)
        assert (state.running, state.boots[-1].end) == (None, BootEnd.PANIC)
    world.advance(60)
    state = await boot(world, lambda b: b.number == 2)
    assert (state.boots[-1].cause, state.running) == (BootCause.RESTART, "old")
    assert state.boots[0].console_line == "Kernel panic - not syncing: out of the blue"


async def test_what_cannot_be_is_refused(world: World, make_kernel: Callable[..., Kernel]) -> None:
    with pytest.raises(Permanent, match="not staged"):
        await arm(world, "c1", UNKNOWN)
    with pytest.raises(Permanent, match="not staged"):
        await world.delivery.revert(HOST, "c2", UNKNOWN)
    with pytest.raises(Permanent, match=r"arm64.*x86_64"):
        await world.delivery.stage(HOST, "c3", make_kernel("foreign", architecture="arm64"))
    with pytest.raises(NotFound):
        await world.delivery.status("nobody")


async def test_a_watch_shows_each_change_with_a_higher_revision(
    world: World, make_kernel: Callable[..., Kernel]
) -> None:
    await boot(world, lambda b: b.number == 1)
    async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(world.delivery.watch([HOST])) as states:
        first = await anext(states)
        await world.delivery.stage(HOST, "c1", make_kernel("new"))
        second = await anext(states)
        await arm(world, "c2", "new")
        third = await anext(states)
    assert first.revision < second.revision < third.revision
    assert (second.armed, third.armed) == (None, "new")
