"""Who moves next: hosts that wait for their turn in planned order, and hosts whose turn has come.

One value for hosts that wait to start, and one for finished hosts that wait to be returned.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from controller.domain.occupancy import Occupancy, taken_by
from controller.domain.policy import PlaceBound

# Hosts of one place that are looked at before it counts as full: some are held back for a reason of their own.
_LOOKAHEAD = 64

# Wave, then the values of the bounded labels: hosts with the same key find room or none together.
_QueueKey = tuple[int, tuple[str, ...]]


class Turns:
    """Adding, calling and taking out a host cost the same whatever the size of the fleet. Decisions only read it."""

    __slots__ = ("_entries", "_queues", "_waiting", "called")

    def __init__(self) -> None:
        # What is taken out stays in its queue until it comes to the head: an entry stands while `_waiting` names it.
        self._queues: dict[_QueueKey, deque[tuple[int, int, str]]] = {}
        # Host -> number of its entry.
        self._waiting: dict[str, int] = {}
        self._entries = 0
        # Their turn has come and they have not moved.
        self.called: dict[str, None] = {}

    def add(self, host: str, wave: int, values: tuple[str, ...], position: int) -> None:
        """Let a host wait, behind the others of its wave and place."""
        self._entries += 1
        self._waiting[host] = self._entries
        self._queues.setdefault((wave, values), deque()).append((self._entries, position, host))

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
        for key in [key for key, queue in self._queues.items() if not self._trimmed(queue)]:
            del self._queues[key]
        return [
            _Line(
                wave=key[0], hosts=((position, host) for number, position, host in queue if self._stands(number, host))
            )
            for key, queue in self._queues.items()
            if key[0] <= last_wave
        ]

    def _trimmed(self, queue: deque[tuple[int, int, str]]) -> deque[tuple[int, int, str]]:
        while queue and not self._stands(queue[0][0], queue[0][2]):
            queue.popleft()
        return queue

    def _stands(self, number: int, host: str) -> bool:
        return self._waiting.get(host) == number


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
