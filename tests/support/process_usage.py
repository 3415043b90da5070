"""What a running process costs: memory, processor time and how often it wakes up, from /proc and the process's clock.

Nothing here disturbs the process: its numbers are the kernel's own, and the reader pays for reading them.
"""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

# linux/posix-timers.h: which clock of a process, in the lowest bits of its clock id. This one counts the nanoseconds on
# a processor of all its threads, those that have ended included; /proc/PID/stat only gives hundredths of a second.
_CPUCLOCK_SCHED = 2
_VOLUNTARY, _INVOLUNTARY = "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"


class ProcessGone(Exception):
    """The process has ended, so that it has no numbers."""


@dataclass(frozen=True, slots=True)
class Switches:
    """How often a thread gave its processor up: to wait for something, or because somebody else was to have it."""

    voluntary: int
    involuntary: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One process at one moment."""

    # Seconds, from any origin.
    at_s: float
    cpu_s: float
    rss_bytes: int
    pss_bytes: int
    # By thread id.
    threads: Mapping[int, Switches]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process cost over a while; memory is the median of the snapshots."""

    seconds: float
    rss_mb: float
    pss_mb: float
    threads: int
    # Of one processor.
    cpu_percent: float
    # Voluntary context switches: each is a wait that a wake-up ended.
    wakeups_per_min: float
    # Involuntary ones: mostly others who wanted the processor.
    preemptions_per_min: float


def snapshot(pid: int, proc: Path = Path("/proc")) -> Snapshot:
    """Read one process. Raises ProcessGone."""
    try:
        memory = _sizes((proc / f"{pid}/smaps_rollup").read_text())
        threads = {}
        for task in (proc / f"{pid}/task").iterdir():
            # A thread may end while it is read.
            with suppress(FileNotFoundError, ProcessLookupError):
                threads[int(task.name)] = parse_switches((task / "status").read_text())
        cpu_s = time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except (OSError, KeyError) as error:
        raise ProcessGone(f"process {pid} has ended, or is somebody else's: {error}") from error
    return Snapshot(
        at_s=time.monotonic(), cpu_s=cpu_s, rss_bytes=memory["Rss"], pss_bytes=memory["Pss"], threads=threads
    )


def parse_switches(status: str) -> Switches:
    """Read a thread's /proc status. Raises KeyError when it lacks the counters."""
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return Switches(int(lines[_VOLUNTARY]), int(lines[_INVOLUNTARY]))


def usage(snapshots: Sequence[Snapshot]) -> Usage:
    """Return what happened between the first snapshot and the last; at least two.

    What a thread did between its last snapshot and its end is not known and not counted.
    """
    first, last = snapshots[0], snapshots[-1]
    seconds = last.at_s - first.at_s
    voluntary = involuntary = 0
    for before, after in pairwise(snapshots):
        for thread, now in after.threads.items():
            # One that was not there before has done all this since.
            then = before.threads.get(thread, Switches(0, 0))
            voluntary += now.voluntary - then.voluntary
            involuntary += now.involuntary - then.involuntary
    return Usage(
        seconds=seconds,
        rss_mb=statistics.median(each.rss_bytes for each in snapshots) / 1e6,
        pss_mb=statistics.median(each.pss_bytes for each in snapshots) / 1e6,
        threads=max(len(each.threads) for each in snapshots),
        cpu_percent=100 * (last.cpu_s - first.cpu_s) / seconds,
        wakeups_per_min=60 * voluntary / seconds,
        preemptions_per_min=60 * involuntary / seconds,
    )


class KernelLogCounter:
    """Counts the kernel's new log records: each one wakes an agent that reads them."""

    def __init__(self, path: Path = Path("/dev/kmsg")) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1
            return
        os.lseek(self._descriptor, 0, os.SEEK_END)

    def count(self) -> int | None:
        """Return the records since the start, and stop counting; None when this user may not read the log."""
        if self._descriptor < 0:
            return None
        found, more = 0, True
        with suppress(BlockingIOError):
            while more:
                # Raised once when records were overwritten unread; those are not counted.
                with suppress(BrokenPipeError):
                    # The kernel gives one record a read.
                    more = bool(os.read(self._descriptor, 16384))
                    found += more
        os.close(self._descriptor)
        self._descriptor = -1
        return found


def _sizes(text: str) -> dict[str, int]:
    """Return the bytes by name of a /proc file that gives them in kB."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            found[name] = int(words[0]) * 1024
    return found
