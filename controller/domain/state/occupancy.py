"""The disruption budget's books: how many hosts of each place are known, moving, and away, kept host by host.

A place is the fleet, or a label and its value such as zone=a. Moving hosts are those that a rollout has under way; away
are hosts that nobody hears, whoever took them down. One set of books for all rollouts: the outage of one counts for the
others.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.domain.record.policy import PlaceBound

FLEET = "fleet"
# Label of a guest: the enrolled host that runs it.
HYPERVISOR = "hypervisor"

Place = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    places: tuple[Place, ...]
    moving: bool
    away: bool


class Occupancy:
    """Counts by place. Every update costs the same whatever the size of the fleet. Decisions only read it."""

    __slots__ = ("_away", "_entries", "_known", "_moving")

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._known = Counter[Place]()
        self._moving = Counter[Place]()
        # Away and not moving: a host is counted once. Place -> its hosts, in the order in which they went.
        self._away: dict[Place, dict[str, None]] = {}

    def set(self, host: str, labels: Mapping[str, str], *, moving: bool, away: bool) -> bool:
        """Note where a host is and what it does; return whether that frees or takes room anywhere."""
        before = self._entries.get(host)
        after = _Entry(places=((FLEET, ""), *sorted(labels.items())), moving=moving, away=away)
        if before == after:
            return False
        if before is not None:
            self._count(host, before, -1)
        self._entries[host] = after
        self._count(host, after, 1)
        return True

    def remove(self, host: str) -> None:
        """Strike a host that does not count any more."""
        before = self._entries.pop(host, None)
        if before is not None:
            self._count(host, before, -1)

    def full(self, host: str, bounds: Sequence[PlaceBound], taken: "Taken", *, foreign: bool = True) -> str:
        """Return which place of the host has no room, as a sentence without a full stop; empty when all have.

        `taken` are hosts about to move that the books do not show yet. Without `foreign`, hosts that are away do not
        count: a way back does not wait for them.
        """
        entry = self._entries.get(host)
        places = {FLEET: ""} if entry is None else dict(entry.places)
        for bound in bounds:
            value = places.get(bound.key)
            if value is None:
                continue
            place = (bound.key, value)
            away = len(self._away.get(place, ())) if foreign else 0
            allowed = bound.allowed(self._known[place])
            if self._moving[place] + taken.places[place] + away >= allowed:
                name = "the fleet" if bound.key == FLEET else f"{bound.key}={value}"
                why = f" ({self._example(place, away)})" if away else ""
                return f"{name} may have {allowed} unavailable at a time{why}"
        return ""

    def clash(self, host: str, taken: "Taken") -> str:
        """Return which relative of the host is moving; empty when none is.

        A hypervisor and its guests never move together: the hypervisor's outage would be the guest's.
        """
        entry = self._entries.get(host)
        below = dict(entry.places).get(HYPERVISOR) if entry is not None else None
        if below is not None and (below in taken.hosts or self.counted(below)):
            return f"its hypervisor {below} is moving"
        guests = (HYPERVISOR, host)
        if self._moving[guests] + taken.places[guests]:
            return "a guest of it is moving"
        return ""

    def take(self, host: str, taken: "Taken") -> None:
        """Count a host that is about to move into `taken`."""
        entry = self._entries.get(host)
        taken.hosts.add(host)
        taken.places.update(((FLEET, ""),) if entry is None else entry.places)

    def counted(self, host: str) -> bool:
        """Whether the books show the host as moving."""
        entry = self._entries.get(host)
        return entry is not None and entry.moving

    def _example(self, place: Place, away: int) -> str:
        """Name the host of the place that has been away longest."""
        first = next(iter(self._away[place]))
        return f"{first} is not heard" if away == 1 else f"{first} and {away - 1} more are not heard"

    def _count(self, host: str, entry: _Entry, by: int) -> None:
        for place in entry.places:
            self._known[place] += by
            if entry.moving:
                self._moving[place] += by
            elif entry.away and by > 0:
                self._away.setdefault(place, {})[host] = None
            elif entry.away:
                del self._away[place][host]


class Taken:
    """Hosts whose turn has come and that have not begun to move, with the places they will take."""

    __slots__ = ("hosts", "places")

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        self.places = Counter[Place]()


def taken_by(hosts: Iterable[str], occupancy: Occupancy) -> Taken:
    """Return the places that hosts about to move will take, those left out that the books show already."""
    taken = Taken()
    for host in hosts:
        if not occupancy.counted(host):
            occupancy.take(host, taken)
    return taken
