"""Cgroups that the kernel's own tests make below the root, and leave there when they are killed half-way."""

import errno
from collections.abc import Iterator
from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.work.leftovers import SelftestCgroups
from agent.workloads.port import Host

# Those that others make meanwhile, such as a slice of systemd, have none of these in their names.
_WORDS = ("test", "memcg")
_GONE_TIMEOUT_S = 10.0
_PAUSE_S = 0.1


def noted_cgroups(host: Host) -> SelftestCgroups:
    """Return what is there before the tests, as what is to be left."""
    return SelftestCgroups(known=" ".join(path.name for path in _below(_root(host))))


async def remove_cgroups(host: Host, before: SelftestCgroups) -> None:
    """End what runs in cgroups that tests made since, and remove those. Raises RigError."""
    known = before.known.split()
    for top in _below(_root(host)):
        if top.name in known or not any(word in top.name for word in _WORDS):
            continue
        if host.files.exists(top / "cgroup.kill"):
            host.files.write(top / "cgroup.kill", "1")
        for path in (*_deepest_first(top), top):
            await _remove(host, path)


async def _remove(host: Host, path: Path) -> None:
    deadline = host.monotonic() + _GONE_TIMEOUT_S
    while not _removed(path, patient=host.monotonic() <= deadline):
        await host.sleep(_PAUSE_S)


def _removed(path: Path, *, patient: bool) -> bool:
    """Remove a cgroup; return False when what was killed in it a moment ago is not gone yet. Raises RigError."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY and patient:
            return False
        raise RigError(f"the cgroup {path} of a test cannot be removed: {error.strerror}") from error
    return True


def _root(host: Host) -> Path:
    return host.sys / "fs/cgroup"


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir())


def _deepest_first(top: Path) -> Iterator[Path]:
    yield from sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
