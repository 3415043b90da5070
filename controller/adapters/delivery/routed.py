"""Several deliveries as one: every host's calls go where its plan says, whatever the host is called or labelled now."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing

import structlog

from controller.adapters.delivery.merging import merged
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import Permanent
from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel
from controller.domain.record.effects import DeliveryEffect
from controller.services.ports import Delivery

_log = structlog.get_logger("delivery")

# (host, command id, or the empty text) -> the name that was pinned when the host's rollout was planned; empty where the
# plan is older than the choice.
Pinned = Callable[[str, str], str]


class RoutedDelivery:
    """See Delivery. The first of `ways` is that of plans without a choice."""

    def __init__(self, ways: Mapping[str, Delivery], pinned: Pinned) -> None:
        self._ways = dict(ways)
        self._first = next(iter(ways))
        self._pinned = pinned

    def chosen(self, host: Host) -> str:
        """Return the name of the first delivery that reaches the host; empty when none does."""
        return next((name for name, way in self._ways.items() if way.reaches(host)), "")

    def reaches(self, host: Host) -> bool:
        """See Delivery."""
        return bool(self.chosen(host))

    def longest_s(self, effect: DeliveryEffect) -> float:
        """See Delivery."""
        return self._way(effect.host, effect.command_id).longest_s(effect)

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> None:
        """See Delivery."""
        await self._way(host, command_id).stage(host, command_id, kernel)

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
        way = self._way(host, command_id)
        await way.arm(
            host,
            command_id,
            kernel,
            boot_timeout_s=boot_timeout_s,
            probation_timeout_s=probation_timeout_s,
            require_watchdog=require_watchdog,
        )

    async def reboot(self, host: str, command_id: str) -> None:
        """See Delivery."""
        await self._way(host, command_id).reboot(host, command_id)

    async def acknowledge(self, host: str, command_id: str) -> None:
        """See Delivery."""
        await self._way(host, command_id).acknowledge(host, command_id)

    async def bless(self, host: str, command_id: str) -> None:
        """See Delivery."""
        await self._way(host, command_id).bless(host, command_id)

    async def revert(self, host: str, command_id: str, kernel: str) -> None:
        """See Delivery."""
        await self._way(host, command_id).revert(host, command_id, kernel)

    async def status(self, host: str) -> DeliveryStatus:
        """See Delivery."""
        return await self._way(host).status(host)

    async def watch(self, hosts: Sequence[str]) -> AsyncGenerator[DeliveryStatus]:
        """See Delivery."""
        by_way: dict[str, list[str]] = defaultdict(list)
        for host in hosts:
            by_way[self._name(host)].append(host)
        feeds = []
        for name, of in by_way.items():
            try:
                feeds.append(self._known(name, of[0]).watch(of))
            except Permanent as error:
                # The others are watched all the same.
                _log.error("not_watched", hosts=of, error=str(error))
        async with aclosing(merged(feeds)) as states:
            async for status in states:
                yield status

    def _way(self, host: str, command_id: str = "") -> Delivery:
        return self._known(self._name(host, command_id), host)

    def _name(self, host: str, command_id: str = "") -> str:
        return self._pinned(host, command_id) or self._first

    def _known(self, name: str, host: str) -> Delivery:
        way = self._ways.get(name)
        if way is None:
            raise Permanent(
                f"{host} was planned with the delivery {name}, which this controller does not have: start it as it was "
                "started when the rollout was planned"
            )
        return way
