"""The source of the kernel that is built: Debian's package, a tarball or a directory."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.host.memory import GIB
from agent.workloads.port import Host

_DEBIAN_SOURCES = Path("/usr/src")
_DEBIAN_TARBALL = re.compile(r"linux-source-[0-9.]+\.tar\.(xz|bz2|gz|zst)")
# What the lab puts into its guests: a source cut down to what objects of the kernel's core need.
_PARTIAL = re.compile(r"linux-source-[0-9.]+-objects-only")
_UNPACK_TIMEOUT_S = 3600.0
# What git writes for itself, at every look at its state, is no source.
_GIT = ".git"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTree:
    """A source to build from, and where to."""

    source: Path
    output: Path


def find_source(host: Host, named: str) -> str:
    """Return the named source, else the newest of Debian's, else one for objects only; empty when there is none."""
    if named:
        return named if host.files.exists(Path(named)) else ""
    for pattern in (_DEBIAN_TARBALL, _PARTIAL):
        names = [each for each in host.files.names(_DEBIAN_SOURCES) if pattern.fullmatch(each)]
        if names:
            return str(_DEBIAN_SOURCES / max(names, key=_version))
    return ""


def is_partial(source: str) -> bool:
    """Return whether a source's name says that a whole kernel cannot be built from it."""
    return _PARTIAL.fullmatch(Path(source).name) is not None


def needs_of(source: str) -> int:
    """Return the room on disk that unpacking takes, in bytes: 1.4 GiB for 6.1, more for later ones."""
    return 2 * GIB if ".tar" in Path(source).name else 0


def tree_of(source: str, work: Path) -> KernelTree:
    """Return where the source is, or will be unpacked, and where it is built."""
    return KernelTree(source=work / "source" if needs_of(source) else Path(source), output=work / "output")


def state_of(source: str) -> str:
    """Return a text that another content of the source makes another one. Raises OSError.

    Of a directory: the latest change of anything in it by the kernel's own account, which no tool sets back as it may
    the time of modification, and the number of entries. It is read, and not what is in the files: that takes seconds.
    """
    if not os.path.isdir(source):
        archive = os.stat(source)
        return f"{archive.st_size} bytes of {archive.st_mtime_ns}"
    newest_ns = entries = 0
    for directory, directories, names in os.walk(source):
        if _GIT in directories:
            directories.remove(_GIT)
        newest_ns = max(newest_ns, os.stat(directory).st_ctime_ns)
        for name in names:
            # One that is gone since it was listed has changed its directory.
            with suppress(FileNotFoundError):
                newest_ns = max(newest_ns, os.lstat(os.path.join(directory, name)).st_ctime_ns)
        entries += len(names)
    return f"{entries} files, changed at {newest_ns}"


async def unpack(host: Host, source: str, work: Path) -> KernelTree:
    """Make the work directory, with the source unpacked in it if it is a tarball. Raises RigError."""
    host.files.make_directory(work)
    tree = tree_of(source, work)
    if needs_of(source):
        host.files.make_directory(tree.source)
        command = ("tar", "-x", "-f", source, "-C", str(tree.source), "--strip-components=1", "--no-same-owner")
        ended = await host.workers.run(command, timeout_s=_UNPACK_TIMEOUT_S)
        if ended.status:
            raise RigError(f"{source} cannot be unpacked: {ended.complaint}")
    if not host.files.exists(tree.source / "Kconfig"):
        raise RigError(f"{source} is no kernel source: it has no Kconfig at its top")
    return tree


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]{1,9}", name))
