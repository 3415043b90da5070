"""What a kernel brings along for a watchdog before user space is there: its driver, and an end to feeding it."""

import re
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BrokenHost, Entry

_MODULES: Final = ("/usr/lib/modules", "/lib/modules")
_INITIAL: Final = re.compile(r"/(?:initrd|initramfs)[^/]*$")
_LISTERS: Final = ("lsinitramfs", "lsinitrd")
_OPEN_TIMEOUT: Final = re.compile(r"watchdog\.open_timeout=(\d+)$")
_OWN_TIMEOUT: Final = re.compile(r"^CONFIG_WATCHDOG_OPEN_TIMEOUT=(\d+)$", re.MULTILINE)


def has_driver(host: Host, entry: Entry, module: str) -> bool | None:
    """Whether a kernel has a driver before its root file system is there; None when nobody can tell.

    Takes seconds where an initial RAM disk has to be read.
    """
    built_in = is_built_in(host, entry.release, module)
    if built_in:
        return True
    images = [one for one in entry.files if _INITIAL.search(one)]
    if not images:
        # An image of all in one is not opened here; a kernel that has none at all has its drivers built in.
        return None if built_in is None or any(one.endswith(".efi") for one in entry.files) else False
    found = [in_image(host, one, module) for one in images]
    return True if True in found else None if None in found else False


def is_built_in(host: Host, release: str, module: str) -> bool | None:
    """Whether a driver is part of a kernel; None when nobody can tell."""
    for place in _MODULES:
        if (listed := host.text(f"{place}/{release}/modules.builtin")) is not None:
            return any(_names(line, module) for line in listed.splitlines())
    return None


def in_image(host: Host, image: str, module: str) -> bool | None:
    """Whether an initial RAM disk has a driver, as the distribution's own tool lists it; None when it cannot be read.

    Such a file may be several archives, one after the other and each packed in its own way: no other reads them all.
    """
    for lister in _LISTERS:
        if not host.has(lister):
            continue
        try:
            listed = host.run(lister, image)
        except BrokenHost:
            continue
        return any(_names(line.split()[-1], module) for line in listed.splitlines() if line.strip())
    return None


def open_timeout_s(host: Host, entry: Entry) -> int | None:
    """Return how long a kernel feeds a watchdog that already runs until somebody opens it; 0 for ever, None unknown."""
    if given := [match[1] for one in entry.arguments if (match := _OPEN_TIMEOUT.match(one))]:
        return int(given[-1])
    own = _OWN_TIMEOUT.search(host.text(f"/boot/config-{entry.release}") or "")
    return int(own[1]) if own else None


def _names(path: str, module: str) -> bool:
    """Whether a file is that module; both ways of writing its name are one."""
    name, suffix, _ = path.rpartition("/")[2].partition(".ko")
    return bool(suffix) and name.replace("-", "_") == module.replace("-", "_")
