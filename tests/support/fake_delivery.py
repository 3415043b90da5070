"""A Delivery port in memory: the hypervisor adapter's own decisions over machines that exist only as an observation."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace

from controller.adapters.delivery.hypervisor.records import BootStarted, Defined, Record, SwitchedOn
from controller.adapters.delivery.hypervisor.supervising import commands
from controller.adapters.delivery.hypervisor.supervising.decision import (
    End,
    Leave,
    Observation,
    Qemu,
    Start,
    Wait,
    Write,
    decide,
)
from controller.adapters.delivery.hypervisor.supervising.state import VmState, apply, fold, status
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import NotFound
from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel
from controller.domain.record.effects import DeliveryEffect

# Console line of a kernel that is told to panic at boot.
PANIC_LINE = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"


@dataclass(slots=True, kw_only=True)
class _Host:
    state: VmState
    seen: Observation = field(default_factory=lambda: Observation(qemu=Qemu.NEVER_STARTED))


class FakeDelivery:
    """Machines that run until told otherwise. Time passes only through `now`: call `settle` after moving it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._hosts: dict[str, _Host] = {}
        self._panics: dict[str, str] = {}
        self._change = asyncio.Event()

    def add_host(self, host: str, kernel: Kernel) -> None:
        """Switch on a machine that runs `kernel` as its default."""
        now = self._now()
        self._hosts[host] = _Host(state=fold([Defined(at=now, kernel=kernel), SwitchedOn(at=now)]))
        self.settle()

    def reaches(self, host: Host) -> bool:
        """See Delivery."""
        return host.name in self._hosts

    def longest_s(self, _effect: DeliveryEffect) -> float:
        """See Delivery."""
        return 120.0

    def panics_at_boot(self, digest: str, line: str = PANIC_LINE) -> None:
        """Let every later boot of this kernel end with this console line."""
        self._panics[digest] = line

    def panic(self, host: str, line: str = PANIC_LINE) -> None:
        """Let the running kernel panic now."""
        self._host(host).seen = Observation(qemu=Qemu.GONE, panic_line=line)
        self.settle()

    def reset(self, host: str) -> None:
        """Let the machine reset now, without a word."""
        self._host(host).seen = Observation(qemu=Qemu.GONE)
        self.settle()

    def settle(self) -> None:
        """Let every machine do what is due at the present time."""
        for host in self._hosts.values():
            while self._act(host):
                pass

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> None:
        """Remember the kernel."""
        found = self._reach(host)
        self._record(found, commands.stage(found.state, command_id, kernel, now=self._now()))

    async def arm(
        self,
        host: str,
        command_id: str,
        kernel: str,
        *,
        boot_timeout_s: float,
        probation_timeout_s: float,
        require_watchdog: bool = False,
    ) -> None:
        """Make a staged kernel the next boot, once."""
        found = self._reach(host)
        record = commands.arm(
            found.state,
            command_id,
            kernel,
            boot_timeout_s=boot_timeout_s,
            probation_timeout_s=probation_timeout_s,
            now=self._now(),
        )
        self._record(found, record)

    async def reboot(self, host: str, command_id: str) -> None:
        """Cold-boot now."""
        found = self._reach(host)
        self._record(found, commands.reboot(found.state, command_id, now=self._now()))

    async def acknowledge(self, host: str, command_id: str) -> None:
        """End the boot deadline, start the probation deadline."""
        found = self._reach(host)
        self._record(found, commands.acknowledge(found.state, command_id, now=self._now()))

    async def bless(self, host: str, command_id: str) -> None:
        """Make the running kernel the default."""
        found = self._reach(host)
        self._record(found, commands.bless(found.state, command_id, now=self._now()))

    async def revert(self, host: str, command_id: str, kernel: str) -> None:
        """Return to a staged kernel."""
        found = self._reach(host)
        self._record(found, commands.revert(found.state, command_id, kernel, now=self._now()))

    async def status(self, host: str) -> DeliveryStatus:
        """Return the present state."""
        return status(self._reach(host).state, host)

    async def watch(self, hosts: Sequence[str]) -> AsyncGenerator[DeliveryStatus]:
        """Yield each host's state at once and again after each change."""
        known: dict[str, int] = {}
        while hosts:
            change = self._change
            for host in hosts:
                found = self._hosts.get(host)
                if found and known.get(host) != found.state.revision:
                    known[host] = found.state.revision
                    yield status(found.state, host)
            if change is self._change:
                await change.wait()

    def _host(self, host: str) -> _Host:
        if host not in self._hosts:
            raise NotFound(f"{host}: no such machine; known are {', '.join(sorted(self._hosts)) or 'none'}")
        return self._hosts[host]

    def _reach(self, host: str) -> _Host:
        self.settle()
        return self._host(host)

    def _record(self, host: _Host, record: Record | None) -> None:
        if record is None:
            return
        host.state = apply(host.state, record)
        self._changed()
        self.settle()

    def _act(self, host: _Host) -> bool:
        """Carry out the next action; return whether there may be another."""
        seen = host.seen if host.state.open_boot else None
        match decide(host.state, seen, self._now()):
            case Start(record=record):
                host.state = apply(host.state, record)
                line = self._panics.get(record.kernel, "") if isinstance(record, BootStarted) else ""
                host.seen = Observation(qemu=Qemu.GONE if line else Qemu.RUNNING, panic_line=line)
            case Write(record=ending):
                host.state = apply(host.state, ending)
            case End():
                host.seen = replace(host.seen, qemu=Qemu.GONE)
            case Wait() | Leave():
                return False
        self._changed()
        return True

    def _changed(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()
