"""Modules that are no part of the kernel: which of them run, and what another kernel has of them."""

import re
from collections.abc import Iterator
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BrokenHost

# Of the kernel's letters: built out of its tree, and not signed.
_OUTSIDE: Final = frozenset("OE")
# "zfs/2.3.2, 6.12.1-amd64, x86_64: installed", and before version 3 "zfs, 2.1.11, 6.1.0-18-amd64, x86_64: installed".
_BUILT: Final = re.compile(r"^([^\s,/]+)(?:/|, )([^\s,]+), ([^\s,]+), [^\s,:]+: *(\S+)", re.MULTILINE)


def from_elsewhere(host: Host) -> list[str]:
    """Return the modules that run and are not of the kernel's own making, sorted."""
    return sorted(
        path.parent.name
        for path in host.path("/sys/module").glob("*/taint")
        if _OUTSIDE & set(host.text(f"/sys/module/{path.parent.name}/taint") or "")
    )


def exists(host: Host, release: str, module: str) -> bool:
    """Whether a kernel has a module. Raises BrokenHost where nobody can tell."""
    if not host.has("modinfo"):
        raise BrokenHost("modinfo is not there, so that nobody can tell which modules a kernel has: install kmod")
    try:
        host.run("modinfo", "-k", release, "-n", module)
    except BrokenHost:
        return False
    return True


def signer(host: Host, release: str, module: str) -> str:
    """Return who signed a kernel's module; empty when nobody did."""
    return host.run("modinfo", "-k", release, "-F", "signer", module).strip()


def not_built(host: Host, release: str) -> Iterator[str]:
    """Yield what DKMS has installed for the running kernel and not for another, with its version."""
    if not host.has("dkms"):
        return
    installed: dict[str, set[str]] = {}
    for name, version, of, state in _BUILT.findall(host.run("dkms", "status")):
        if state.startswith("installed"):
            installed.setdefault(of, set()).add(f"{name} {version}")
    names = {one.partition(" ")[0] for one in installed.get(release, set())}
    # Another version of the same does as well.
    yield from sorted(one for one in installed.get(host.running_release, set()) if one.partition(" ")[0] not in names)
