"""The delivery port over simulated machines: it takes a while, and sometimes nobody answers."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, Protocol

from controller.adapters.delivery.hypervisor.supervising import commands
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import NotFound, Permanent, Temporary
from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel
from controller.domain.record.effects import DeliveryEffect
from controller.sim.hosts.fates import Fate, is_down
from controller.sim.hosts.machine import Machine
from controller.sim.universe import Universe

_LATENCY_S: Final = 0.2
_RETRY_S: Final = 5.0


class Gate(Protocol):
    """Where a controller may die: before something takes effect, or after it and before it learns so."""

    def effect(self, what: str) -> None:
        """Raise asyncio.CancelledError when this controller is dead, or dies here."""


class SimulatedDelivery:
    """What one controller process sees of the machines."""

    def __init__(
        self, universe: Universe, machines: Mapping[str, Machine], fates: Mapping[str, Fate], *, stage_s: float
    ) -> None:
        self._universe = universe
        self._machines = machines
        self._fates = fates
        self._stage_s = stage_s
        # Set by the process it belongs to.
        self.gate: Gate | None = None

    def reaches(self, _host: Host) -> bool:
        """See Delivery."""
        return True

    def longest_s(self, _effect: DeliveryEffect) -> float:
        """See Delivery."""
        return 120.0

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> None:
        """See Delivery."""
        machine = await self._reach(host, f"stage {command_id}", self._universe.jitter(self._stage_s, command_id))
        if self._fates[host].dead_disk:
            raise Permanent(f"{host}: the kernel cannot be written: Input/output error")
        machine.carry_out(commands.stage(machine.state, command_id, kernel, now=machine.clock()))
        self._done(f"stage {command_id}")

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
        """See Delivery."""
        machine = await self._reach(host, f"arm {command_id}")
        record = commands.arm(
            machine.state,
            command_id,
            kernel,
            boot_timeout_s=boot_timeout_s,
            probation_timeout_s=probation_timeout_s,
            now=machine.clock(),
        )
        machine.carry_out(record)
        self._done(f"arm {command_id}")

    async def reboot(self, host: str, command_id: str) -> None:
        """See Delivery."""
        machine = await self._reach(host, f"reboot {command_id}")
        machine.carry_out(commands.reboot(machine.state, command_id, now=machine.clock()))
        self._done(f"reboot {command_id}")

    async def acknowledge(self, host: str, command_id: str) -> None:
        """See Delivery."""
        machine = await self._reach(host, f"acknowledge {command_id}")
        machine.carry_out(commands.acknowledge(machine.state, command_id, now=machine.clock()))
        self._done(f"acknowledge {command_id}")

    async def bless(self, host: str, command_id: str) -> None:
        """See Delivery."""
        machine = await self._reach(host, f"bless {command_id}")
        machine.carry_out(commands.bless(machine.state, command_id, now=machine.clock()))
        self._done(f"bless {command_id}")

    async def revert(self, host: str, command_id: str, kernel: str) -> None:
        """See Delivery."""
        machine = await self._reach(host, f"revert {command_id}")
        machine.carry_out(commands.revert(machine.state, command_id, kernel, now=machine.clock()))
        self._done(f"revert {command_id}")

    async def status(self, host: str) -> DeliveryStatus:
        """See Delivery."""
        return self._known(host).status()

    async def watch(self, hosts: Sequence[str]) -> AsyncGenerator[DeliveryStatus]:
        """Yield the present states; changes are told to the watcher by the machines themselves."""
        for host in hosts:
            if host in self._machines:
                yield self._machines[host].status()

    def _known(self, host: str) -> Machine:
        if host not in self._machines:
            raise NotFound(f"{host}: no such machine")
        return self._machines[host]

    async def _reach(self, host: str, what: str, takes_s: float = _LATENCY_S) -> Machine:
        machine = self._known(host)
        await asyncio.sleep(takes_s)
        phase = self._universe.chance(host, "deaf")
        if is_down(self._fates[host].deaf, self._universe.loop.time(), phase):
            raise Temporary(f"{host}: the supervisor does not answer", retry_after_s=_RETRY_S)
        if what.startswith(f"{self._fates[host].refuses} "):
            raise Permanent(f"{host}: the supervisor refuses it")
        if self.gate is not None:
            self.gate.effect(f"{what} before")
        return machine

    def _done(self, what: str) -> None:
        if self.gate is not None:
            self.gate.effect(f"{what} after")
