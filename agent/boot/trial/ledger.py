"""Pure: the boots of a host, the kernel that is on trial, and what each event makes of them.

Words for causes and ends are those that the controller knows. Seconds since the kernel's start are used where time is
counted, so that a clock that jumps moves no deadline.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from agent.boot.values import BootError

MOST_BOOTS: Final = 20
# How long what is armed waits for its boot, by default: whoever armed it reboots the host at once.
ARMED_FOR_S: Final = 3600.0


class Cause(StrEnum):
    """Why a boot was started."""

    INITIAL = "initial"
    TRIAL = "trial"
    REQUESTED = "requested"
    FALLBACK = "fallback"
    RESTART = "restart"
    REVERT = "revert"


class End(StrEnum):
    """How a boot ended."""

    PANIC = "panic"
    RESET = "reset"
    NOT_ACKNOWLEDGED = "not_acknowledged"
    NOT_BLESSED = "not_blessed"
    REPLACED = "replaced"
    STOPPED = "stopped"


_AUTOMATIC: Final = (Cause.FALLBACK, Cause.RESTART)
_ENDED_HOW: Final = {
    End.PANIC: "the kernel panicked",
    End.RESET: "the machine reset or powered off by itself",
    End.NOT_ACKNOWLEDGED: "no healthy agent was heard before the boot deadline",
    End.NOT_BLESSED: "it was not blessed before the probation deadline",
    End.REPLACED: "another boot was asked for",
    End.STOPPED: "the machine was switched off",
}
NOT_BOOTED: Final = "the loader did not boot what was armed"
WATCHDOG_RESET: Final = "the watchdog {} reset the machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One start of a kernel."""

    # Counts from 1; never reused.
    number: int
    boot_id: str
    # As the controller knows it.
    kernel: str
    release: str
    # Who asked for it; empty when nobody did.
    command_id: str
    cause: Cause
    # Seconds since the Unix epoch.
    started_at: float
    # A trial until it is blessed.
    on_trial: bool = False
    # Empty while it runs.
    end: str = ""
    line: str = ""
    ended_at: float | None = None
    # The watchdog that systemd kept open as it began; empty when it kept none, None when that is not known.
    watchdog: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A kernel that is armed, or runs and must prove itself."""

    kernel: str
    release: str
    boot_timeout_s: float
    probation_timeout_s: float
    # How much longer it may take when the host can tell that the controller is away.
    patience_s: float
    # The boot in which it runs; empty until then.
    boot_id: str = ""
    # Since the kernel's start.
    acknowledged_s: float | None = None
    # Whether its present deadline was moved because the controller is away.
    extended: bool = False
    # When it was armed, since the kernel's start, and how long it may wait for its boot; None: as long as it likes.
    armed_s: float | None = None
    armed_for_s: float = ARMED_FOR_S
    # What must still be so when it boots: name -> digest or word.
    sealed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A reboot that a command asked for."""

    cause: Cause
    command_id: str
    # The boot in which it was asked, and when, in seconds since the Unix epoch; None where that was not written down.
    boot_id: str
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why the present boot is being ended, written down before it is."""

    end: End
    boot_id: str
    line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All of it."""

    # Grows with every change.
    revision: int = 0
    boots: tuple[Boot, ...] = ()
    trial: Trial | None = None
    asked: Asked | None = None
    ending: Ending | None = None
    # Why what was armed is not armed any more; empty when nobody but those who armed it has taken that back.
    withdrawn: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a boot shows at its beginning."""

    boot_id: str
    kernel: str
    release: str
    now: float
    # What the kernel before wrote as it panicked; empty when nothing is left of it.
    panic_line: str
    # Whether the loader still holds what was armed.
    still_armed: bool
    # What a watchdog is called that says that it reset the machine; empty when none does.
    reset_by: str = ""
    # See Boot.
    watchdog: str | None = None

    @property
    def last_line(self) -> str:
        """What is told of an end that nobody wrote down."""
        return self.panic_line or (WATCHDOG_RESET.format(self.reset_by) if self.reset_by else "")


def begun(ledger: Ledger, seen: Seen) -> Ledger:
    """Return the ledger with this boot in it, and with how the one before ended."""
    if ledger.boots and ledger.boots[-1].boot_id == seen.boot_id:
        # The guard was started again; what it wrote as it was stopped is not so.
        stopped = ledger.ending is not None and ledger.ending.end is End.STOPPED
        return replace(ledger, ending=None) if stopped else ledger
    asked, trial = ledger.asked, ledger.trial
    boots = _closed(ledger, seen)
    command_id = asked.command_id if asked else ""
    cause = asked.cause if asked else (Cause.RESTART if boots else Cause.INITIAL)
    if trial is not None and trial.boot_id:
        # It ran, and does not run any more.
        trial = None
        cause = asked.cause if asked and asked.cause is Cause.REVERT else Cause.FALLBACK
        command_id = command_id if cause is Cause.REVERT else ""
    elif trial is not None and trial.kernel == seen.kernel and not seen.still_armed:
        cause, trial = Cause.TRIAL, replace(trial, boot_id=seen.boot_id)
    elif trial is not None:
        if asked is not None and asked.cause is Cause.TRIAL:
            # It came and went before this program had its turn in it.
            boots = (*boots, _missed(trial, asked, boots, seen))
            cause, command_id = Cause.FALLBACK, ""
        trial = None
    boot = Boot(
        number=_next_number(boots),
        boot_id=seen.boot_id,
        kernel=seen.kernel,
        release=seen.release,
        command_id=command_id,
        cause=cause,
        started_at=seen.now,
        on_trial=trial is not None,
        watchdog=seen.watchdog,
    )
    return Ledger(revision=ledger.revision + 1, boots=(*boots, boot)[-MOST_BOOTS:], trial=trial)


def _closed(ledger: Ledger, seen: Seen) -> tuple[Boot, ...]:
    """Return the boots with an end for the last one."""
    if not ledger.boots or ledger.boots[-1].end:
        return ledger.boots
    last = ledger.boots[-1]
    end, line = End.PANIC if seen.panic_line else End.RESET, seen.last_line
    if ledger.ending is not None and ledger.ending.boot_id == last.boot_id:
        end, line = ledger.ending.end, ledger.ending.line
    elif ledger.asked is not None and ledger.asked.boot_id == last.boot_id:
        end, line = End.REPLACED, ""
    return (*ledger.boots[:-1], replace(last, end=end.value, line=line, ended_at=seen.now))


def _missed(trial: Trial, asked: Asked, boots: tuple[Boot, ...], seen: Seen) -> Boot:
    line = NOT_BOOTED if seen.still_armed else seen.last_line
    return Boot(
        number=_next_number(boots),
        boot_id="",
        kernel=trial.kernel,
        release=trial.release,
        command_id=asked.command_id,
        cause=Cause.TRIAL,
        # Not before; nobody wrote down when.
        started_at=seen.now if asked.at is None else asked.at,
        on_trial=True,
        end=(End.PANIC if seen.panic_line and not seen.still_armed else End.RESET).value,
        line=line,
        ended_at=seen.now,
    )


def _next_number(boots: tuple[Boot, ...]) -> int:
    return boots[-1].number + 1 if boots else 1


def armed(ledger: Ledger, trial: Trial) -> Ledger:
    """Return the ledger with a kernel that the next boot puts on trial."""
    return replace(ledger, revision=ledger.revision + 1, trial=trial, withdrawn="")


def disarmed(ledger: Ledger) -> Ledger:
    """Return the ledger with nothing armed; a trial that runs goes on."""
    armed_now = ledger.trial is not None and not ledger.trial.boot_id
    if not armed_now and not ledger.withdrawn:
        return ledger
    trial = None if armed_now else ledger.trial
    return replace(ledger, revision=ledger.revision + 1, trial=trial, withdrawn="")


def withdrawn(ledger: Ledger, why: str) -> Ledger:
    """What was armed is not as it was: nothing is armed, and whoever wants it to boot is told why it does not."""
    return replace(ledger, revision=ledger.revision + 1, trial=None, withdrawn=why)


def acknowledged(ledger: Ledger, uptime_s: float) -> Ledger:
    """A healthy agent was heard: the probation begins. Raises BootError when the trial is over."""
    require_going_on(ledger)
    trial = ledger.trial
    if trial is None or not trial.boot_id or trial.acknowledged_s is not None:
        return ledger
    trial = replace(trial, acknowledged_s=uptime_s, extended=False)
    return replace(ledger, revision=ledger.revision + 1, trial=trial)


def blessed(ledger: Ledger) -> Ledger:
    """The running kernel is the default: nothing is on trial."""
    if not ledger.boots:
        return ledger
    boots = (*ledger.boots[:-1], replace(ledger.boots[-1], on_trial=False))
    return replace(ledger, revision=ledger.revision + 1, boots=boots, trial=None, ending=None)


def asked_to_boot(ledger: Ledger, asked: Asked) -> Ledger:
    """A command wants another boot; a revert ends a trial."""
    trial = None if asked.cause is Cause.REVERT and ledger.trial and not ledger.trial.boot_id else ledger.trial
    return replace(ledger, revision=ledger.revision + 1, asked=asked, trial=trial)


def booted_unasked(ledger: Ledger, boot_id: str, command_id: str) -> Ledger | None:
    """Return the ledger with the present boot as what a command asked for; None unless it is a trial nobody asked for.

    What is armed boots at the next restart, be it one of the power's.
    """
    trial = ledger.trial
    if trial is None or trial.boot_id != boot_id or not ledger.boots or ledger.boots[-1].command_id:
        return None
    boots = (*ledger.boots[:-1], replace(ledger.boots[-1], command_id=command_id))
    return replace(ledger, revision=ledger.revision + 1, boots=boots)


def ended_by(ledger: Ledger, ending: Ending) -> Ledger:
    """Somebody ends the present boot; what was written down first counts."""
    if ledger.ending is not None or (ledger.asked is not None and ledger.asked.boot_id == ending.boot_id):
        return ledger
    return replace(ledger, revision=ledger.revision + 1, ending=ending)


def require_going_on(ledger: Ledger) -> None:
    """Raise BootError when the last boot that was asked for was a trial and is over."""
    for boot in reversed(ledger.boots):
        if boot.cause in _AUTOMATIC:
            continue
        if boot.on_trial and boot.end:
            said = f': "{boot.line}"' if boot.line else ""
            how = _ENDED_HOW[End(boot.end)]
            raise BootError(f"the trial of kernel {boot.kernel[:12]} (boot {boot.number}) is over: {how}{said}")
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """When the present boot is over unless something is said before."""

    # Since the kernel's start.
    at_s: float
    end: End
    # Whether it is moved once when the controller is away.
    movable: bool


def deadline(ledger: Ledger, boot_id: str) -> Deadline | None:
    """Return the deadline of a boot; None when nothing is on trial in it."""
    trial = ledger.trial
    if trial is None or trial.boot_id != boot_id:
        return None
    more_s = trial.patience_s if trial.extended else 0.0
    if trial.acknowledged_s is None:
        return Deadline(at_s=trial.boot_timeout_s + more_s, end=End.NOT_ACKNOWLEDGED, movable=not trial.extended)
    at_s = trial.acknowledged_s + trial.probation_timeout_s + more_s
    return Deadline(at_s=at_s, end=End.NOT_BLESSED, movable=not trial.extended)


def extended(ledger: Ledger) -> Ledger:
    """The present deadline is moved, once."""
    if ledger.trial is None:
        return ledger
    return replace(ledger, revision=ledger.revision + 1, trial=replace(ledger.trial, extended=True))
