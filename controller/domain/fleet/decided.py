"""What operators have decided about hosts and kernels as a whole: one value, folded from its events."""

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel
from controller.domain.record.fleet import (
    FleetEvent,
    FleetFrozen,
    FleetThawed,
    HostForgotten,
    HostLabelled,
    HostQuarantined,
    HostReleased,
    InventoryImported,
    KernelCleared,
    KernelDenied,
)

# What is long enough to name a kernel by the beginning of its digest, and no release looks like.
_DIGEST = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What an inventory says of a host, whether it has enrolled or not."""

    inventory: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Why a host is left out of rollouts."""

    at: float
    by: str
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A kernel that must not reach hosts."""

    # A digest, the beginning of one, a version ("7.1.13"), or a shell pattern over `uname -r` ("7.1.13+deb13*").
    kernel: str
    # An expression over hosts; empty for all of them.
    where: str
    reason: str
    at: float
    by: str
    # The rollout whose revert condemned the kernel; empty when an operator denied it.
    rollout: str = ""
    # The expression as earlier versions wrote it, which a clearing on record may name; empty where they wrote none.
    formerly: str = ""

    def meets(self, kernel: Kernel) -> bool:
        """Whether the rule is about this kernel."""
        if kernel.digest == self.kernel or _DIGEST.fullmatch(self.kernel):
            return kernel.digest.startswith(self.kernel)
        # "7.1.1" must not meet 7.1.13.
        version = re.match(re.escape(self.kernel) + r"(?![0-9]|\.[0-9])", kernel.release)
        return version is not None or fnmatch.fnmatchcase(kernel.release, self.kernel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Since when and why no rollout admits hosts."""

    at: float
    by: str
    remark: str
    # When it ends by itself; None when an operator must thaw it.
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The operators' decisions that hold now."""

    # Host -> what operators labelled it by hand.
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # Host -> what an inventory says of it.
    expected: Mapping[str, Expected] = field(default_factory=dict)
    quarantined: Mapping[str, Quarantine] = field(default_factory=dict)
    # Oldest first.
    denials: tuple[Denial, ...] = ()
    # The newest freeze, until it is thawed; `frozen` says whether it still holds.
    freeze: Freeze | None = None
    # Events of the stream "fleet".
    revision: int = 0

    def frozen(self, now: float) -> Freeze | None:
        """Return the freeze that holds now, or None."""
        if self.freeze is None or (self.freeze.until is not None and self.freeze.until <= now):
            return None
        return self.freeze

    def denied_as(self, written: str) -> tuple[str, ...]:
        """Return the kernels of the rules that an operator means: as written, or by the beginning of a digest."""
        kernels = dict.fromkeys(one.kernel for one in self.denials)
        if written in kernels:
            return (written,)
        return tuple(one for one in kernels if _DIGEST.fullmatch(written) and one.startswith(written))

    def remembering(self, denials: Iterable[Denial]) -> "Fleet":
        """Return the fleet with rules that no event of its own stream made."""
        kept = self.denials
        for one in denials:
            kept = _denied(kept, one)
        return replace(self, denials=kept)

    def labels_of(self, host: Host) -> Mapping[str, str]:
        """Return a host's labels: its agent's, under what inventories say, under what operators set by hand."""
        expected = self.expected.get(host.name)
        by_hand = self.labels.get(host.name)
        if expected is None and by_hand is None:
            return host.labels
        return {**host.labels, **(expected.labels if expected else {}), **(by_hand or {})}


def evolve_fleet(fleet: Fleet, event: FleetEvent) -> Fleet:
    """Return the fleet after the event."""
    after = replace(fleet, revision=fleet.revision + 1)
    match event:
        case HostLabelled():
            return replace(after, labels=_labelled(fleet.labels, event))
        case InventoryImported():
            others = {host: one for host, one in fleet.expected.items() if one.inventory != event.inventory}
            named = {host: Expected(inventory=event.inventory, labels=labels) for host, labels in event.hosts.items()}
            return replace(after, expected={**others, **named})
        case HostQuarantined():
            quarantine = Quarantine(at=event.at, by=event.by, remark=event.remark)
            return replace(after, quarantined={**fleet.quarantined, event.host: quarantine})
        case HostReleased():
            kept = {host: one for host, one in fleet.quarantined.items() if host != event.host}
            return replace(after, quarantined=kept)
        case HostForgotten():
            # What operators decided about the name is theirs to take back.
            return after
        case KernelDenied():
            denial = Denial(kernel=event.kernel, where=event.where, reason=event.reason, at=event.at, by=event.by)
            return replace(after, denials=_denied(fleet.denials, denial))
        case KernelCleared():
            return replace(after, denials=tuple(one for one in fleet.denials if not _cleared(one, event)))
        case FleetFrozen():
            freeze = Freeze(at=event.at, by=event.by, remark=event.remark, until=event.until)
            return replace(after, freeze=freeze)
        case FleetThawed():
            return replace(after, freeze=None)
        case _:
            assert_never(event)


def concerned(before: Fleet, event: FleetEvent) -> Collection[str] | None:
    """Return the hosts that an event is about, given the fleet before it; None when it is about all."""
    match event:
        case HostLabelled() | HostQuarantined() | HostReleased() | HostForgotten():
            return (event.host,)
        case InventoryImported():
            named = {host for host, one in before.expected.items() if one.inventory == event.inventory}
            return sorted(named | event.hosts.keys())
        case KernelDenied() | KernelCleared() | FleetFrozen() | FleetThawed():
            return None
        case _:
            assert_never(event)


def _labelled(labels: Mapping[str, Mapping[str, str]], event: HostLabelled) -> Mapping[str, Mapping[str, str]]:
    known = {key: value for key, value in labels.get(event.host, {}).items() if key not in event.removed}
    mine = {**known, **event.labels}
    if mine:
        return {**labels, event.host: mine}
    return {host: one for host, one in labels.items() if host != event.host}


def _denied(denials: tuple[Denial, ...], added: Denial) -> tuple[Denial, ...]:
    """Add a rule; it takes the place of one about the same kernel and hosts."""
    kept = (one for one in denials if (one.kernel, one.where) != (added.kernel, added.where))
    return (*kept, added)


def _cleared(denial: Denial, event: KernelCleared) -> bool:
    named = event.where is None or event.where == denial.where
    return denial.kernel == event.kernel and (named or (event.where != "" and event.where == denial.formerly))
