"""Touches anonymous memory sequentially and at random and tells how fast that went, as usemem does.

The memory is written first; the passes that follow are what counts. Sequential passes read one byte and write one byte
of every page in C; a random pass visits every page once in a shuffled order.
"""

import os
import random
import time
from array import array

from agent.domain.work.exercises import Ready, SweepOptions, Swept
from agent.exercisers.process import Orders, emit, fork, run_exerciser
from agent.exercisers.region import PAGE_BYTES, Region

_BLOCK_BYTES = 1 << 20


def main() -> None:
    """Be the program."""
    run_exerciser(SweepOptions, sweep)


def sweep(options: SweepOptions, orders: Orders) -> None:
    """Populate, wait for the order to go on, make the passes, tell the sums of all processes."""
    share = options.size_bytes // options.processes // PAGE_BYTES * PAGE_BYTES
    if share <= 0:
        raise ValueError(f"{options.size_bytes} bytes are too few for {options.processes} processes")
    crew = [_Member(share, options, number) for number in range(options.processes)]
    emit(Ready(pid=os.getpid()))
    for pattern in ("populate", *(options.pattern,) * options.passes):
        orders.wait()
        begun = time.monotonic()
        for member in crew:
            member.start(pattern)
        for member in crew:
            member.finish()
        emit(Swept(pattern=pattern, touched_bytes=share * len(crew), elapsed_s=time.monotonic() - begun))


class _Member:
    """One process that holds a share of the memory and makes a pass when a byte arrives on its pipe."""

    def __init__(self, size_bytes: int, options: SweepOptions, number: int) -> None:
        self._size_bytes = size_bytes
        self._rng = random.Random(f"{options.seed} {number}")
        (order_in, self._order), (self._report, report_out) = os.pipe(), os.pipe()
        fork(lambda: self._work(order_in, report_out))
        os.close(order_in)
        os.close(report_out)

    def start(self, pattern: str) -> None:
        os.write(self._order, pattern[:1].encode())

    def finish(self) -> None:
        if not os.read(self._report, 1):
            raise OSError("a process of the sweep was killed; is there too little memory and swap together?")

    def _work(self, order_in: int, report_out: int) -> None:
        # Otherwise the pipe would stay open when the parent is gone.
        os.close(self._order)
        with Region(self._size_bytes) as region:
            view = region.view()
            while pattern := os.read(order_in, 1):
                match pattern:
                    case b"p":
                        _populate(region, self._rng)
                    case b"s":
                        _pass_in_order(view)
                    case _:
                        _pass_at_random(view, self._rng)
                os.write(report_out, b".")


def _populate(region: Region, rng: random.Random) -> None:
    # Half noise, half zero: about what memory of programs compresses to.
    noise = rng.randbytes(_BLOCK_BYTES // 2)
    half = PAGE_BYTES // 2
    block = b"".join(noise[at : at + half] + bytes(half) for at in range(0, len(noise), half))
    for offset in range(0, region.size_bytes, _BLOCK_BYTES):
        region.write(offset, block[: region.size_bytes - offset])


def _pass_in_order(view: memoryview) -> None:
    for offset in range(0, len(view), _BLOCK_BYTES):
        pages = view[offset : offset + _BLOCK_BYTES : PAGE_BYTES]
        # Reads a byte of every page, then writes it back: swapped in, then dirty.
        pages[:] = pages.tobytes()


def _pass_at_random(view: memoryview, rng: random.Random) -> None:
    pages = array("Q", range(0, len(view), PAGE_BYTES))
    rng.shuffle(pages)
    for at in pages:
        view[at] = view[at] ^ 1


if __name__ == "__main__":
    main()
