"""A supervisor that dies after or before any of its journal's lines: its successor ends at the same place."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from patience import PATIENCE_S

from controller.adapters.delivery.hypervisor.records import Record
from controller.adapters.delivery.hypervisor.supervising.decision import Observation, Qemu
from controller.adapters.delivery.hypervisor.supervising.journal import Journal, read_journal
from controller.adapters.delivery.hypervisor.supervising.vm import SupervisedVm
from controller.domain.delivery import BootCause, BootEnd
from controller.domain.errors import Permanent
from controller.domain.kernels import Kernel

BOOT_S, PROBATION_S = 100.0, 50.0
# The journey below writes this many lines; the test counts them.
JOURNEY_LINES = 28


class Killed(BaseException):
    """The supervisor dies here."""


class MortalJournal(Journal):
    """Dies at its n-th line, before or after writing it."""

    def __init__(self, vm_dir: Path, *, at_line: int, after: bool) -> None:
        super().__init__(vm_dir)
        self._left = at_line
        self._after = after

    def append(self, record: Record) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        super().append(record)
        if self._left == 0:
            raise Killed


@dataclass
class World:
    """Machines and time, which outlive the supervisor."""

    now: float = 1_000.0
    seen: dict[int, Observation] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)

    def see(self, number: int) -> Observation:
        return self.seen.get(number, Observation(qemu=Qemu.NEVER_STARTED))

    def telling_line(self, number: int) -> str:
        return f"last words of {number}"

    def start(self, number: int, kernel: Kernel) -> None:
        running = [n for n, seen in self.seen.items() if seen.qemu is Qemu.RUNNING]
        assert running == [], f"boot {number} started while {running} run"
        if kernel.digest == "unstartable":
            raise Permanent("QEMU could not be started: no such file")
        self.starts.append(number)
        panic = "Kernel panic - not syncing: x" if kernel.digest == "panics" else ""
        self.seen[number] = Observation(qemu=Qemu.GONE if panic else Qemu.RUNNING, panic_line=panic)

    async def end(self, number: int) -> None:
        self.seen[number] = Observation(qemu=Qemu.GONE)


def make_kernel(store: Path, digest: str) -> Kernel:
    """Put a kernel's file in place."""
    file = store / digest
    file.write_text(digest)
    return Kernel(digest=digest, release=digest, architecture="x86_64", source="t", files={"boot": str(file)})


async def journey(vm: SupervisedVm, world: World, store: Path) -> None:
    """Bless one kernel, see one panic and one hang. Every command is repeated by the next life of the supervisor."""

    async def boots(count: int) -> None:
        while len(vm.status().boots) < count or vm.status().boots[-1].end is not None:
            await vm.changed(vm.status().revision, PATIENCE_S)

    for digest in ("new", "panics", "hangs"):
        before = {"new": 1, "panics": 2, "hangs": 4}[digest]
        await boots(before)
        await vm.stage(f"{digest}-stage", make_kernel(store, digest))
        vm.arm(f"{digest}-arm", digest, boot_timeout_s=BOOT_S, probation_timeout_s=PROBATION_S)
        vm.reboot(f"{digest}-reboot")
        await boots(before + 1)
        if digest == "new":
            vm.acknowledge("new-ack")
            vm.bless("new-bless")
        if digest == "hangs" and vm.status().boots[-1].cause is BootCause.TRIAL:
            world.now += BOOT_S + 1
        await boots(before + (1 if digest == "new" else 2))


async def one_life(vm_dir: Path, world: World, journal: Journal, store: Path) -> None:
    """Run a supervisor until the journey is over or it dies."""
    vm = SupervisedVm(vm_dir, "vm", machine=world, journal=journal, now=lambda: world.now, look_every_s=0.001)
    vm.define(make_kernel(store, "old"))
    vm.switch_on()
    work = asyncio.create_task(vm.run())
    script = asyncio.create_task(journey(vm, world, store))
    done, pending = await asyncio.wait([work, script], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


def run_life(vm_dir: Path, world: World, journal: Journal, store: Path) -> None:
    """Run one life; dying is not an error."""
    with contextlib.suppress(Killed), contextlib.closing(journal):
        asyncio.run(one_life(vm_dir, world, journal, store))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("line", range(1, JOURNEY_LINES + 1))
def test_a_supervisor_may_die_at_every_line(tmp_path: Path, line: int, after: bool) -> None:
    vm_dir, store, world = tmp_path / "vm", tmp_path / "store", World()
    vm_dir.mkdir()
    store.mkdir()
    run_life(vm_dir, world, MortalJournal(vm_dir, at_line=line, after=after), store)
    run_life(vm_dir, world, Journal(vm_dir), store)
    with contextlib.closing(Journal(vm_dir)) as journal:
        final = SupervisedVm(vm_dir, "vm", machine=world, journal=journal, now=lambda: world.now).status()
    told = [(boot.kernel, boot.cause, boot.end) for boot in final.boots]
    assert told == [
        ("old", BootCause.INITIAL, BootEnd.REPLACED),
        ("new", BootCause.TRIAL, BootEnd.REPLACED),
        ("panics", BootCause.TRIAL, BootEnd.PANIC),
        ("new", BootCause.FALLBACK, BootEnd.REPLACED),
        ("hangs", BootCause.TRIAL, BootEnd.NOT_ACKNOWLEDGED),
        ("new", BootCause.FALLBACK, None),
    ]
    assert final.boots[4].console_line == "last words of 5"
    # Each boot was started exactly once in the world.
    assert world.starts == [1, 2, 3, 4, 5, 6]


def test_the_journey_has_as_many_lines_as_the_test_above_tries(tmp_path: Path) -> None:
    world = World()
    vm_dir, store = tmp_path / "vm", tmp_path / "store"
    vm_dir.mkdir()
    store.mkdir()
    run_life(vm_dir, world, Journal(vm_dir), store)
    assert len(read_journal(vm_dir)) == JOURNEY_LINES


async def test_a_qemu_that_cannot_be_started_is_a_failed_boot(tmp_path: Path) -> None:
    vm_dir, world = tmp_path / "vm", World()
    vm_dir.mkdir()
    with contextlib.closing(Journal(vm_dir)) as journal:
        vm = SupervisedVm(vm_dir, "vm", machine=world, journal=journal, now=lambda: world.now, look_every_s=0.001)
        vm.define(make_kernel(tmp_path, "old"))
        vm.switch_on()
        await vm.stage("c1", make_kernel(tmp_path, "unstartable"))
        vm.arm("c2", "unstartable", boot_timeout_s=BOOT_S, probation_timeout_s=PROBATION_S)
        vm.reboot("c3")
        work = asyncio.create_task(vm.run())
        async with asyncio.timeout(PATIENCE_S):
            while len(vm.status().boots) < 2:
                await vm.changed(vm.status().revision, PATIENCE_S)
        failed, fallback = vm.status().boots
        vm.switch_off()
        await work
    assert (failed.end, failed.console_line) == (BootEnd.RESET, "QEMU could not be started: no such file")
    assert (fallback.cause, fallback.kernel) == (BootCause.FALLBACK, "old")
