"""What a simulated world shares: its seed, its clock, and one place where breaches of a rule are told."""

import asyncio
import hashlib
from collections.abc import Callable
from contextvars import Context
from statistics import NormalDist
from typing import Any, Final

# Virtual time begins here, in seconds since the Unix epoch: no run depends on the day on which it is made.
EPOCH_S: Final = 1_800_000_000.0

_NORMAL: Final = NormalDist()


def chance(seed: str, *names: object) -> float:
    """Return a number in [0, 1) that depends on nothing but the arguments.

    Drawn by name and not in sequence: taking one fault away leaves every other draw as it was.
    """
    text = "\0".join((seed, *map(str, names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def normal(seed: str, *names: object) -> float:
    """Return a standard normal number that depends on nothing but the arguments."""
    return _NORMAL.inv_cdf(min(max(chance(seed, *names), 1e-12), 1 - 1e-12))


class Universe:
    """Virtual time and chance. Everything that is no controller lives in it, and dies with nobody."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.loop = asyncio.get_running_loop()
        # Nobody's: a timer that a dying controller's call has set goes off all the same.
        self._context = Context()

    def now(self) -> float:
        """Return the true time in seconds since the Unix epoch."""
        return EPOCH_S + self.loop.time()

    def later(self, delay_s: float, act: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        """Do something at a later moment."""
        return self.loop.call_later(max(0.0, delay_s), act, *arguments, context=self._context)

    def chance(self, *names: object) -> float:
        """See `chance`, with this world's seed."""
        return chance(self.seed, *names)

    def jitter(self, mean_s: float, *names: object) -> float:
        """Return a time around the mean, between three quarters and five quarters of it."""
        return mean_s * (0.75 + 0.5 * self.chance(*names))
