"""The wall clock: the one place in the controller that reads it."""

import time


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""
        return time.time()  # noqa: TID251 - this is the adapter the rule points to
