"""The port of power for hosts whose management controllers the inventory names."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import structlog

from controller.adapters.local.named_files import shown
from controller.adapters.power.address import IPMI, Managed
from controller.adapters.power.inventory import managed, read_power
from controller.adapters.power.ipmi import Ipmi
from controller.adapters.power.redfish import Redfish
from controller.domain.errors import NotFound
from controller.domain.record.actions.power_cycles import PowerSeen

_log = structlog.get_logger("power")

# 100 000 hosts take Ansible minutes.
_INVENTORY_TIMEOUT_S: Final = 300.0


class Controller(Protocol):
    """One host's management controller; its calls block."""

    def look(self) -> PowerSeen:
        """See Power."""

    def cycle(self) -> None:
        """See Power."""


def controller_of(reached: Managed) -> Controller:
    """Return the management controller at an address."""
    return Ipmi(reached) if reached.address.kind == IPMI else Redfish(reached)


class InventoryPower:
    """See Power. The inventory is read at every call: addresses and passwords may have changed since."""

    def __init__(self, inventory: Path, connect: Callable[[Managed], Controller] = controller_of) -> None:
        self._inventory = inventory
        self._connect = connect

    async def without(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """See Power."""
        known = await self._known()
        return tuple(host for host in hosts if host not in known)

    async def look(self, host: str) -> PowerSeen:
        """See Power."""
        return await asyncio.to_thread((await self._controller(host)).look)

    async def cycle(self, host: str) -> None:
        """See Power."""
        await asyncio.to_thread((await self._controller(host)).cycle)

    async def _controller(self, host: str) -> Controller:
        variables = (await self._known()).get(host)
        if variables is None:
            raise NotFound(
                f"{shown(self._inventory)}: host {host} has no kernroll_power, so that its power cannot be cut"
            )
        reached = await asyncio.to_thread(managed, self._inventory, host, variables)
        if not reached.verify:
            _log.warning("certificate_not_checked", host=host, controller=reached.address.shown)
        return self._connect(reached)

    async def _known(self) -> Mapping[str, Mapping[str, str | None]]:
        return await asyncio.to_thread(read_power, self._inventory, timeout_s=_INVENTORY_TIMEOUT_S)


class NoPower:
    """See Power, of a controller that was started without an inventory: no host has a management controller."""

    async def without(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """See Power."""
        return tuple(hosts)

    async def look(self, host: str) -> PowerSeen:
        """See Power."""
        raise NotFound(_no_inventory(host))

    async def cycle(self, host: str) -> None:
        """See Power."""
        raise NotFound(_no_inventory(host))


def _no_inventory(host: str) -> str:
    return f"this controller knows no management controller of {host}: start it with --inventory"
