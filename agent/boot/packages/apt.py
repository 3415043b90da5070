"""Debian's package manager: which packages a kernel is, whether they are held, and what would be removed."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BrokenHost

# Where staging names kernels' packages as never to be taken for superfluous.
RULES: Final = "/etc/apt/apt.conf.d/zz-kernroll"
_DATABASE: Final = "/var/lib/dpkg/status"
_PLACES: Final = (
    "/boot/vmlinuz-{}",
    *(f"{folder}/modules/{{}}/{name}" for folder in ("/lib", "/usr/lib") for name in ("modules.builtin", "kernel")),
)
_REMOVED: Final = re.compile(r"^(?:Remv|Purg) (\S+)", re.MULTILINE)
# What dpkg-query ends with where no package has a path; anything else is its own fault.
_NOT_FOUND: Final = "failed with code 1:"


def is_there(host: Host) -> bool:
    """Whether the host has it, and packages of its kind."""
    return host.has("dpkg-query") and host.has("apt-get") and host.path(_DATABASE).exists()


def is_used(host: Host) -> bool:
    """Whether the host is made of its packages: the program alone leaves its list of them empty."""
    path = host.path(_DATABASE)
    return is_there(host) and path.stat().st_size > 0


def owners(host: Host, releases: Iterable[str]) -> list[str]:
    """Return the packages of kernels, sorted; none for a kernel that somebody put there by hand."""
    return sorted({name for release in releases for place in _PLACES for name in _owners(host, place.format(release))})


def _owners(host: Host, path: str) -> Iterator[str]:
    if not host.path(path).exists():
        return
    try:
        told = host.run("dpkg-query", "--search", path)
    except BrokenHost as error:
        if _NOT_FOUND not in str(error):
            raise
        return
    for line in told.splitlines():
        if not line.startswith("diversion by "):
            yield from (one.strip().partition(":")[0] for one in line.rpartition(": ")[0].split(","))


def wanted(host: Host, names: list[str]) -> set[str]:
    """Return which packages are marked as wanted by somebody, and not only as needed by others."""
    told = host.run("apt-mark", "showmanual", *names).split()
    return {one.partition(":")[0] for one in told}


def superfluous(host: Host, names: list[str]) -> list[str]:
    """Return which of these packages apt would remove as superfluous, were it asked to; nothing is removed."""
    told = host.run("apt-get", "--simulate", "--quiet", "autoremove")
    gone = {one.partition(":")[0] for one in _REMOVED.findall(told)}
    return [one for one in names if one in gone]
