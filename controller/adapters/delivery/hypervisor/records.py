"""What a VM's journal says, one frozen record per line: commands carried out and what became of the boots."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, TypeAlias

from controller.adapters.delivery.hypervisor.definition import read_kernel
from controller.adapters.delivery.hypervisor.fields import Fields
from controller.domain.delivery import BootCause, BootEnd
from controller.domain.errors import Permanent
from controller.domain.kernels import Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    # Seconds since the Unix epoch.
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command(_Event):
    command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfBoot(_Event):
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Defined(_Event):
    """The VM exists; this kernel is staged and the default. Always the first record."""

    kernel: Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedOn(_Event):
    """Somebody wants the machine to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedOff(_Event):
    """Somebody wants the machine to be down until it is switched on again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged(_Command):
    """The kernel's files are in the VM's directory."""

    kernel: Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Armed(_Command):
    """The kernel is to boot once, at the next reboot command."""

    kernel: str
    boot_timeout_s: float
    probation_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RebootAsked(_Command):
    """The machine is to be cold-booted now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged(_Command):
    """A healthy agent was heard in this trial boot; None when no trial was running and nothing changed."""

    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blessed(_Command):
    """The kernel of this trial boot is the default now; None when no trial was running and nothing changed."""

    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverted(_Command):
    """This kernel is the default now and nothing is armed."""

    kernel: str
    # Whether the machine has to be cold-booted for it.
    reboot: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BootStarted(_OfBoot):
    """QEMU is about to be started; written before it is."""

    kernel: str
    command_id: str
    cause: BootCause
    # None for boots that are no trial.
    boot_timeout_s: float | None = None
    probation_timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartResumed(_OfBoot):
    """The supervisor died before it started QEMU for this boot, and starts it now; deadlines count from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootEnding(_OfBoot):
    """QEMU is about to be ended for this reason; written before it is."""

    end: BootEnd
    console_line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootEnded(_OfBoot):
    """QEMU of this boot is gone."""

    end: BootEnd
    console_line: str = ""


Record: TypeAlias = (
    Defined
    | SwitchedOn
    | SwitchedOff
    | Staged
    | Armed
    | RebootAsked
    | Acknowledged
    | Blessed
    | Reverted
    | BootStarted
    | StartResumed
    | BootEnding
    | BootEnded
)
# Records that carry out a command, by the name of the verb.
Command: TypeAlias = Staged | Armed | RebootAsked | Acknowledged | Blessed | Reverted
VERBS: dict[type[Command], str] = {
    Staged: "stage",
    Armed: "arm",
    RebootAsked: "reboot",
    Acknowledged: "acknowledge",
    Blessed: "bless",
    Reverted: "revert",
}
_KINDS: dict[str, type[Record]] = {
    "defined": Defined,
    "switched_on": SwitchedOn,
    "switched_off": SwitchedOff,
    "staged": Staged,
    "armed": Armed,
    "reboot_asked": RebootAsked,
    "acknowledged": Acknowledged,
    "blessed": Blessed,
    "reverted": Reverted,
    "boot_started": BootStarted,
    "start_resumed": StartResumed,
    "boot_ending": BootEnding,
    "boot_ended": BootEnded,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(record: Record) -> str:
    """Return the record as one line of JSON, without the line end."""
    return json.dumps({"kind": _NAMES[type(record)], **dataclasses.asdict(record)}, separators=(",", ":"))


def decode(line: str, where: str) -> Record:
    """Read one line; raise Permanent naming `where` when it is no record of this version."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Permanent(f"{where}: not JSON: {error}") from error
    fields = Fields.of(document, where)
    kind = _KINDS.get(fields.text("kind"))
    if kind is None:
        raise Permanent(
            f"{where}: unknown record {fields.text('kind')!r}, written by a newer kernroll; upgrade this one"
        )
    return kind(**{field.name: _read(fields, kind, field.name) for field in dataclasses.fields(kind)})


def _read(fields: Fields, kind: type[Record], name: str) -> Any:
    match name:
        case "kernel":
            return read_kernel(fields.inner(name)) if kind in (Defined, Staged) else fields.text(name)
        case "at":
            return fields.number(name)
        case "boot_timeout_s" | "probation_timeout_s":
            return fields.optional_number(name) if kind is BootStarted else fields.number(name)
        case "number":
            absent = kind in (Acknowledged, Blessed) and fields.values.get(name) is None
            return None if absent else fields.integer(name, minimum=1)
        case "reboot":
            return fields.boolean(name)
        case "cause":
            return BootCause(fields.one_of(name, tuple(BootCause)))
        case "end":
            return BootEnd(fields.one_of(name, tuple(BootEnd)))
        case _:
            return fields.text(name, empty=True)
