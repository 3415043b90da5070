"""Progress of what is counted and not downloaded: so many of so many, and how long the rest will take."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from controller.cli.preparation import QuietLines

# What is counted, how far it is, of how many; 0 of them when nobody knows.
Report = Callable[[str, int, int], None]


@contextmanager
def counted_progress() -> Iterator[Report]:
    """Yield a callback; a bar on a terminal, a line every few seconds elsewhere, and nothing of it in the results."""
    if not sys.stderr.isatty():
        yield QuietLines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=None)
            bars.update(tasks[label], completed=done, total=total or None)

        yield report
