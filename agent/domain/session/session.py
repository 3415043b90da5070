"""One session with the controller as a state machine: which message may come when, and what it makes the agent do."""

from dataclasses import dataclass, replace
from enum import StrEnum

from agent.domain.errors import ProtocolViolation
from agent.domain.session.commands import Command

PROTOCOL_VERSION = 1
# Beyond it no controller counts: an agent that believed one would refuse all others for ever.
HIGHEST_EPOCH = 2**53
# However long a controller asks to be left alone, it may have been restarted since.
MOST_RETRY_AFTER_S = 300.0
_LONGEST_REASON = 1000


class Phase(StrEnum):
    """How far the session has come."""

    GREETING = "greeting"  # Hello is sent, Welcome awaited
    OPEN = "open"  # both sides send when they have something to say
    ENDED = "ended"  # said goodbye or failed; nothing is sent any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The controller's answer to Hello."""

    protocol_version: int
    epoch: int
    heartbeat_interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReceived:
    """The controller gave an order."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRequest:
    """The controller asks something of this host's kernroll-boot."""

    request_id: str
    epoch: int
    timeout_s: float
    # As on its command line.
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """These reports are durable on the other side."""

    report_ids: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye:
    """The controller ends the session."""

    reason: str
    retry_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownMessage:
    """A message of a later version of the contract; ignored."""


Incoming = Welcome | CommandReceived | BootRequest | Acknowledged | Goodbye | UnknownMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """Where one session stands."""

    phase: Phase = Phase.GREETING
    epoch: int = 0
    # 0 before the Welcome.
    heartbeat_interval_s: float = 0.0
    # 0 unless the controller named a pause.
    retry_after_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """The state after a message, and what the message makes the agent do."""

    state: SessionState
    obey: Command | None = None
    ask: BootRequest | None = None
    forget: frozenset[str] = frozenset()
    # True once, when the spool is to be sent from its beginning.
    opened: bool = False


# A controller that names no interval gets a heartbeat as often as this.
DEFAULT_HEARTBEAT_INTERVAL_S = 10.0
_HEARTBEAT_LIMITS_S = (0.1, 300.0)

_ADMISSIBLE: dict[Phase, tuple[type, ...]] = {
    Phase.GREETING: (Welcome, Goodbye, UnknownMessage),
    Phase.OPEN: (CommandReceived, BootRequest, Acknowledged, Goodbye, UnknownMessage),
    Phase.ENDED: (UnknownMessage,),
}


def react(state: SessionState, message: Incoming) -> Reaction:
    """Take one message. Raises ProtocolViolation when it has no place in this phase."""
    if not isinstance(message, _ADMISSIBLE[state.phase]):
        raise ProtocolViolation(f"{type(message).__name__} has no place in a session that is {state.phase}")
    match message:
        case Welcome(epoch=epoch) | CommandReceived(command=Command(epoch=epoch)) | BootRequest(epoch=epoch) if (
            epoch > HIGHEST_EPOCH
        ):
            raise ProtocolViolation(f"the controller names epoch {epoch}, and none counts beyond {HIGHEST_EPOCH}")
        case Welcome(protocol_version=version) if version != PROTOCOL_VERSION:
            raise ProtocolViolation(
                f"the controller speaks protocol version {version}, this agent {PROTOCOL_VERSION}: "
                "install the agent of the controller's release"
            )
        case Welcome(epoch=epoch, heartbeat_interval_s=interval_s):
            low_s, high_s = _HEARTBEAT_LIMITS_S
            interval_s = min(max(interval_s, low_s), high_s) if interval_s > 0 else DEFAULT_HEARTBEAT_INTERVAL_S
            opened = replace(state, phase=Phase.OPEN, epoch=epoch, heartbeat_interval_s=interval_s)
            return Reaction(state=opened, opened=True)
        case CommandReceived(command=command):
            return Reaction(state=state, obey=command)
        case BootRequest():
            return Reaction(state=state, ask=message)
        case Acknowledged(report_ids=report_ids):
            return Reaction(state=state, forget=report_ids)
        case Goodbye(reason=reason, retry_after_s=retry_after_s):
            # Not a number compares as false.
            pause_s = min(retry_after_s, MOST_RETRY_AFTER_S) if retry_after_s > 0 else 0.0
            ended = replace(state, phase=Phase.ENDED, reason=reason[:_LONGEST_REASON], retry_after_s=pause_s)
            return Reaction(state=ended)
        case UnknownMessage():
            return Reaction(state=state)
