"""The source of the kernel that is built: Debian's package, a tarball or a directory."""

import re
from dataclasses import dataclass
from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.memory import GIB
from agent.workloads.port import Host

_DEBIAN_SOURCES = Path("/usr/src")
_DEBIAN_TARBALL = re.compile(r"linux-source-[0-9.]+\.tar\.(xz|bz2|gz|zst)")
_UNPACK_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTree:
    """A source to build from, and where to."""

    source: Path
    output: Path


def find_source(host: Host, named: str) -> str:
    """Return the named source, else the newest of Debian's; empty when there is none."""
    if named:
        return named if host.files.exists(Path(named)) else ""
    names = [each for each in host.files.names(_DEBIAN_SOURCES) if _DEBIAN_TARBALL.fullmatch(each)]
    newest = max(names, key=_version, default="")
    return str(_DEBIAN_SOURCES / newest) if newest else ""


def needs_of(source: str) -> int:
    """Return the room on disk that unpacking takes, in bytes: 1.4 GiB for 6.1, more for later ones."""
    return 2 * GIB if ".tar" in Path(source).name else 0


async def unpack(host: Host, source: str, work: Path) -> KernelTree:
    """Make the work directory, with the source unpacked in it if it is a tarball. Raises RigError."""
    host.files.make_directory(work)
    tree = KernelTree(source=Path(source), output=work / "output")
    if needs_of(source):
        unpacked = work / "source"
        host.files.make_directory(unpacked)
        command = ("tar", "-x", "-f", source, "-C", str(unpacked), "--strip-components=1", "--no-same-owner")
        ended = await host.workers.run(command, timeout_s=_UNPACK_TIMEOUT_S)
        if ended.status:
            raise RigError(f"{source} cannot be unpacked: {ended.complaint}")
        tree = KernelTree(source=unpacked, output=work / "output")
    if not host.files.exists(tree.source / "Kconfig"):
        raise RigError(f"{source} is no kernel source: it has no Kconfig at its top")
    return tree


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name))
