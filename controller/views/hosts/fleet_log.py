"""What operators decided about the fleet, one sentence each, as the record has it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

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
from controller.views.models import Epoch
from controller.words import count_text, time_text


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionView:
    """One decision."""

    at: Epoch
    by: str
    # Without the operator's name and a full stop: "quarantined x86-a: memory errors".
    sentence: str


def decision_views(events: Iterable[FleetEvent]) -> tuple[DecisionView, ...]:
    """Return the decisions in the order of their events."""
    return tuple(DecisionView(at=Epoch(event.at), by=event.by, sentence=_sentence(event)) for event in events)


def _sentence(event: FleetEvent) -> str:
    match event:
        case HostLabelled():
            return f"labelled {event.host}: {_labels(event.labels, event.removed)}"
        case InventoryImported():
            return f"imported {event.inventory}: {count_text(len(event.hosts), 'host')}"
        case HostQuarantined():
            return f"quarantined {event.host}{_why(event.remark)}"
        case HostReleased():
            return f"released {event.host}{_why(event.remark)}"
        case HostForgotten():
            return f"forgot {event.host}{_why(event.remark)}"
        case KernelDenied():
            where = f" where {event.where}" if event.where else ""
            return f"denied {event.kernel}{where}{_why(event.reason)}"
        case KernelCleared():
            where = f" where {event.where}" if event.where else ""
            return f"allowed {event.kernel}{where}{_why(event.remark)}"
        case FleetFrozen():
            until = "" if event.until is None else f" until {time_text(event.until)}"
            return f"froze the fleet{until}{_why(event.remark)}"
        case FleetThawed():
            return f"thawed the fleet{_why(event.remark)}"
        case _:
            assert_never(event)


def _labels(labels: Mapping[str, str], removed: Iterable[str]) -> str:
    parts = [f"{key}={value}" for key, value in sorted(labels.items())]
    return ", ".join([*parts, *(f"{key} taken back" for key in removed)])


def _why(remark: str) -> str:
    return f": {remark}" if remark else ""
