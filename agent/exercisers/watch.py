"""Reads /proc/swaps as often as possible; tells every reading that differs from the one before, and some others."""

import os
import time
from contextlib import suppress
from pathlib import Path

from agent.domain.host.process_memory import parse_status
from agent.domain.work.exercises import End, Ready, SwapsSeen, Watched, WatchOptions
from agent.exercisers.process import Orders, emit, run_exerciser

_LONGEST_BYTES = 1 << 16
# Readings between two looks at the orders.
_READINGS = 16
# A reading that shows nothing new is told as often as this, as a witness of its moment.
_WITNESS_S = 0.02


def main() -> None:
    """Be the program."""
    run_exerciser(WatchOptions, watch)


def watch(options: WatchOptions, orders: Orders) -> None:
    """Read until told to end."""
    emit(Ready(pid=os.getpid()))
    descriptor = os.open(options.swaps, os.O_RDONLY | os.O_CLOEXEC)
    last: tuple[bytes, ...] | None = None
    told_s = 0.0
    readings = 0
    while not isinstance(orders.poll(), End):
        for _ in range(_READINGS):
            begun = time.monotonic()
            os.lseek(descriptor, 0, os.SEEK_SET)
            content = os.read(descriptor, _LONGEST_BYTES)
            ended = time.monotonic()
            readings += 1
            shown = _shown(content)
            if shown == last and begun - told_s < _WITNESS_S:
                continue
            last, told_s = shown, begun
            text = content.decode("utf-8", "replace")
            load = _load_bytes(options.load_status)
            emit(SwapsSeen(begun_s=begun, ended_s=ended, text=text, load_swapped_bytes=load))
    emit(Watched(readings=readings))


def _shown(content: bytes) -> tuple[bytes, ...]:
    """Return the lines without what is in use, which changes all the time."""
    lines = []
    for line in content.split(b"\n"):
        fields = line.split()
        lines.append(b" ".join((*fields[:-2], *fields[-1:])) if len(fields) == 5 else line)
    return tuple(lines)


def _load_bytes(status: str) -> int | None:
    if not status:
        return None
    with suppress(OSError):
        return parse_status(Path(status).read_text()).swapped_bytes
    return None


if __name__ == "__main__":
    main()
