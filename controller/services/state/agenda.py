"""What a controller is to look at again: now, because it has changed, or at a moment that time alone brings."""

import heapq
from dataclasses import dataclass, field

from controller.domain.record.names import Key


@dataclass(slots=True)
class Agenda:
    """Keys of aggregates; noting one costs the same whatever the size of the fleet."""

    # Insertion-ordered set of what to look at again.
    dirty: dict[Key, None] = field(default_factory=dict)
    deadlines: list[tuple[float, int, Key]] = field(default_factory=list)
    _pushed: int = 0
    # The newest moment noted for an aggregate by `wake`.
    _woken: dict[Key, float] = field(default_factory=dict)

    def wake(self, key: Key, at: float | None) -> None:
        """Look at this aggregate again at this moment; the same moment is noted once."""
        if at is not None and self._woken.get(key) != at:
            self._woken[key] = at
            self.push(at, key)

    def push(self, at: float, key: Key) -> None:
        """Look at this aggregate again at this moment."""
        self._pushed += 1
        heapq.heappush(self.deadlines, (at, self._pushed, key))

    def mark(self, key: Key) -> None:
        """Look at this aggregate again."""
        self.dirty[key] = None

    def take_dirty(self) -> Key | None:
        """Return the next aggregate to look at, or None."""
        if not self.dirty:
            return None
        key = next(iter(self.dirty))
        del self.dirty[key]
        return key

    def mark_due(self, now: float) -> None:
        """Mark every aggregate whose time has come."""
        while self.deadlines and self.deadlines[0][0] <= now:
            self.mark(heapq.heappop(self.deadlines)[2])

    def next_deadline(self) -> float | None:
        """Return when time alone next makes something dirty; never late, sometimes early."""
        return self.deadlines[0][0] if self.deadlines else None
