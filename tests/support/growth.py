"""How work grows with its size, told without a clock: a busy machine changes no count."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


def steps(run: Callable[[], object]) -> int:
    """Return how many steps of the interpreter a call takes. What a library written in C does counts as one."""
    count = 0

    def traced(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return traced

    before = sys.gettrace()
    sys.settrace(traced)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


@contextmanager
def comes_to_an_end(cpu_s: float = 300.0) -> Iterator[None]:
    """Fail what takes so much of the processor: far more than it may need, far less than the hours of a wrong one."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not at an end after {cpu_s:g} s of the processor")

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
