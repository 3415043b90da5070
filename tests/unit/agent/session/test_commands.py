"""Which command is obeyed once, refused, or answered; and what a restart makes of the records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.orders.orders import SwapMountOrder
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.domain.results import OutcomeStatus, RunStatus
from agent.domain.session.commands import (
    REMEMBERED_COMMANDS,
    Accepted,
    Cancel,
    CleaningUp,
    Command,
    CommandBook,
    Conclude,
    Decision,
    EpochSeen,
    Finished,
    Record,
    RunBegun,
    RunEnded,
    RunWorkload,
    Start,
    StopActive,
    Unsupported,
    apply,
    condense,
    decide,
)
from agent.domain.session.recovery import interrupted

WORKLOAD = RunWorkload(
    repetitions=3, warmups=1, order=SwapMountOrder(swap=SwapSource(kind=SourceKind.BLOCK_DEVICE, path="/dev/nvme1n1"))
)
ACCEPTED = Accepted(command_id="c1", workload="swap_mount", warmups=1, boot_id="boot-1", kernel_release="7.1.13")


def book_of(*records: Record) -> CommandBook:
    book = CommandBook()
    for record in records:
        book = apply(book, record)
    return book


def tell(
    book: CommandBook, body: object = WORKLOAD, *, command_id: str = "c1", epoch: int = 1, no_room: str = ""
) -> Decision:
    assert isinstance(body, RunWorkload | Cancel | Unsupported)
    command = Command(command_id=command_id, epoch=epoch, timeout_s=60.0, body=body)
    return decide(book, command, boot_id="boot-1", kernel_release="7.1.13", unable=no_room)


def test_a_new_command_is_written_down_and_started() -> None:
    decision = tell(CommandBook())
    assert decision.records == (EpochSeen(epoch=1), ACCEPTED)
    assert decision.action == Start(command_id="c1", timeout_s=60.0, workload=WORKLOAD)
    assert decision.refused == ""


def test_told_again_nothing_happens() -> None:
    assert tell(book_of(ACCEPTED)) == Decision()
    assert tell(book_of(ACCEPTED, Finished(command_id="c1"))) == Decision()
    # Even by a controller that no longer leads: it was obeyed already.
    assert tell(book_of(EpochSeen(epoch=9), ACCEPTED), epoch=1) == Decision()


def test_a_refusal_is_repeated_word_for_word() -> None:
    book = book_of(Finished(command_id="c1", refused="busy with command c0"))
    assert tell(book) == Decision(refused="busy with command c0")


def test_busy() -> None:
    decision = tell(book_of(EpochSeen(epoch=1), ACCEPTED), command_id="c2")
    assert decision.records == ()
    assert decision.refused == "busy with command c1"
    assert decision.action == Conclude(command_id="c2", status=OutcomeStatus.REFUSED, detail="busy with command c1")


def test_no_room_for_reports() -> None:
    decision = tell(CommandBook(), no_room="the report spool is full")
    assert decision.refused == "the report spool is full"
    assert isinstance(decision.action, Conclude)


def test_stale_epoch_is_refused_but_not_remembered() -> None:
    decision = tell(book_of(EpochSeen(epoch=5)), epoch=4)
    assert decision.records == ()
    assert decision.refused.startswith("stale epoch 4")
    assert isinstance(decision.action, Conclude) and decision.action.stale


def test_an_unknown_command_is_answered_even_while_busy() -> None:
    decision = tell(book_of(ACCEPTED), Unsupported(why="unknown"), command_id="c2")
    assert decision.action == Conclude(command_id="c2", status=OutcomeStatus.UNSUPPORTED, detail="unknown")


def test_cancel_reaches_running_finished_and_unseen_commands() -> None:
    cancel = Cancel(command_id="c1")
    assert tell(book_of(EpochSeen(epoch=1), ACCEPTED), cancel, command_id="x").action == StopActive(command_id="c1")
    assert tell(book_of(EpochSeen(epoch=1), Finished(command_id="c1")), cancel, command_id="x").action is None
    unseen = tell(CommandBook(), cancel, command_id="x").action
    assert isinstance(unseen, Conclude)
    assert (unseen.command_id, unseen.status) == ("c1", OutcomeStatus.CANCELLED)


def test_the_oldest_finished_commands_are_forgotten() -> None:
    book = book_of(*(Finished(command_id=str(number)) for number in range(REMEMBERED_COMMANDS + 3)))
    assert len(book.finished) == REMEMBERED_COMMANDS
    assert "2" not in book.finished
    assert "3" in book.finished


def test_an_interrupted_run_is_reported_as_died() -> None:
    active = book_of(ACCEPTED, RunBegun(index=0), RunEnded(index=0), RunBegun(index=1)).active
    assert active is not None
    run, outcome = interrupted(active, boot_id="boot-1")
    assert run is not None
    assert (run.index, run.warmup, run.status, run.kernel_release) == (1, False, RunStatus.DIED, "7.1.13")
    assert outcome.status is OutcomeStatus.DIED
    assert "the agent was killed during run 1" in outcome.detail
    assert "the host was restarted" in interrupted(active, boot_id="boot-2")[1].detail


ONE_RUN = (ACCEPTED, RunBegun(index=0), RunEnded(index=0))


@pytest.mark.parametrize(
    ("records", "phase"),
    [
        ((ACCEPTED,), "while it prepared"),
        ((ACCEPTED, RunBegun(index=0)), "during warm-up 0"),
        (ONE_RUN, "between two runs"),
        ((*ONE_RUN, RunBegun(index=1)), "during run 1"),
        ((*ONE_RUN, CleaningUp()), "while it cleaned up"),
        ((ACCEPTED, CleaningUp()), "while it cleaned up"),
    ],
)
def test_the_outcome_names_the_phase_in_which_it_died(records: tuple[Record, ...], phase: str) -> None:
    # The journal is condensed at every start of an agent, so it must still say so afterwards.
    active = book_of(*condense(book_of(*records))).active
    assert active is not None
    run, outcome = interrupted(active, boot_id="boot-1")
    assert (run is not None) is ("during" in phase), "only a run that had begun has died"
    assert outcome.status is OutcomeStatus.DIED
    assert outcome.detail == f"the agent was killed {phase}; cleaned up since"


IDS = st.sampled_from(["c1", "c2", "c3"])
RECORDS = st.lists(
    st.one_of(
        st.builds(EpochSeen, epoch=st.integers(0, 9)),
        st.builds(
            Accepted,
            command_id=IDS,
            workload=st.just("swap_mount"),
            warmups=st.integers(0, 2),
            boot_id=st.just("boot-1"),
            kernel_release=st.just("7.1.13"),
        ),
        st.builds(RunBegun, index=st.integers(0, 9)),
        st.builds(RunEnded, index=st.integers(0, 9)),
        st.just(CleaningUp()),
        st.builds(Finished, command_id=IDS, refused=st.sampled_from(["", "busy"])),
    ),
    max_size=30,
)


@given(RECORDS)
def test_condensed_records_fold_into_the_same_book(records: list[Record]) -> None:
    book = book_of(*records)
    assert book_of(*condense(book)) == book


@given(RECORDS, IDS)
def test_no_command_starts_twice(records: list[Record], command_id: str) -> None:
    book = book_of(*records)
    first = tell(book, command_id=command_id, epoch=9)
    for record in first.records:
        book = apply(book, record)
    if isinstance(first.action, Start):
        assert tell(book, command_id=command_id, epoch=9).action is None
