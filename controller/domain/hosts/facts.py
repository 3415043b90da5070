"""Everything that may be asked of a host, in one table: name, type, meaning, reader, and its line in `hosts show`.

`--where`, `--selector`, `selector.match`, `hosts facts` and `hosts show` all read it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from controller.domain.hosts.host import Host, HostFacts
from controller.domain.hosts.releases import upstream_version


class Kind(StrEnum):
    """What a fact's value is, in the words of `kernroll hosts facts`."""

    TEXT = "text"
    NUMBER = "number"
    TRUTH = "condition"
    TEXTS = "list of texts"
    LABELS = "texts by name"


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


# Returns None for what the host does not tell.
Reader = Callable[[Subject], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that may be asked of a host."""

    kind: Kind
    # For people.
    meaning: str
    read: Reader
    # The field of HostFacts that it is, and its line in `hosts show`; empty for what is made of others.
    field: str = ""
    heading: str = ""
    # Whether the number is one of bytes.
    is_size: bool = False
    # Whether it is the host's label of that name and nothing else.
    is_label: bool = False


def _told(field: str, meaning: str, heading: str = "", *, size: bool = False) -> Fact:
    """Return a fact that an agent tells. 0 and the empty text are what it did not tell, except of the kernel."""
    kind = Kind.TEXT if HostFacts.__annotations__[field] is str else Kind.NUMBER
    always = field.startswith("kernel_")

    def read(subject: Subject) -> Any:
        value = getattr(subject.host, field)
        return value if value or always else None

    return Fact(kind=kind, meaning=meaning, read=read, field=field, heading=heading, is_size=size)


def _made(kind: Kind, meaning: str, read: Reader) -> Fact:
    """Return a fact that is made of others, or that the controller knows."""
    return Fact(kind=kind, meaning=meaning, read=read)


def _label(name: str, what: str = "") -> Fact:
    meaning = f'the label of that name{what}; "" without one'
    return Fact(kind=Kind.TEXT, meaning=meaning, read=lambda of: of.labels.get(name, ""), is_label=True)


def _swap_backends(subject: Subject) -> list[str] | None:
    found = {device.backend for device in subject.host.swap_devices}
    # An older agent does not tell them.
    return None if "" in found else sorted(found)


def _boot_proven(subject: Subject) -> bool | None:
    boot = subject.host.boot
    return None if boot is None else boot.proven_at is not None


def _boot_refusals(subject: Subject) -> list[str] | None:
    boot = subject.host.boot
    return None if boot is None else sorted({refusal.code for refusal in boot.refusals})


def _watchdog_open(subject: Subject) -> bool | None:
    watchdog = None if subject.host.boot is None else subject.host.boot.watchdog
    return None if watchdog is None else bool(watchdog.open)


def _watchdog_gaps(subject: Subject) -> list[str] | None:
    watchdog = None if subject.host.boot is None else subject.host.boot.watchdog
    return None if watchdog is None else sorted({gap.code for gap in watchdog.gaps})


FACTS: Final[Mapping[str, Fact]] = {
    "host": _made(Kind.TEXT, "the host's name", lambda of: of.host.name),
    "arch": _told("architecture", '"x86_64" or "arm64"'),
    "platform": _told("platform", '"metal", "vm", "emulated" or "unknown"'),
    "stratum": _made(Kind.TEXT, 'architecture and platform, "arm64/vm"', lambda of: of.host.stratum),
    "kernel_release": _told("kernel_release", "`uname -r`", "Kernel"),
    "kernel_version": _told("kernel_version", "`uname -v`", "Version"),
    "upstream_version": _made(
        Kind.TEXT,
        'of the kernel: "6.1.164" for 6.1.0-44-amd64; not told where its distribution hides it',
        lambda of: upstream_version(of.host.kernel_release, of.host.kernel_version) or None,
    ),
    "command_line": _told("kernel_command_line", "the kernel's, as booted", "Command line"),
    "agent_version": _told("agent_version", "of kernroll-agent", "Agent"),
    "page_size": _told("page_size_bytes", "bytes", "Page size", size=True),
    "memory": _told("memory_bytes", "bytes", "Memory", size=True),
    "cpu_count": _told("cpu_count", "processors that are online", "Processors"),
    "swap_total": _made(
        Kind.NUMBER,
        "bytes over all swap devices",
        lambda of: sum(device.size_bytes for device in of.host.swap_devices),
    ),
    "swap_backends": _made(Kind.TEXTS, 'what they are, each once: "zram", "nvme", "disk", "file", …', _swap_backends),
    "firmware": _told("firmware", '"uefi", "bios" or "devicetree"', "Firmware"),
    "boot_loader": _told("boot_loader", '"grub", "systemd-boot", "u-boot", "qemu", …', "Boot loader"),
    "boot_proven": _made(
        Kind.TRUTH,
        "whether it is proven that it comes back by itself; told by hosts that start from their own disk",
        _boot_proven,
    ),
    "boot_refusals": _made(
        Kind.TEXTS,
        'what speaks against giving such a host a kernel: "menu-waits", "stops-at-a-panic", …',
        _boot_refusals,
    ),
    "watchdog_open": _made(
        Kind.TRUTH,
        "whether systemd keeps a watchdog of such a host open",
        _watchdog_open,
    ),
    "watchdog_gaps": _made(
        Kind.TEXTS,
        'what is missing for a hang of such a host to be ended by it: "watchdog-missing", "watchdog-late", …',
        _watchdog_gaps,
    ),
    "virtualization": _told(
        "virtualization", '"none", "kvm", "qemu", "xen", "vmware", "microsoft", …', "Virtualization"
    ),
    "zone": _label("zone"),
    "rack": _label("rack"),
    "cluster": _label("cluster"),
    "hypervisor": _label("hypervisor", ", the host that runs this one"),
    "labels": Fact(
        kind=Kind.LABELS,
        meaning='all of them: labels.tier == "db", has(labels.tier), labels["a/b"]',
        read=lambda of: dict(of.labels),
        is_label=True,
    ),
    "connected": _made(Kind.TRUTH, "whether its agent is connected now", lambda of: of.host.connected),
    "quarantined": _made(Kind.TRUTH, "whether an operator quarantined it", lambda of: of.quarantined),
    "rollout": _made(Kind.TEXT, 'the active rollout that holds it, "" when none does', lambda of: of.rollout),
    "step": _made(Kind.TEXT, "the host's step in it", lambda of: of.step),
}
# The names of an agent's message, which selectors take as well.
OTHER_NAMES: Final[Mapping[str, str]] = {
    fact.field: name for name, fact in FACTS.items() if fact.field and fact.field not in FACTS
}


def is_fact(name: str) -> bool:
    """Return whether a selector's name is a fact, and no label."""
    fact = FACTS.get(OTHER_NAMES.get(name, name))
    return fact is not None and not fact.is_label


def fact_text(subject: Subject, name: str) -> str | None:
    """Return a fact as a selector writes it, or the host's label of that name; None for what it does not tell.

    A label cannot hide a fact that the host tells. Sizes are bytes, conditions "yes" or "no"; a list has commas.
    """
    value = FACTS[OTHER_NAMES.get(name, name)].read(subject) if is_fact(name) else None
    if value is None:
        return subject.labels.get(name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(value) if isinstance(value, list) else str(value)
