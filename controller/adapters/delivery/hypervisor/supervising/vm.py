"""One VM under supervision: carries out commands and keeps the machine in the state that the journal asks for."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from controller.adapters.delivery.hypervisor.records import (
    BootEnded,
    BootEnding,
    BootStarted,
    Defined,
    Record,
    SwitchedOff,
    SwitchedOn,
)
from controller.adapters.delivery.hypervisor.staging import stage_files
from controller.adapters.delivery.hypervisor.supervising import commands
from controller.adapters.delivery.hypervisor.supervising.decision import Action, End, Leave, Start, Wait, Write, decide
from controller.adapters.delivery.hypervisor.supervising.journal import Journal
from controller.adapters.delivery.hypervisor.supervising.machine import Machine
from controller.adapters.delivery.hypervisor.supervising.state import VmState, apply, fold, status
from controller.domain.delivery import BootEnd, DeliveryStatus
from controller.domain.errors import KernrollError, Permanent
from controller.domain.kernels import Kernel

LOOK_EVERY_S = 0.2
AFTER_FAILURE_S = 1.0

log = logging.getLogger(__name__)


class SupervisedVm:
    """Implements the verbs of the local API and the loop that acts. One per VM directory, guarded by its lock."""

    def __init__(
        self,
        vm_dir: Path,
        name: str,
        *,
        machine: Machine,
        journal: Journal,
        now: Callable[[], float],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._vm_dir = vm_dir
        self._name = name
        self._machine = machine
        self._journal = journal
        self._now = now
        self._look_every_s = look_every_s
        self._state: VmState = fold(journal.records)
        # Set and replaced at every change: whoever waits for a change waits for the event of the moment.
        self._change = asyncio.Event()

    def define(self, kernel: Kernel) -> None:
        """Make `kernel` the default of a VM that has no journal yet."""
        if self._state.revision == 0:
            self._record(Defined(at=self._now(), kernel=stage_files(self._vm_dir, kernel)))

    def switch_on(self) -> None:
        """Let the machine run from now on."""
        if not self._state.on:
            self._record(SwitchedOn(at=self._now()))

    def switch_off(self) -> None:
        """End the machine and let the supervisor leave."""
        if self._state.on:
            self._record(SwitchedOff(at=self._now()))

    def status(self) -> DeliveryStatus:
        """Return the present state."""
        return status(self._state, self._name)

    async def changed(self, after_revision: int, timeout_s: float) -> None:
        """Return as soon as the revision is another than `after_revision`, at the latest after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._state.revision == after_revision:
                    await self._change.wait()

    async def stage(self, command_id: str, kernel: Kernel) -> None:
        """Bring a kernel's files into the VM's directory."""
        if commands.stage(self._state, command_id, kernel, now=self._now()) is None:
            return
        staged = await asyncio.to_thread(stage_files, self._vm_dir, kernel)
        # Asked again, because another request with the same id may have been carried out meanwhile.
        self._record(commands.stage(self._state, command_id, staged, now=self._now()))

    def arm(self, command_id: str, kernel: str, *, boot_timeout_s: float, probation_timeout_s: float) -> None:
        """Make a staged kernel the next boot, once."""
        self._record(
            commands.arm(
                self._state,
                command_id,
                kernel,
                boot_timeout_s=boot_timeout_s,
                probation_timeout_s=probation_timeout_s,
                now=self._now(),
            )
        )

    def reboot(self, command_id: str) -> None:
        """Ask for a cold boot."""
        self._record(commands.reboot(self._state, command_id, now=self._now()))

    def acknowledge(self, command_id: str) -> None:
        """Record that a healthy agent was heard."""
        self._record(commands.acknowledge(self._state, command_id, now=self._now()))

    def bless(self, command_id: str) -> None:
        """Make the running kernel the default."""
        self._record(commands.bless(self._state, command_id, now=self._now()))

    def revert(self, command_id: str, kernel: str) -> None:
        """Return to a staged kernel."""
        self._record(commands.revert(self._state, command_id, kernel, now=self._now()))

    async def run(self) -> None:
        """Act until the machine is switched off and down."""
        reported = ""
        while True:
            change = self._change
            try:
                action = self._next()
                wait_s = await self._perform(action)
                reported = ""
            except KernrollError as error:
                # Said once for as long as it stays the same: a full disk must not be filled with this.
                if str(error) != reported:
                    log.error("%s; trying again until it works", error)
                reported = str(error)
                action, wait_s = Wait(), AFTER_FAILURE_S
            if isinstance(action, Leave):
                return
            if wait_s:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await change.wait()

    def _next(self) -> Action:
        boot = self._state.open_boot
        seen = self._machine.see(boot.record.number) if boot else None
        return decide(self._state, seen, self._now())

    async def _perform(self, action: Action) -> float:
        """Carry out one action and return how long to wait before looking again."""
        match action:
            case Start(record=record):
                self._record(record)
                self._start(record.number)
            case Write(record=record):
                self._record(self._with_line(record))
            case End(number=number):
                await self._machine.end(number)
            case Wait() | Leave():
                return self._look_every_s
        return 0.0

    def _start(self, number: int) -> None:
        boot = self._state.open_boot
        assert boot is not None, "a boot is recorded before it is started"
        try:
            self._machine.start(number, self._state.kernels[boot.record.kernel])
        except Permanent as error:
            log.error("boot %d: %s", number, error)
            self._record(BootEnded(at=self._now(), number=number, end=BootEnd.RESET, console_line=str(error)))

    def _with_line(self, record: BootEnding | BootEnded) -> BootEnding | BootEnded:
        silent = record.end in (BootEnd.RESET, BootEnd.NOT_ACKNOWLEDGED, BootEnd.NOT_BLESSED)
        if silent and not record.console_line:
            return replace(record, console_line=self._machine.telling_line(record.number))
        return record

    def _record(self, record: Record | None) -> None:
        """Write the record, then let it count. None: the command was carried out before."""
        if record is None:
            return
        self._journal.append(record)
        self._state = apply(self._state, record)
        log.info("%s", _told(record))
        change, self._change = self._change, asyncio.Event()
        change.set()


def _told(record: Record) -> str:
    match record:
        case BootStarted():
            return f"boot {record.number}: {record.cause} of kernel {record.kernel}"
        case BootEnding():
            return f"boot {record.number}: is being ended: {record.end} {record.console_line}"
        case BootEnded():
            return f"boot {record.number}: ended: {record.end} {record.console_line}"
        case _:
            return f"{record}"
