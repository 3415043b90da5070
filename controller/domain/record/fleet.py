"""What operators decide about the fleet as a whole: each is one event of the stream "fleet", with who and when.

`at` is seconds since the Unix epoch, `by` the operator's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLabelled:
    """Labels of one host were set or taken back."""

    at: float
    by: str
    host: str
    labels: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryImported:
    """What a file says of its hosts replaces what it said before; host -> labels."""

    at: float
    by: str
    inventory: str
    hosts: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostQuarantined:
    """No rollout starts on the host until it is released."""

    at: float
    by: str
    host: str
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReleased:
    """The host may take part in rollouts again."""

    at: float
    by: str
    host: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostForgotten:
    """What the host is known by does not count any more: its name may be enrolled with another key."""

    at: float
    by: str
    host: str
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelDenied:
    """A kernel must not reach hosts: all of them, or those that match an expression."""

    at: float
    by: str
    # A digest, the beginning of one, a version ("7.1.13"), or a shell pattern over `uname -r` ("7.1.13+deb13*").
    kernel: str
    reason: str
    # Empty for every host.
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCleared:
    """The kernel may be rolled out again."""

    at: float
    by: str
    kernel: str
    remark: str = ""
    # Which of the kernel's rules falls: the one with this expression, or all of them when it is None.
    where: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFrozen:
    """No rollout admits a further host. Hosts in flight finish their journey, and reverts go on."""

    at: float
    by: str
    remark: str = ""
    # When it ends by itself; None when an operator must thaw it.
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetThawed:
    at: float
    by: str
    remark: str = ""


FleetEvent = (
    HostLabelled
    | InventoryImported
    | HostQuarantined
    | HostReleased
    | HostForgotten
    | KernelDenied
    | KernelCleared
    | FleetFrozen
    | FleetThawed
)
