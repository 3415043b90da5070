"""What the controller knows of a host, and the stratum that follows from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from controller.domain.errors import InvalidInput
from controller.domain.hosts.loaders import HostBoot

# A certificate's common name holds 64 characters.
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapDevice:
    """One line of /proc/swaps."""

    path: str
    size_bytes: int
    used_bytes: int
    # "zram", "nvme", "disk", "file", …; empty when the agent did not say.
    backend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a host says of itself in every Hello; 0 and the empty text are what it does not say.

    A new one is a field here, of the same name in common.proto, and a line in the table of facts.
    """

    # "x86_64" or "arm64".
    architecture: str
    # "metal", "vm", "emulated", or "unknown" when the agent could not tell.
    platform: str
    page_size_bytes: int
    memory_bytes: int
    cpu_count: int
    kernel_release: str
    kernel_version: str
    boot_id: str
    agent_version: str = ""
    kernel_command_line: str = ""
    swap_devices: tuple[SwapDevice, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    # "uefi", "bios" or "devicetree"; "grub", "u-boot", …; "none", "kvm", …
    firmware: str = ""
    boot_loader: str = ""
    virtualization: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host(HostFacts):
    """One enrolled host, as its newest Hello described it."""

    name: str
    connected: bool = False
    # Seconds since the Unix epoch of the newest message; 0 when it was never heard.
    last_seen: float = 0.0
    # Kernel-log lines of the present boot: signature -> line. An agent tells of each once. Serious ones, fatal ones,
    # and what of the log could not be read.
    serious: Mapping[str, str] = field(default_factory=dict)
    fatal: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    # None for a host that does not start from its own disk, or has no kernroll-boot.
    boot: HostBoot | None = None

    @property
    def stratum(self) -> str:
        """Architecture and platform: hosts of different strata are never judged together."""
        return f"{self.architecture}/{self.platform}"


def check_host_name(host: str) -> None:
    """Raise InvalidInput for a name that cannot stand in a certificate, a command id and a file name."""
    if not _HOST_NAME.fullmatch(host):
        raise InvalidInput(
            f"{host[:80]!r} is no host name: 1 to 64 letters, digits, dots, dashes and underscores, "
            "a letter or digit first and last"
        )
