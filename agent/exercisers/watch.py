"""Reads /proc/swaps as often as possible and tells every reading that differs from the one before."""

import os
import time

from agent.domain.exercises import End, Ready, SwapsSeen, Watched, WatchOptions
from agent.exercisers.process import Orders, emit, run_exerciser

_LONGEST_BYTES = 1 << 16
# Readings between two looks at the orders.
_READINGS = 64


def main() -> None:
    """Be the program."""
    run_exerciser(WatchOptions, watch)


def watch(options: WatchOptions, orders: Orders) -> None:
    """Read until told to end."""
    emit(Ready(pid=os.getpid()))
    descriptor = os.open(options.swaps, os.O_RDONLY | os.O_CLOEXEC)
    last: tuple[bytes, ...] | None = None
    readings = 0
    while not isinstance(orders.poll(), End):
        for _ in range(_READINGS):
            begun = time.monotonic()
            os.lseek(descriptor, 0, os.SEEK_SET)
            content = os.read(descriptor, _LONGEST_BYTES)
            ended = time.monotonic()
            readings += 1
            if (shown := _shown(content)) != last:
                last = shown
                emit(SwapsSeen(begun_s=begun, ended_s=ended, text=content.decode("utf-8", "replace")))
    emit(Watched(readings=readings))


def _shown(content: bytes) -> tuple[bytes, ...]:
    """Return the lines without what is in use, which changes all the time."""
    lines = []
    for line in content.split(b"\n"):
        fields = line.split()
        lines.append(b" ".join((*fields[:-2], *fields[-1:])) if len(fields) == 5 else line)
    return tuple(lines)


if __name__ == "__main__":
    main()
