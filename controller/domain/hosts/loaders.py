"""The boot side of a host that starts from its own disk, as its own program tells it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.domain.delivery import DeliveryStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRefusal:
    """Why no kernel may be tried on the host: it would not come back by itself."""

    # For programs, for example "environment-on-lvm".
    code: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWatchdog:
    """Whether a kernel that hangs is ended by hardware."""

    # What the kernel shows, with what their drivers call them: "watchdog0 iTCO_wdt".
    devices: tuple[str, ...]
    # The one of them that systemd keeps open; empty when it keeps none, or nobody can tell.
    open: str
    # After how long without a sign of life it resets the machine; 0 where the kernel does not show it.
    timeout_s: int
    # What is missing for a hang to be ended, "watchdog-late"; none of it keeps kernels from the host by itself.
    gaps: tuple[BootRefusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBoot:
    """What the host's own program says."""

    # "grub", "systemd-boot".
    loader: str
    # Kernels by the digest under which the controller knows them; those the host came with by that of their image.
    delivery: DeliveryStatus
    # Whether a newly installed kernel leaves the default alone.
    pinned: bool
    # When it was proven that the host comes back, and by what it boots; None and empty when it is not proven.
    proven_at: float | None = None
    boots_by: str = ""
    # Why the newest rehearsal was not passed; empty while it may be, or when it was.
    rehearsal_failed: str = ""
    refusals: tuple[BootRefusal, ...] = ()
    # Digest -> release, as `uname -r` would say: kernels that were staged, the default and the running one.
    releases: Mapping[str, str] = field(default_factory=dict)
    # Why what was armed is not armed any more, where the host itself took it back; empty else.
    withdrawn: str = ""
    # Of which packages the host is made, "deb" or "rpm"; empty where it does not say.
    packages: str = ""
    # None where the program is older than that.
    watchdog: HostWatchdog | None = None
