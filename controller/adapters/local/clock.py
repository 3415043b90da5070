"""The wall clock: the one place in the controller that reads it."""

import time
from collections.abc import Callable

# How much faster or slower than real time this clock may go to come into line with the machine's.
_SLEW = 0.1


class SystemClock:
    """The machine's clock, without its leaps.

    Every deadline is a moment of this clock. Were it to follow when somebody sets the machine's clock, an hour ahead
    would end every wait of the fleet at once, and an hour back would keep all of them open for an hour: it goes a
    little faster or slower instead until both agree. A restart takes the machine's time as it is.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - this is the adapter the rule points to
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._now = wall()
        self._read_at = monotonic()

    def now(self) -> float:
        """Return seconds since the Unix epoch; never less than before."""
        read_at = self._monotonic()
        passed = read_at - self._read_at
        ahead = self._wall() - (self._now + passed)
        self._now += passed + max(-_SLEW * passed, min(_SLEW * passed, ahead))
        self._read_at = read_at
        return self._now
