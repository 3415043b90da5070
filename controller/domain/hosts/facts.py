"""What an expression sees of a host, and which of many hosts one matches."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controller.domain.hosts.expressions import FACTS, Expression, Undecided
from controller.domain.hosts.host import Host
from controller.domain.hosts.releases import upstream_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A host with what the controller knows of it beyond its own facts."""

    host: Host
    # As they hold: the agent's, under inventories', under those set by hand.
    labels: Mapping[str, str] = field(default_factory=dict)
    quarantined: bool = False
    # The active rollout that holds it, and its step there; empty when none does.
    rollout: str = ""
    step: str = ""


@dataclass(frozen=True, slots=True)
class Matched:
    """Which hosts an expression matches."""

    names: frozenset[str]
    # Why it cannot be decided -> the hosts, which are not in `names`.
    undecided: Mapping[str, tuple[str, ...]]


def decide(condition: Expression, subject: Subject) -> bool | Undecided:
    """Return whether the host matches. What it does not tell, the expression does not see."""
    facts = {name: value for name in condition.names if (value := _FACTS[name](subject)) is not None}
    return condition.decide(facts)


def matching(condition: Expression, subjects: Iterable[Subject]) -> Matched:
    """Ask the expression of every host."""
    names: set[str] = set()
    undecided: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        decided = decide(condition, subject)
        if isinstance(decided, Undecided):
            undecided[decided.why].append(subject.host.name)
        elif decided:
            names.add(subject.host.name)
    return Matched(frozenset(names), {why: tuple(sorted(of)) for why, of in sorted(undecided.items())})


def _swap_backends(subject: Subject) -> list[str] | None:
    found = {device.backend for device in subject.host.swap_devices}
    # An older agent does not tell them.
    return None if "" in found else sorted(found)


def _label(name: str) -> Callable[[Subject], str]:
    return lambda subject: subject.labels.get(name, "")


# Returns None for what the host does not tell.
_FACTS: Final[Mapping[str, Callable[[Subject], Any]]] = {
    "host": lambda of: of.host.name,
    "arch": lambda of: of.host.architecture,
    "platform": lambda of: of.host.platform,
    "stratum": lambda of: of.host.stratum,
    "kernel_release": lambda of: of.host.kernel_release,
    "kernel_version": lambda of: of.host.kernel_version,
    "upstream_version": lambda of: upstream_version(of.host.kernel_release, of.host.kernel_version) or None,
    "command_line": lambda of: of.host.kernel_command_line,
    "agent_version": lambda of: of.host.agent_version or None,
    "page_size": lambda of: of.host.page_size_bytes or None,
    "memory": lambda of: of.host.memory_bytes or None,
    "cpu_count": lambda of: of.host.cpu_count or None,
    "swap_total": lambda of: sum(device.size_bytes for device in of.host.swap_devices),
    "swap_backends": _swap_backends,
    "firmware": lambda of: of.host.firmware or None,
    "boot_loader": lambda of: of.host.boot_loader or None,
    "virtualization": lambda of: of.host.virtualization or None,
    "zone": _label("zone"),
    "rack": _label("rack"),
    "cluster": _label("cluster"),
    "hypervisor": _label("hypervisor"),
    "labels": lambda of: dict(of.labels),
    "connected": lambda of: of.host.connected,
    "quarantined": lambda of: of.quarantined,
    "rollout": lambda of: of.rollout,
    "step": lambda of: of.step,
}
assert _FACTS.keys() == FACTS.keys(), "every fact has a type and a source"
