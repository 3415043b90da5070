"""What a delivery adapter reports about the kernel side of one host.

Values only; the port is in controller.services.ports.
"""

from dataclasses import dataclass
from enum import StrEnum


class BootCause(StrEnum):
    """Why a boot was started."""

    INITIAL = "initial"  # the host was switched on
    TRIAL = "trial"  # a rollout armed this kernel for one boot
    REQUESTED = "requested"  # a rollout asked for a reboot with nothing armed, as on control hosts
    FALLBACK = "fallback"  # the trial before it failed
    RESTART = "restart"  # a blessed kernel ended without being asked to
    REVERT = "revert"  # a rollout returned the host to its former kernel


class BootEnd(StrEnum):
    """How a boot ended."""

    PANIC = "panic"  # the console shows a kernel panic
    RESET = "reset"  # the machine reset or powered off by itself, no panic seen
    NOT_ACKNOWLEDGED = "not_acknowledged"  # no healthy agent by the boot deadline: hang, no network or dead agent
    NOT_BLESSED = "not_blessed"  # acknowledged, but not blessed by the probation deadline
    REPLACED = "replaced"  # ended on request, to boot another kernel
    STOPPED = "stopped"  # the machine was switched off on request


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRecord:
    """One start of a kernel on one host."""

    # Counts from 1 over the life of the host; never reused.
    number: int
    # Digest of the kernel that was started.
    kernel: str
    # The delivery command that asked for it; empty for boots nobody asked for.
    command_id: str
    cause: BootCause
    # None while it runs.
    end: BootEnd | None = None
    # The most telling console line, for example the panic message; empty when there is none.
    console_line: str = ""
    # Seconds since the Unix epoch.
    started_at: float = 0.0
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStatus:
    """The kernel side of one host, as its supervisor or boot loader sees it."""

    host: str
    # Grows with every change; what `watch` continues from.
    revision: int
    # Digest that boots when nothing is armed: the blessed kernel.
    default: str
    # Digest armed for exactly one boot; None when nothing is armed.
    armed: str | None
    # Digest of the kernel running now; None while the machine is down.
    running: str | None
    # Most recent boots, oldest first, at most 20; the last one is running unless it has an end.
    boots: tuple[BootRecord, ...]
