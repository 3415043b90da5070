"""A Power port in memory: management controllers that answer at once, or as a test wants them to."""

from collections.abc import Sequence

from controller.domain.errors import NotFound
from controller.domain.record.actions.power_cycles import PowerSeen


class FakePower:
    """See Power."""

    def __init__(self, *hosts: str) -> None:
        # Host -> whether it has power, for hosts with a management controller.
        self.on = dict.fromkeys(hosts, True)
        self.says: tuple[str, ...] = ()
        # ("look" or "cycle", host), in order.
        self.calls: list[tuple[str, str]] = []
        # Raised by the next calls of a verb, one by one.
        self.failures: dict[str, list[Exception]] = {}

    async def without(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """See Power."""
        return tuple(host for host in hosts if host not in self.on)

    async def look(self, host: str) -> PowerSeen:
        """See Power."""
        self._call("look", host)
        return PowerSeen(controller=f"redfish://bmc-{host}", on=self.on[host], says=self.says)

    async def cycle(self, host: str) -> None:
        """See Power."""
        self._call("cycle", host)
        self.on[host] = True

    def cycles(self, host: str) -> int:
        """Return how often the host's power was to be cut."""
        return self.calls.count(("cycle", host))

    def _call(self, verb: str, host: str) -> None:
        self.calls.append((verb, host))
        if self.failures.get(verb):
            raise self.failures[verb].pop(0)
        if host not in self.on:
            raise NotFound(f"{host} has no kernroll_power")
