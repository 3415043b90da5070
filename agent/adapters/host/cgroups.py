"""Memory cgroups, version 2 where it controls memory and version 1 where a host has only that.

Directly below the root of the hierarchy as this process sees it: the agent itself stays where its supervisor put it,
and no limit of a workload can reach it.
"""

import asyncio
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.domain.errors import RigError

_REMOVE_TIMEOUT_S = 30.0
_PAUSE_S = 0.1
# A cgroup that a kernel still takes apart refuses to go for a moment.
_BUSY = (errno.EBUSY, errno.ENOTEMPTY)
_ACCOUNTS = (
    "memory.stat",
    # Version 2.
    "memory.events",
    "memory.current",
    "memory.peak",
    "memory.swap.current",
    "memory.max",
    # Version 1.
    "memory.oom_control",
    "memory.failcnt",
    "memory.usage_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.limit_in_bytes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """Where memory cgroups are made."""

    root: Path
    # 1 or 2.
    version: int


def memory_hierarchy(mountinfo: str) -> Hierarchy | None:
    """Find the hierarchy that controls memory in /proc/self/mountinfo; None when there is none."""
    unified = None
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.partition(" ")
        path = Path(fields.split()[4].replace("\\040", " ")) if len(fields.split()) > 4 else None
        if path is None:
            continue
        if kind == "cgroup" and "memory" in options.split()[-1].split(","):
            return Hierarchy(root=path, version=1)
        if kind == "cgroup2":
            unified = unified or Hierarchy(root=path, version=2)
    return unified


class Cgroups:
    """The cgroups of workloads."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    @property
    def problem(self) -> str:
        """Return why memory cannot be limited here; empty when it can."""
        hierarchy = self._hierarchy()
        if hierarchy is None:
            return "no memory cgroup is mounted; mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        if not os.access(hierarchy.root, os.W_OK):
            return f"{hierarchy.root} cannot be written; run as root"
        if hierarchy.version == 2 and "memory" not in _words(hierarchy.root / "cgroup.controllers"):
            return f"{hierarchy.root} does not control memory (cgroup_disable=memory on the kernel's command line?)"
        return ""

    def make(self, name: str, memory_limit_bytes: int) -> None:
        """Make the cgroup, limited unless the limit is 0. Raises RigError when a wanted limit cannot be had."""
        problem = self.problem
        hierarchy = self._hierarchy()
        if problem or hierarchy is None:
            if memory_limit_bytes:
                raise RigError(f"memory cannot be limited: {problem}; leave the limit out to use what the host has")
            return
        group = hierarchy.root / name
        try:
            if hierarchy.version == 2 and "memory" not in _words(hierarchy.root / "cgroup.subtree_control"):
                # Stays on: others may have come to rely on it, and it limits nothing by itself.
                (hierarchy.root / "cgroup.subtree_control").write_text("+memory")
            group.mkdir(exist_ok=True)
            limit = str(memory_limit_bytes) if memory_limit_bytes else "max" if hierarchy.version == 2 else "-1"
            (group / ("memory.max" if hierarchy.version == 2 else "memory.limit_in_bytes")).write_text(limit)
        except OSError as error:
            raise RigError(f"the cgroup {group} cannot be set up: {error.strerror}") from error

    def paths(self, name: str) -> tuple[Path, ...]:
        """Return the directories of the cgroup that exist."""
        hierarchy = self._hierarchy()
        group = hierarchy.root / name if hierarchy is not None else None
        return (group,) if group is not None and group.is_dir() else ()

    def processes(self, name: str) -> set[int]:
        """Return the processes inside."""
        found: set[int] = set()
        for group in self.paths(name):
            found |= {int(word) for word in _words(group / "cgroup.procs")}
        return found

    def statistics(self, name: str) -> Mapping[str, str]:
        """Return the cgroup's accounts by file name."""
        found = {}
        for group in self.paths(name):
            for each in _ACCOUNTS:
                text = _text(group / each)
                if text:
                    found[each] = text
        return found

    async def remove(self, name: str) -> None:
        """Take the cgroup down; its processes must have ended. Raises RigError."""
        for group in self.paths(name):
            try:
                async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                    # The kernel announces no end of the taking apart.
                    while not _removed(group):  # noqa: ASYNC110
                        await asyncio.sleep(_PAUSE_S)
            except TimeoutError as error:
                raise RigError(f"the cgroup {group} stays busy after its processes ended") from error

    def _hierarchy(self) -> Hierarchy | None:
        return memory_hierarchy(_text(self._proc / "self/mountinfo"))


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _words(path: Path) -> list[str]:
    return _text(path).split()
