"""The power of simulated hosts: management controllers that cut it, refuse to, or never say what they did."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controller.domain.errors import OutcomeUnknown, Permanent, Temporary
from controller.domain.record.actions.power_cycles import PowerSeen
from controller.sim.hosts.delivery import Gate
from controller.sim.hosts.fates import Fate, is_down
from controller.sim.hosts.machine import Machine
from controller.sim.universe import Universe

_LATENCY_S: Final = 2.0


@dataclass(slots=True)
class Outlets:
    """What happened to hosts' power, whoever had a hand in it."""

    # Host -> how often it was cut.
    cuts: Counter[str] = field(default_factory=Counter)


class SimulatedPower:
    """What one controller process sees of the management controllers. See Power."""

    def __init__(
        self, universe: Universe, outlets: Outlets, machines: Mapping[str, Machine], fates: Mapping[str, Fate]
    ) -> None:
        self._universe = universe
        self._outlets = outlets
        self._machines = machines
        self._fates = fates
        # Set by the process it belongs to.
        self.gate: Gate | None = None

    async def without(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """See Power."""
        return tuple(host for host in hosts if self._fates[host].unmanaged)

    async def look(self, host: str) -> PowerSeen:
        """See Power."""
        await self._reach(host)
        return PowerSeen(controller=f"redfish://bmc-{host}/redfish/v1/Systems/1", on=True)

    async def cycle(self, host: str) -> None:
        """See Power."""
        await self._reach(host)
        self._at(f"cycle {host} before")
        self._outlets.cuts[host] += 1
        self._machines[host].cut_power()
        if self._fates[host].mute_management:
            raise OutcomeUnknown(f"{host}: its management controller was given the order and did not answer")
        self._at(f"cycle {host} after")

    async def _reach(self, host: str) -> None:
        await asyncio.sleep(_LATENCY_S)
        if self._fates[host].unmanaged:
            raise Permanent(f"{host} has no management controller")
        phase = self._universe.chance(host, "management")
        if is_down(self._fates[host].management_away, self._universe.loop.time(), phase):
            raise Temporary(f"{host}: its management controller does not answer")

    def _at(self, what: str) -> None:
        if self.gate is not None:
            self.gate.effect(what)
