"""Who moves next: hosts that wait for their turn in planned order, and hosts whose turn has come.

One value for hosts that wait to start, and one for finished hosts that wait to be returned.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from controller.domain.record.policy import PlaceBound
from controller.domain.state.occupancy import Occupancy, taken_by

# Hosts of one place that are looked at before it counts as full: some are held back for a reason of their own.
_LOOKAHEAD = 64

# A host's values of the bounded labels; None for a label that it does not have.
Values = tuple[str | None, ...]
# The wave and these: hosts with the same key find room or none together.
_QueueKey = tuple[int, Values]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """Where a host waits. Numbers grow with every host that is added."""

    number: int
    position: int
    key: _QueueKey


class Turns:
    """Adding, calling and taking out a host cost the same whatever the size of the fleet. Decisions only read it."""

    __slots__ = ("_entries", "_mixed", "_queues", "_waiting", "called")

    def __init__(self) -> None:
        # What is taken out stays in its queue until it comes to the head: an entry stands while `_waiting` names it.
        self._queues: dict[_QueueKey, deque[tuple[int, int, str]]] = {}
        self._waiting: dict[str, _Entry] = {}
        self._entries = 0
        # Queues that hosts came to from other places, and that are not in order now.
        self._mixed: set[_QueueKey] = set()
        # Their turn has come and they have not moved.
        self.called: dict[str, None] = {}

    def add(self, host: str, wave: int, values: Values, position: int) -> None:
        """Let a host wait, behind the others of its wave and place."""
        self._entries += 1
        self._wait(host, _Entry(number=self._entries, position=position, key=(wave, values)))

    def place(self, host: str, values: Values) -> None:
        """Note that a host has other labels now: where it waits, it waits in its new place, and keeps its turn."""
        entry = self._waiting.get(host)
        if entry is None or entry.key[1] == values:
            return
        key = (entry.key[0], values)
        self._wait(host, replace(entry, key=key))
        self._mixed.add(key)

    def _wait(self, host: str, entry: _Entry) -> None:
        self._waiting[host] = entry
        self._queues.setdefault(entry.key, deque()).append((entry.number, entry.position, host))

    def call(self, hosts: Sequence[str]) -> None:
        """Note that the hosts' turn has come."""
        for host in hosts:
            self._waiting.pop(host, None)
            self.called[host] = None

    def leave(self, host: str) -> None:
        """Note that a host has moved, or waits no more."""
        self._waiting.pop(host, None)
        self.called.pop(host, None)

    @property
    def waiting(self) -> int:
        """Hosts whose turn has not come."""
        return len(self._waiting)

    def waits(self, host: str) -> bool:
        """Whether the host's turn has not come."""
        return host in self._waiting

    def lines(self, last_wave: int) -> list["_Line"]:
        """Return the waiting hosts of every place of the open waves."""
        for key in self._mixed & self._queues.keys():
            # A host that went and came back is in it twice.
            self._queues[key] = deque(sorted(set(self._queues[key])))
        self._mixed.clear()
        for key in [key for key, queue in self._queues.items() if not self._trimmed(key, queue)]:
            del self._queues[key]
        return [
            _Line(wave=key[0], hosts=self._standing(key, queue))
            for key, queue in self._queues.items()
            if key[0] <= last_wave
        ]

    def _standing(self, key: _QueueKey, queue: deque[tuple[int, int, str]]) -> Iterator[tuple[int, str]]:
        return ((position, host) for number, position, host in queue if self._stands(key, number, host))

    def _trimmed(self, key: _QueueKey, queue: deque[tuple[int, int, str]]) -> deque[tuple[int, int, str]]:
        while queue and not self._stands(key, queue[0][0], queue[0][2]):
            queue.popleft()
        return queue

    def _stands(self, key: _QueueKey, number: int, host: str) -> bool:
        entry = self._waiting.get(host)
        return entry is not None and entry.number == number and entry.key == key


class _Line:
    """The waiting hosts of one place, first turn first."""

    __slots__ = ("hosts", "skipped", "wave")

    def __init__(self, wave: int, hosts: Iterator[tuple[int, str]]) -> None:
        self.wave = wave
        # (position, host)
        self.hosts = hosts
        self.skipped = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """Whose turn has come now, and why the first of the others has to wait."""

    hosts: tuple[str, ...]
    # "HOST waits: REASON"; empty when nobody waits for room.
    waits: str = ""


def next_turns(
    turns: Turns,
    occupancy: Occupancy,
    bounds: Sequence[PlaceBound],
    *,
    last_wave: int,
    count: int,
    foreign: bool = True,
) -> Next:
    """Return up to `count` hosts of the open waves for which there is room, in planned order.

    `foreign` as in Occupancy.room. Costs as much as there are places, not hosts.
    """
    taken = taken_by(turns.called, occupancy)
    chosen: list[str] = []
    waits = ""
    heads: list[tuple[int, int, str, _Line]] = []
    if count > 0:
        for line in turns.lines(last_wave):
            _step_up(heads, line)
    while heads and len(chosen) < count:
        _, _, host, line = heapq.heappop(heads)
        if why := occupancy.full(host, bounds, taken, foreign=foreign):
            # So it is for everybody in this line.
            waits = waits or f"{host} waits: {why}"
            continue
        if why := occupancy.clash(host, taken):
            waits = waits or f"{host} waits: {why}"
            line.skipped += 1
        else:
            occupancy.take(host, taken)
            chosen.append(host)
        if line.skipped < _LOOKAHEAD:
            _step_up(heads, line)
    return Next(hosts=tuple(chosen), waits=waits)


def _step_up(heads: list[tuple[int, int, str, _Line]], line: _Line) -> None:
    following = next(line.hosts, None)
    if following is not None:
        position, host = following
        heapq.heappush(heads, (line.wave, position, host, line))
