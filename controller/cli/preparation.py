"""Progress bars for what takes long: one line per thing that is fetched or built, gone when all is ready."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from controller.adapters.local.cache import Progress as Report

# A log without a terminal gets a line per thing and this much time.
_QUIET_S = 5.0


@contextmanager
def shown_progress() -> Iterator[Report]:
    """Yield a progress callback that is safe to call from several threads."""
    if sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield QuietLines()


@contextmanager
def _bars() -> Iterator[Report]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}
        lock = threading.Lock()

        def report(label: str, done_bytes: int, total_bytes: int) -> None:
            with lock:
                if label not in tasks:
                    tasks[label] = bars.add_task(label, total=None)
                bars.update(tasks[label], completed=done_bytes, total=total_bytes or None)

        yield report


class QuietLines:
    """One line when a thing begins, and one every few seconds while it goes on."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """Say how far it is."""
        with self._lock:
            now = time.monotonic()
            if label in self._said and now - self._said[label] < _QUIET_S:
                return
            begun = label not in self._said
            self._said[label] = now
        share = f" {100 * done_bytes // total_bytes} %" if total_bytes and not begun else ""
        print(f"  {label}{share}", file=sys.stderr, flush=True)
