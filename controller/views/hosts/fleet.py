"""What operators have decided about the fleet, as they see it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.domain.fleet.decided import Fleet
from controller.domain.fleet.inventory import HostChange
from controller.domain.hosts.host import Host
from controller.views.models import Epoch, HostView


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeView:
    """Why no rollout admits hosts."""

    at: Epoch
    by: str
    remark: str
    # When it ends by itself; None when somebody must thaw the fleet.
    until: Epoch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedHostView:
    """A host that is left out of rollouts."""

    host: str
    at: Epoch
    by: str
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DenialView:
    """A kernel that must not reach hosts."""

    kernel: str
    # Empty for all hosts.
    where: str
    reason: str
    at: Epoch
    by: str
    # The rollout whose revert condemned the kernel; empty when an operator denied it.
    rollout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedHostView:
    """A host that an inventory names and that has not enrolled."""

    host: str
    inventory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """The whole of it."""

    # None when the fleet is not frozen.
    freeze: FreezeView | None
    quarantined: tuple[QuarantinedHostView, ...]
    denials: tuple[DenialView, ...]
    missing: tuple[ExpectedHostView, ...]
    enrolled: int
    connected: int


@dataclass(frozen=True, slots=True)
class HostsView:
    """Hosts that an operator asked for."""

    hosts: tuple[HostView, ...]
    # Sentences about hosts that the expression cannot decide on.
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostLabelsView:
    """A host's labels as they hold now."""

    host: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChangeView:
    """What an import changes for one host."""

    host: str
    # "added", "changed" or "removed".
    what: str
    # Labels that are set, and those that the inventory does not name any more.
    labels: Mapping[str, str]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryDiffView:
    """What an import changes."""

    inventory: str
    changes: tuple[HostChangeView, ...]
    # Hosts of which it says what it said before.
    unchanged: int
    # Hosts that it names and that have not enrolled.
    missing: tuple[str, ...]


def inventory_diff(
    inventory: str, changes: Sequence[HostChange], hosts: Iterable[str], enrolled: Iterable[str]
) -> InventoryDiffView:
    """Return what an import of these hosts changes."""
    named = set(hosts)
    return InventoryDiffView(
        inventory=inventory,
        changes=tuple(
            HostChangeView(host=one.host, what=one.what, labels=one.labels, removed=one.removed) for one in changes
        ),
        unchanged=len(named - {one.host for one in changes}),
        missing=tuple(sorted(named - set(enrolled))),
    )


def fleet_view(fleet: Fleet, hosts: Mapping[str, Host], now: float) -> FleetView:
    """Return the fleet as it stands now."""
    freeze = fleet.frozen(now)
    return FleetView(
        freeze=None
        if freeze is None
        else FreezeView(
            at=Epoch(freeze.at),
            by=freeze.by,
            remark=freeze.remark,
            until=None if freeze.until is None else Epoch(freeze.until),
        ),
        quarantined=tuple(
            QuarantinedHostView(host=host, at=Epoch(one.at), by=one.by, remark=one.remark)
            for host, one in sorted(fleet.quarantined.items())
        ),
        denials=tuple(
            DenialView(
                kernel=one.kernel,
                where=one.where,
                reason=one.reason,
                at=Epoch(one.at),
                by=one.by,
                rollout=one.rollout,
            )
            for one in fleet.denials
        ),
        missing=tuple(
            ExpectedHostView(host=host, inventory=one.inventory)
            for host, one in sorted(fleet.expected.items())
            if host not in hosts
        ),
        enrolled=len(hosts),
        connected=sum(host.connected for host in hosts.values()),
    )
