"""The cluster that some hosts are nodes of: draining takes a while, sometimes for ever; sometimes nobody answers."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from controller.domain.errors import Permanent, Temporary
from controller.domain.hosts.host import Host
from controller.domain.record.effects import DrainHost, PlaceEffect
from controller.sim.hosts.delivery import Gate
from controller.sim.hosts.fates import Fate, is_down
from controller.sim.universe import Universe

_NAME: Final = "cluster"
_LATENCY_S: Final = 0.2
_DRAIN_S: Final = 60.0
_RETRY_S: Final = 5.0
_LONGEST_S: Final = 120.0
_LONGEST_DRAIN_S: Final = 600.0


@dataclass(slots=True)
class Cluster:
    """What its nodes are like, whoever has a hand in it."""

    # Nodes that are out of service.
    out: set[str] = field(default_factory=set)
    # Drainings that were taken back.
    undone: set[str] = field(default_factory=set)


class SimulatedPlaces:
    """What one controller process sees of the cluster. See Places."""

    def __init__(self, universe: Universe, cluster: Cluster, fates: Mapping[str, Fate]) -> None:
        self._universe = universe
        self._cluster = cluster
        self._fates = fates
        # Set by the process it belongs to.
        self.gate: Gate | None = None

    def place_of(self, host: Host) -> str:
        """See Places."""
        return _NAME if self._fates[host.name].is_node else ""

    def longest_s(self, effect: PlaceEffect) -> float:
        """See Places."""
        return _LONGEST_DRAIN_S if isinstance(effect, DrainHost) else _LONGEST_S

    async def drain(self, host: str, command_id: str) -> None:
        """See Places."""
        await self._reach(host, f"drain {command_id} before")
        if self._fates[host].may_not_drain:
            raise Permanent(f"{host}: the cluster does not let it go")
        if command_id not in self._cluster.undone:
            self._cluster.out.add(host)
            stuck = self._fates[host].never_empty
            await asyncio.sleep(_LONGEST_DRAIN_S if stuck else self._universe.jitter(_DRAIN_S, "drain", command_id))
        self._at(f"drain {command_id} after")

    async def uncordon(self, host: str, command_id: str, *, drained_by: str) -> None:
        """See Places."""
        await self._reach(host, f"uncordon {command_id} before")
        self._cluster.out.discard(host)
        self._cluster.undone.add(drained_by)
        self._at(f"uncordon {command_id} after")

    async def _reach(self, host: str, what: str) -> None:
        await asyncio.sleep(_LATENCY_S)
        phase = self._universe.chance(host, "cluster")
        if is_down(self._fates[host].cluster_away, self._universe.loop.time(), phase):
            raise Temporary(f"{host}: the cluster does not answer", retry_after_s=_RETRY_S)
        self._at(what)

    def _at(self, what: str) -> None:
        if self.gate is not None:
            self.gate.effect(what)
