"""What hosts report of their kernel logs: read batch after batch as one log, and remembered with the host."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from controller.domain.state.attempt import MOST_FINDINGS
from controller.gate.kernel_log import Continued, Finding, Severity, Tail, clean, read_on, unread_finding
from controller.services.engine.engine import Engine
from controller.services.ports import Clock, Store

# A log that is longer is read in a thread, so that it holds nobody up.
_SHORT_LOG_CHARACTERS = 16_384
# A kernel prints a report at once; what comes later is no part of it.
_REPORT_GOES_ON_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReported:
    """Kernel-log lines a host reported, oldest first."""

    report_id: str
    boot_id: str
    lines: tuple[str, ...]
    # Records of this boot that nobody has read, and why nobody can read them at all; empty when they can be read.
    lost: int = 0
    unreadable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """The report that the last batch of a host ended in: a line and three names at most."""

    boot_id: str
    at: float
    tail: Tail


class KernelLogs:
    """Reads hosts' kernel logs. What is open of a report is kept in memory only: a restart costs its further frames."""

    def __init__(self, engine: Engine, store: Store, clock: Clock) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="log")

    async def read(self, host: str, report: LogReported) -> Continued:
        """Return what a batch shows, each finding with its boot, and what of the log it says was not read."""
        now = self._clock.now()
        before = self._open.pop(host, None)
        goes_on = before is not None and before.boot_id == report.boot_id and now - before.at <= _REPORT_GOES_ON_S
        tail = before.tail if before is not None and goes_on else None
        told = await self._read_on(report.lines, tail)
        if told.tail is not None:
            self._open[host] = _Open(boot_id=report.boot_id, at=now, tail=told.tail)
        found = [replace(one, boot_id=report.boot_id) for one in told.findings]
        if report.lost:
            lost = f"{report.lost} of its records were gone before they could be read or sent"
            found.append(unread_finding(f"{lost}; a larger log_buf_len keeps more to read", report.boot_id))
        if report.unreadable:
            found.append(unread_finding(report.unreadable.rstrip("."), report.boot_id))
        return replace(told, findings=tuple(found))

    async def _read_on(self, lines: tuple[str, ...], tail: Tail | None) -> Continued:
        if sum(map(len, lines)) <= _SHORT_LOG_CHARACTERS:
            return _read_records(lines, tail)
        return await asyncio.get_running_loop().run_in_executor(self._threads, _read_records, lines, tail)

    async def remember(self, host: str, boot_id: str, told: Continued) -> None:
        """Keep what the present boot wrote with the host: a later rollout must know what its old kernel wrote."""
        known = self._engine.world.hosts.get(host)
        if known is None or known.boot_id != boot_id:
            return
        after = replace(
            known,
            serious=_with(known.serious, told, Severity.SERIOUS),
            fatal=_with(known.fatal, told, Severity.FATAL),
            unread=_with(known.unread, told, Severity.UNREAD),
        )
        if after == known:
            return
        await self._store.save_host(after)
        self._engine.world.hosts[host] = after


def _read_records(lines: tuple[str, ...], tail: Tail | None) -> Continued:
    # An agent tells the kernel's records alone: nothing else may stand in one of them.
    return read_on(map(clean, lines), tail)


def _with(known: Mapping[str, str], told: Continued, severity: Severity) -> Mapping[str, str]:
    """Return the lines of one severity with those that were told, at most so many."""
    kept = dict(known)
    if told.replaced is not None and told.replaced.severity is severity:
        kept.pop(told.replaced.signature, None)
    fresh: dict[str, Finding] = {one.signature: one for one in reversed(told.findings) if one.severity is severity}
    for signature in sorted(fresh.keys() - kept.keys())[: max(0, MOST_FINDINGS - len(kept))]:
        kept[signature] = fresh[signature].line
    return kept
