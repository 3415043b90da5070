"""Whose signatures count here: the keys that the machine's owner enrolled, and those that the kernel has."""

import re
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BrokenHost

_COMMON_NAME: Final = re.compile(r"^[ \t]*Subject:.*?\bCN ?= ?([^,/\n]+)", re.MULTILINE)
# As /proc/keys has it: "… asymmetri Debian Secure Boot CA: 6ccece…: X509.rsa bb419ea1 []".
_KERNELS_KEY: Final = re.compile(r"\basymmetri\w* (.+): [0-9a-f]{8,}: ")


def signers(host: Host) -> frozenset[str] | None:
    """Return the names of those whose signatures count; None when neither the kernel nor a tool tells any."""
    kernels = {name for told in _KERNELS_KEY.findall(host.text("/proc/keys") or "") for name in _names(told)}
    return frozenset(kernels | _enrolled(host)) or None


def _names(told: str) -> list[str]:
    """An organization may stand before the name."""
    return [told, told.rpartition(": ")[2]]


def _enrolled(host: Host) -> set[str]:
    if not host.has("mokutil"):
        return set()
    try:
        return {one.strip() for one in _COMMON_NAME.findall(host.run("mokutil", "--list-enrolled"))}
    except BrokenHost:
        # As where there are no EFI variables.
        return set()
