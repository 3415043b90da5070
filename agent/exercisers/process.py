"""What every exerciser does first and last: end with its parent, speak in lines, tell why it failed."""

import ctypes
import gc
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from agent.domain.work.exercises import End, Event, Failed, Options, Order, as_line, parse_options, parse_order

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_Options = TypeVar("_Options", bound=Options)


def emit(event: Event) -> None:
    """Tell the agent; a line goes out whole."""
    line = as_line(event)
    while line:
        line = line[os.write(sys.stdout.fileno(), line) :]


class Orders:
    """Reads the agent's orders; the end of the input means that the agent is gone."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self._ended = False

    def wait(self) -> Order:
        """Wait for the next order."""
        while (order := self._take()) is None:
            self._read()
        return order

    def poll(self) -> Order | None:
        """Return the next order if there is one already."""
        order = self._take()
        if order is None and select.select([self._descriptor], [], [], 0.0)[0]:
            self._read()
            order = self._take()
        return order

    def __iter__(self) -> Iterator[Order]:
        while not isinstance(order := self.wait(), End):
            yield order

    def _take(self) -> Order | None:
        line, newline, rest = self._buffer.partition(b"\n")
        if newline:
            self._buffer = rest
            return parse_order(line)
        return End() if self._ended else None

    def _read(self) -> None:
        part = os.read(self._descriptor, 4096)
        self._ended = not part
        self._buffer += part


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however that ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It ended before the kernel was told.
        os._exit(1)


def fork(work: Callable[[], None]) -> int:
    """Start a child that does the work and ends with this process; its exit status is 0 when the work returns."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        end_with_parent(parent)
        work()
        status = 0
    except BaseException as error:
        with suppress(OSError):
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        # Nothing of the parent's clean-up, buffers and handlers may run here.
        os._exit(status)


def run_exerciser(kind: type[_Options], work: Callable[[_Options, Orders], None]) -> None:
    """Be the program: parse the options, prepare the process, work; a failure is told as an event."""
    end_with_parent(os.getppid())
    try:
        options = parse_options(kind, sys.argv[1] if len(sys.argv) > 1 else "{}")
        _keep_still()
        work(options, Orders())
    except BrokenPipeError:
        sys.exit(1)
    except (OSError, ValueError, MemoryError) as error:
        emit(Failed(error=f"{type(error).__name__}: {error}"))
        sys.exit(1)


def _keep_still() -> None:
    # A collection would write to every object, and forked children would each get a copy of every page.
    gc.collect()
    gc.freeze()
    gc.disable()
