"""Which command is obeyed, which refused, and which has been obeyed already.

The book is a fold over records. A record is written to disk before the agent acts on it, so a restart folds the same
records into the same book.
"""

from dataclasses import dataclass, field, replace

from agent.domain.orders.orders import Order
from agent.domain.results import OutcomeStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWorkload:
    """Run one workload `warmups + repetitions` times."""

    repetitions: int
    warmups: int
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Stop another command. Answered by that command's own outcome."""

    command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported:
    """A command, or a workload, of a later version of the contract, or one whose fields make no sense."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One order of the controller."""

    command_id: str
    epoch: int
    # Counted from acceptance.
    timeout_s: float
    body: RunWorkload | Cancel | Unsupported


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochSeen:
    """A controller of this epoch was obeyed or greeted."""

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The command is about to start."""

    command_id: str
    workload: str
    warmups: int
    boot_id: str
    kernel_release: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBegun:
    """Run `index` of the active command is about to start."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The report of run `index` is in the spool."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningUp:
    """What the active command set up is about to be taken down; no run of it follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The command's outcome is in the spool."""

    command_id: str
    # The reason when the command was never started; empty when it was.
    refused: str = ""


Record = EpochSeen | Accepted | RunBegun | RunEnded | CleaningUp | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveCommand:
    """The one command that is accepted and not finished."""

    accepted: Accepted
    # The last run that has begun; None before the first.
    last_run: int | None = None
    # Whether that run has not ended.
    running: bool = False
    cleaning_up: bool = False


# How many finished commands are remembered. The controller re-sends only what an agent neither holds nor has reported,
# so far fewer would do.
REMEMBERED_COMMANDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandBook:
    """What the agent knows of the commands it was given."""

    highest_epoch: int = 0
    active: ActiveCommand | None = None
    # Refusal by command id, oldest first; an empty text means that the command was carried out.
    finished: dict[str, str] = field(default_factory=dict)

    @property
    def active_ids(self) -> tuple[str, ...]:
        """Return the ids to name in Hello and Heartbeat."""
        return (self.active.accepted.command_id,) if self.active else ()


def apply(book: CommandBook, record: Record) -> CommandBook:
    """Return the book after one more record."""
    match record:
        case EpochSeen(epoch=epoch):
            return replace(book, highest_epoch=max(book.highest_epoch, epoch))
        case Accepted():
            return replace(book, active=ActiveCommand(accepted=record))
        case RunBegun(index=index):
            if book.active is None:
                return book
            return replace(book, active=replace(book.active, last_run=index, running=True))
        case RunEnded():
            return book if book.active is None else replace(book, active=replace(book.active, running=False))
        case CleaningUp():
            return book if book.active is None else replace(book, active=replace(book.active, cleaning_up=True))
        case Finished(command_id=command_id, refused=refused):
            finished = {**book.finished, command_id: refused}
            for oldest in list(finished)[: max(0, len(finished) - REMEMBERED_COMMANDS)]:
                del finished[oldest]
            active = book.active
            if active is not None and active.accepted.command_id == command_id:
                active = None
            return replace(book, finished=finished, active=active)


def condense(book: CommandBook) -> tuple[Record, ...]:
    """Return the shortest sequence of records that folds into this book."""
    records: list[Record] = [EpochSeen(epoch=book.highest_epoch)] if book.highest_epoch else []
    records += [Finished(command_id=command_id, refused=refused) for command_id, refused in book.finished.items()]
    if book.active is not None:
        active = book.active
        records.append(active.accepted)
        if active.last_run is not None:
            records.append(RunBegun(index=active.last_run))
            records += [] if active.running else [RunEnded(index=active.last_run)]
        records += [CleaningUp()] if active.cleaning_up else []
    return tuple(records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Begin the workload."""

    command_id: str
    timeout_s: float
    workload: RunWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class StopActive:
    """Cancel the running command; its outcome follows when it has cleaned up."""

    command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclude:
    """Report an outcome for a command that never starts."""

    command_id: str
    status: OutcomeStatus
    detail: str
    # True for a stale epoch: the same command may come again from the controller that leads, and is then obeyed.
    stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to write, then answer, then do, in this order."""

    records: tuple[Record, ...] = ()
    # Empty when accepted, or accepted earlier.
    refused: str = ""
    # None when the command was told before and nothing is left to do.
    action: Start | StopActive | Conclude | None = None


def decide(book: CommandBook, command: Command, *, boot_id: str, kernel_release: str, unable: str) -> Decision:
    """Decide on one telling of a command. `unable` says why no workload can be begun at all; empty when one can."""
    command_id = command.command_id
    if command_id in book.finished:
        return Decision(refused=book.finished[command_id])
    if command_id in book.active_ids:
        return Decision()
    if command.epoch < book.highest_epoch:
        reason = f"stale epoch {command.epoch}: epoch {book.highest_epoch} has been obeyed"
        conclusion = Conclude(command_id=command_id, status=OutcomeStatus.REFUSED, detail=reason, stale=True)
        return Decision(refused=reason, action=conclusion)
    epoch: tuple[Record, ...] = (EpochSeen(epoch=command.epoch),) if command.epoch > book.highest_epoch else ()
    match command.body:
        case Cancel(command_id=target):
            decision = _decide_cancel(book, target)
        case Unsupported(why=why):
            decision = _refuse(command_id, OutcomeStatus.UNSUPPORTED, why)
        case RunWorkload() as workload:
            if book.active is not None:
                busy = f"busy with command {book.active.accepted.command_id}"
                decision = _refuse(command_id, OutcomeStatus.REFUSED, busy)
            elif unable:
                decision = _refuse(command_id, OutcomeStatus.REFUSED, unable)
            else:
                accepted = Accepted(
                    command_id=command_id,
                    workload=workload.order.workload,
                    warmups=workload.warmups,
                    boot_id=boot_id,
                    kernel_release=kernel_release,
                )
                start = Start(command_id=command_id, timeout_s=command.timeout_s, workload=workload)
                decision = Decision(records=(accepted,), action=start)
    return replace(decision, records=epoch + decision.records)


def _refuse(command_id: str, status: OutcomeStatus, reason: str) -> Decision:
    # The Finished record follows after the outcome is in the spool; until then a second telling concludes again, with
    # the same report id.
    return Decision(refused=reason, action=Conclude(command_id=command_id, status=status, detail=reason))


def unwritable(command: Command, problem: str) -> Decision:
    """Refuse a command because the journal did not take it."""
    reason = f"the agent's journal cannot be written: {problem}"
    return Decision(
        refused=reason,
        action=Conclude(command_id=command.command_id, status=OutcomeStatus.INFRASTRUCTURE, detail=reason),
    )


def _decide_cancel(book: CommandBook, target: str) -> Decision:
    if target in book.finished:
        return Decision()
    if target in book.active_ids:
        return Decision(action=StopActive(command_id=target))
    # Never seen: it may still be on its way, and must then not start.
    return Decision(
        action=Conclude(command_id=target, status=OutcomeStatus.CANCELLED, detail="cancelled before it was received")
    )
