"""Fedora's package manager: which packages a kernel is, that they are protected, and how many kernels it keeps."""

import re
from collections.abc import Iterable
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BrokenHost

# One name a line; dnf removes none of these altogether.
RULES: Final = "/etc/dnf/protected.d/kernroll.conf"
# Says how many kernels it keeps: of more than these it removes the oldest with any transaction, protected or not.
SETTINGS: Final = "/etc/dnf/dnf.conf"
_LIMIT: Final = re.compile(r"^[ \t]*installonly_limit[ \t]*=[ \t]*(\S*)[ \t]*$", re.MULTILINE)
_USUAL_LIMIT: Final = "3"
_DATABASES: Final = tuple(
    f"{folder}/{name}"
    for folder in ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
    for name in ("rpmdb.sqlite", "Packages.db", "Packages")
)
_PLACES: Final = ("/boot/vmlinuz-{}", "/lib/modules/{}/vmlinuz", "/lib/modules/{}/modules.builtin")


def is_there(host: Host) -> bool:
    """Whether the host has it."""
    return (host.has("dnf") or host.has("dnf5")) and host.has("rpm")


def is_used(host: Host) -> bool:
    """Whether the host is made of its packages."""
    return host.has("rpm") and any(host.path(one).exists() for one in _DATABASES)


def limit(host: Host) -> str:
    """Return how many kernels it keeps, "0" for all of them."""
    found = _LIMIT.findall(host.text(SETTINGS) or "")
    return found[-1] if found else _USUAL_LIMIT


def protect(host: Host, releases: Iterable[str]) -> None:
    """Let dnf keep the packages of kernels, beside those that were protected before."""
    former = (host.text(RULES) or "").split()
    names = sorted({*former, *(name for release in releases for name in _owners(host, release))})
    if names != former:
        host.write(RULES, "".join(f"{name}\n" for name in names))


def _owners(host: Host, release: str) -> set[str]:
    found: set[str] = set()
    for place in _PLACES:
        path = place.format(release)
        if host.path(path).exists():
            try:
                found.update(host.run("rpm", "--query", "--file", "--queryformat", "%{NAME}\\n", path).split())
            except BrokenHost:
                # Of no package, which rpm calls a failure; then dnf does not remove it either.
                continue
    return found
