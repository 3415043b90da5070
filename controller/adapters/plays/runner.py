"""Runs a playbook over hosts, and says what became of each."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controller.adapters.plays.leftovers import MARK, end_processes, private_directory
from controller.adapters.plays.outcomes import HostOutcome, PlayEvent, outcomes
from controller.adapters.plays.places import code_directory, playbooks_directory
from controller.adapters.plays.queue import PlayQueue
from controller.domain.errors import InvalidInput, Permanent, Temporary
from controller.domain.hosts.host import check_host_name
from controller.domain.printable import printable

_LONGEST_LINE_BYTES: Final = 1 << 20
_MOST_SAID_BYTES: Final = 1 << 16
_NOT_THERE = "{host} is not in the inventory: add it there under this name, or correct the name"
_UNKNOWN = "what the play has done by then on {hosts} is not known: look (preflight.yml) before it is asked again"


# From then on a play is a long one, which leaves some turns to those that take seconds.
_LONG_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Who hears of a play while it runs, or waits for its turn; what is None is not heard."""

    # How many other plays come before it; again whenever that has changed.
    waits: Callable[[int], None] | None = None
    # The play begins.
    begins: Callable[[], None] | None = None
    # A host begins a task.
    starts: Callable[[str, str], None] | None = None
    # A host has finished a task.
    ends: Callable[[PlayEvent], None] | None = None


_NOBODY: Final = Heard()


class Plays:
    """Runs playbooks over the hosts of one inventory, one play at a time on each host."""

    def __init__(
        self, inventory: Path, *, forks: int = 20, playbooks: Path | None = None, queue: PlayQueue | None = None
    ) -> None:
        """Take a file or folder that Ansible reads, how many hosts a play serves at a time, and who gives turns."""
        self._inventory = inventory
        self._forks = forks
        self._playbooks = playbooks
        self._queue = queue or PlayQueue()
        self._turns: dict[str, asyncio.Lock] = {}

    async def run(
        self,
        playbook: str,
        hosts: Sequence[str],
        variables: Mapping[str, Any],
        *,
        timeout_s: float,
        told: Callable[[PlayEvent], None] | None = None,
        heard: Heard = _NOBODY,
    ) -> Mapping[str, HostOutcome]:
        """Run a playbook over hosts and return what became of each of them; `told` hears of every task as it ends.

        A host on which another play runs is waited for, and so is a turn; `timeout_s` counts from then. Raises
        Temporary when the play did not come to its end: hosts may be in the middle of anything then, as when the caller
        is cancelled, and every process of the play is gone. Raises Permanent when Ansible cannot run it, or none of the
        hosts is in the inventory.
        """
        wanted = tuple(dict.fromkeys(hosts))
        for host in wanted:
            # In a name Ansible would take for a pattern another host could be meant.
            check_host_name(host)
        if not wanted:
            return {}
        file = (self._playbooks or playbooks_directory()) / playbook
        for path in (file, self._inventory):
            if not path.exists():
                raise InvalidInput(f"{path}: no such file or directory")
        async with contextlib.AsyncExitStack() as stack:
            # In one order for all, so that no two wait for each other.
            for host in sorted(wanted):
                await stack.enter_async_context(self._turns.setdefault(host, asyncio.Lock()))
            await stack.enter_async_context(
                self._queue.turn(long=timeout_s >= _LONG_S, who=(playbook, wanted), waits=heard.waits)
            )
            if heard.begins is not None:
                heard.begins()
            directory = stack.enter_context(private_directory())
            request = {
                "directory": str(directory),
                "playbook": str(file.resolve()),
                "inventory": str(self._inventory.resolve()),
                "hosts": wanted,
                "variables": dict(variables),
                "forks": max(1, min(self._forks, len(wanted))),
                "timeout_s": timeout_s,
            }
            try:
                async with asyncio.timeout(timeout_s):
                    events, end = await _play(request, told or heard.ends, heard.starts)
            except TimeoutError as error:
                raise Temporary(
                    f"{playbook}: not done after {timeout_s:.0f} s and ended; {_unknown(wanted)}"
                ) from error
        return _judged(playbook, wanted, events, end)


def _judged(
    playbook: str, hosts: Sequence[str], events: Sequence[PlayEvent], end: Mapping[str, Any] | str
) -> Mapping[str, HostOutcome]:
    if isinstance(end, str):
        raise Temporary(f"{playbook}: the play ended before its time: {end}; {_unknown(hosts)}")
    if not events:
        faults = [str(one) for one in end["faults"]]
        other = [one for one in faults if not _is_missing(one)]
        if other:
            raise Permanent(f"{playbook}: Ansible cannot run it: {other[0]}")
        raise Permanent(f"{playbook}: {_NOT_THERE.format(host=_named(hosts))}")
    if end["status"] not in ("successful", "failed"):
        raise Temporary(f"{playbook}: the play was ended ({end['status']}); {_unknown(hosts)}")
    return outcomes(hosts, events, _NOT_THERE)


def _is_missing(fault: str) -> bool:
    return "supplied host pattern" in fault or "leaves us with no hosts" in fault or fault.startswith("ignoring")


def _named(hosts: Sequence[str]) -> str:
    return ", ".join(hosts[:5]) + (f" and {len(hosts) - 5} more" if len(hosts) > 5 else "")


def _unknown(hosts: Sequence[str]) -> str:
    return _UNKNOWN.format(hosts=_named(hosts))


async def _play(
    request: Mapping[str, Any],
    told: Callable[[PlayEvent], None] | None,
    starts: Callable[[str, str], None] | None,
) -> tuple[list[PlayEvent], Mapping[str, Any] | str]:
    """Return what happened and how it ended: Ansible's word, or in words that there was none."""
    events: list[PlayEvent] = []
    end: Mapping[str, Any] | None = None
    async with _program(request["directory"]) as (process, said):
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request).encode())
        # It says itself why it did not read it.
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
            process.stdin.close()
        async for line in process.stdout:
            heard = json.loads(line)
            if "end" in heard:
                end = heard["end"]
                continue
            if "starts" in heard:
                if starts is not None:
                    starts(*heard["starts"])
                continue
            event = PlayEvent(**heard["task"])
            events.append(event)
            if told is not None:
                told(event)
        code = await process.wait()
        last = await said
    if end is not None:
        return events, end
    lines = [line for line in last.decode("utf-8", "replace").splitlines() if line.strip()]
    how = f"signal {-code} ended it" if code < 0 else f"code {code}"
    return events, printable(f"{how}{f', after it said: {lines[-1]}' if lines else ''}")


@contextlib.asynccontextmanager
async def _program(directory: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, "asyncio.Task[bytes]"]]:
    """Yield the program that plays, and what it says on standard error; it is gone when the block is left."""
    # Beside the interpreter stand the programs of its environment, ansible-playbook among them.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}"
    own = {name: value for name, value in os.environ.items() if not name.startswith("KERNROLL_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "controller.adapters.plays.play",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        process_group=0,
        limit=_LONGEST_LINE_BYTES,
        cwd=code_directory(),
        env={**own, "PATH": path, MARK: directory},
    )
    assert process.stderr is not None
    said = asyncio.create_task(_tail(process.stderr))
    try:
        yield process, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        end_processes(Path(directory))
        # With what is left to be read the pipes come to their end, and only then the process is waited for.
        assert process.stdout is not None
        await asyncio.gather(process.wait(), _tail(process.stdout), said, return_exceptions=True)


async def _tail(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while piece := await stream.read(_MOST_SAID_BYTES):
        kept = (kept + piece)[-_MOST_SAID_BYTES:]
    return kept
