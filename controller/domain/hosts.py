"""What the controller knows of a host, and the stratum that follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapDevice:
    """One line of /proc/swaps."""

    path: str
    size_bytes: int
    used_bytes: int
    # "zram", "nvme", "disk", "file", …; empty when the agent did not say.
    backend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One enrolled host, as its newest Hello described it."""

    name: str
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
    connected: bool = False
    # Seconds since the Unix epoch of the newest message; 0 when it was never heard.
    last_seen: float = 0.0
    # Kernel-log lines of the present boot: signature -> line. An agent tells of each once. Serious ones, fatal ones,
    # and what of the log could not be read.
    serious: Mapping[str, str] = field(default_factory=dict)
    fatal: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    # "uefi", "bios" or "devicetree"; "grub", "u-boot", …; "none", "kvm", …: empty when the agent did not say.
    firmware: str = ""
    boot_loader: str = ""
    virtualization: str = ""

    @property
    def stratum(self) -> str:
        """Architecture and platform: hosts of different strata are never judged together."""
        return f"{self.architecture}/{self.platform}"
