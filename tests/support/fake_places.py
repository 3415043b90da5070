"""A Places port in memory: nodes of one cluster that are drained at once, unless somebody holds them up."""

import asyncio

from controller.domain.errors import NotFound
from controller.domain.hosts.host import Host
from controller.domain.record.effects import PlaceEffect

SOMEBODY_ELSE = "somebody else"


class FakePlaces:
    """See Places."""

    def __init__(self, *nodes: str) -> None:
        # Node -> the command that took it out of service, or SOMEBODY_ELSE; empty while it serves.
        self.out_by = dict.fromkeys(nodes, "")
        self.calls: list[tuple[str, str]] = []
        # Raised by the next calls of a verb, one by one.
        self.failures: dict[str, list[Exception]] = {}
        # Cleared: draining does not end.
        self.empty = asyncio.Event()
        self.empty.set()
        self.seconds = 120.0
        self._undone: set[str] = set()

    def place_of(self, host: Host) -> str:
        """See Places."""
        return "cluster" if host.name in self.out_by else ""

    def longest_s(self, _effect: PlaceEffect) -> float:
        """See Places."""
        return self.seconds

    async def drain(self, host: str, command_id: str) -> None:
        """See Places."""
        self._call("drain", host, command_id)
        if command_id not in self._undone:
            if self.out_by[host] != SOMEBODY_ELSE:
                self.out_by[host] = command_id
            await self.empty.wait()

    async def uncordon(self, host: str, command_id: str, *, drained_by: str) -> None:
        """See Places."""
        self._call("uncordon", host, command_id)
        self._undone.add(drained_by)
        if self.out_by[host] == drained_by:
            self.out_by[host] = ""

    def serves(self, host: str) -> bool:
        """Whether work may be put on the node."""
        return not self.out_by[host]

    def _call(self, verb: str, host: str, command_id: str) -> None:
        self.calls.append((verb, command_id))
        if self.failures.get(verb):
            raise self.failures[verb].pop(0)
        if host not in self.out_by:
            raise NotFound(f"the cluster has no node {host}")
