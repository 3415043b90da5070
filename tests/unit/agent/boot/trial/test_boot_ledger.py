"""What becomes of a host's boots and of the kernel on trial."""

from dataclasses import replace

import pytest

from agent.boot.trial import ledger
from agent.boot.trial.ledger import Asked, Cause, End, Ending, Ledger, Seen, Trial
from agent.boot.values import BootError

OLD, NEW = "a" * 64, "b" * 64
TRIAL = Trial(kernel=NEW, release="2.0", boot_timeout_s=100.0, probation_timeout_s=50.0, patience_s=1000.0)


def seen(
    boot: str, kernel: str = OLD, *, line: str = "", armed: bool = False, now: float = 10.0, reset_by: str = ""
) -> Seen:
    return Seen(
        boot_id=boot,
        kernel=kernel,
        release="2.0" if kernel == NEW else "1.0",
        now=now,
        panic_line=line,
        still_armed=armed,
        reset_by=reset_by,
    )


def going_down(cause: Cause = Cause.TRIAL, command: str = "u/h/reboot") -> Ledger:
    """A host that was told to reboot; on trial with a kernel armed."""
    first = ledger.begun(Ledger(), seen("one"))
    armed = ledger.armed(first, TRIAL) if cause is Cause.TRIAL else first
    return ledger.asked_to_boot(armed, Asked(cause=cause, command_id=command, boot_id="one"))


def on_trial() -> Ledger:
    return ledger.begun(going_down(), seen("two", NEW))


def ends(found: Ledger) -> list[tuple[str, str]]:
    return [(one.cause.value, one.end) for one in found.boots]


def test_the_first_boot_that_is_seen_is_the_initial_one_and_is_told_once() -> None:
    first = ledger.begun(Ledger(), seen("one"))
    assert ends(first) == [("initial", "")]
    assert ledger.begun(first, seen("one")) == first


def test_a_trial_is_the_boot_that_was_asked_for() -> None:
    found = on_trial()
    assert ends(found) == [("initial", "replaced"), ("trial", "")]
    assert (found.boots[-1].command_id, found.boots[-1].kernel, found.boots[-1].number) == ("u/h/reboot", NEW, 2)
    assert found.asked is None


def test_deadlines_run_from_the_kernels_start_and_from_the_acknowledgement() -> None:
    found = on_trial()
    due = ledger.deadline(found, "two")
    assert due is not None
    assert (due.at_s, due.end, due.movable) == (100.0, End.NOT_ACKNOWLEDGED, True)
    assert ledger.deadline(found, "another") is None
    heard = ledger.acknowledged(found, 30.0)
    due = ledger.deadline(heard, "two")
    assert due is not None
    assert (due.at_s, due.end) == (80.0, End.NOT_BLESSED)
    # Heard again: the probation began when it was heard first.
    assert ledger.acknowledged(heard, 70.0) == heard


def test_a_deadline_is_moved_once_and_the_acknowledgement_gives_another_its_own_turn() -> None:
    moved = ledger.extended(on_trial())
    due = ledger.deadline(moved, "two")
    assert due is not None
    assert (due.at_s, due.movable) == (1100.0, False)
    due = ledger.deadline(ledger.acknowledged(moved, 500.0), "two")
    assert due is not None
    assert (due.at_s, due.movable) == (550.0, True)


def test_a_blessed_kernel_is_on_trial_no_more() -> None:
    found = ledger.blessed(ledger.acknowledged(on_trial(), 30.0))
    assert found.trial is None
    assert ledger.deadline(found, "two") is None
    again = ledger.begun(found, seen("three", NEW))
    assert ends(again)[-2:] == [("trial", "reset"), ("restart", "")]
    ledger.require_going_on(again)


@pytest.mark.parametrize("ending", [End.NOT_ACKNOWLEDGED, End.NOT_BLESSED])
def test_a_trial_that_the_guard_ended_falls_back_and_says_why(ending: End) -> None:
    ended = ledger.ended_by(on_trial(), Ending(end=ending, boot_id="two"))
    # The shutdown comes after it, and changes nothing.
    ended = ledger.ended_by(ended, Ending(end=End.STOPPED, boot_id="two"))
    found = ledger.begun(ended, seen("three"))
    assert ends(found)[1:] == [("trial", ending.value), ("fallback", "")]
    with pytest.raises(BootError, match=r"the trial of kernel bbbbbbbbbbbb \(boot 2\) is over"):
        ledger.require_going_on(found)


def test_a_panic_in_a_trial_is_told_with_its_line() -> None:
    found = ledger.begun(on_trial(), seen("three", line="Kernel panic - not syncing: x"))
    assert ends(found)[1:] == [("trial", "panic"), ("fallback", "")]
    with pytest.raises(BootError, match='the kernel panicked: "Kernel panic - not syncing: x"'):
        ledger.acknowledged(found, 1.0)


@pytest.mark.parametrize(("line", "end"), [("Kernel panic - not syncing: early", "panic"), ("", "reset")])
def test_a_trial_that_was_over_before_the_guard_had_its_turn_is_on_record(line: str, end: str) -> None:
    found = ledger.begun(going_down(), seen("three", line=line))
    assert ends(found) == [("initial", "replaced"), ("trial", end), ("fallback", "")]
    assert (found.boots[1].command_id, found.boots[1].line) == ("u/h/reboot", line)
    assert found.trial is None


def test_a_loader_that_did_not_boot_what_was_armed_is_told() -> None:
    found = ledger.begun(going_down(), seen("two", armed=True))
    assert found.boots[1].line == ledger.NOT_BOOTED
    assert found.trial is None
    own = replace(going_down(), trial=replace(TRIAL, kernel=OLD, release="1.0"))
    assert ledger.begun(own, seen("two", armed=True)).boots[1].line == ledger.NOT_BOOTED


def test_somebody_reboots_while_a_kernel_is_armed() -> None:
    first = ledger.armed(ledger.begun(Ledger(), seen("one")), TRIAL)
    stopped = ledger.ended_by(first, Ending(end=End.STOPPED, boot_id="one"))
    trial = ledger.begun(stopped, seen("two", NEW))
    assert ends(trial) == [("initial", "stopped"), ("trial", "")]
    assert trial.boots[-1].command_id == ""
    assert ledger.deadline(trial, "two") is not None


def test_a_revert_out_of_a_trial_ends_it() -> None:
    asked = ledger.asked_to_boot(on_trial(), Asked(cause=Cause.REVERT, command_id="u/h/revert", boot_id="two"))
    found = ledger.begun(asked, seen("three"))
    assert ends(found)[1:] == [("trial", "replaced"), ("revert", "")]
    assert found.boots[-1].command_id == "u/h/revert"
    assert found.trial is None


def test_a_reboot_with_nothing_armed_is_one_that_was_requested() -> None:
    found = ledger.begun(going_down(Cause.REQUESTED), seen("two"))
    assert (found.boots[-1].cause, found.boots[-1].command_id) == (Cause.REQUESTED, "u/h/reboot")


def test_a_guard_that_is_started_again_forgets_that_it_was_stopped() -> None:
    stopped = ledger.ended_by(on_trial(), Ending(end=End.STOPPED, boot_id="two"))
    again = ledger.begun(stopped, seen("two", NEW))
    assert again.ending is None
    assert again.trial is not None


def test_boots_are_kept_up_to_a_number_and_counted_on() -> None:
    found = Ledger()
    for number in range(60):
        found = ledger.begun(found, seen(f"boot-{number}"))
    assert len(found.boots) == ledger.MOST_BOOTS
    assert found.boots[-1].number == 60


# --- a watchdog ---

RESET = "the watchdog iTCO_wdt reset the machine"


@pytest.mark.parametrize(
    ("line", "reset_by", "told"),
    [
        ("", "iTCO_wdt", ("reset", RESET)),
        # What does not say so is a reset like any other.
        ("", "", ("reset", "")),
        # What the kernel said counts for more.
        ("Kernel panic", "iTCO_wdt", ("panic", "Kernel panic")),
    ],
)
def test_a_trial_that_hung_is_told_as_the_watchdogs_reset_where_the_hardware_says_so(
    line: str, reset_by: str, told: tuple[str, str]
) -> None:
    found = ledger.begun(on_trial(), seen("three", line=line, reset_by=reset_by))
    assert ends(found)[-1] == ("fallback", "")
    assert (found.boots[-2].end, found.boots[-2].line) == told
    # And so is one that this program never had its turn in.
    missed = ledger.begun(going_down(), seen("three", line=line, reset_by=reset_by))
    assert (missed.boots[-2].cause, missed.boots[-2].end, missed.boots[-2].line) == (Cause.TRIAL, *told)
    # The boot that was left on purpose before it is not at fault.
    assert (missed.boots[0].end, missed.boots[0].line) == ("replaced", "")


def test_a_boot_that_was_left_on_purpose_was_not_ended_by_the_watchdog_of_its_shutdown() -> None:
    stopped = ledger.ended_by(on_trial(), Ending(end=End.NOT_ACKNOWLEDGED, boot_id="two"))
    found = ledger.begun(stopped, seen("three", reset_by="iTCO_wdt"))
    assert (found.boots[-2].end, found.boots[-2].line) == ("not_acknowledged", "")


def test_a_trial_says_whether_a_watchdog_is_open_under_it() -> None:
    for held in ("watchdog0", "", None):
        assert ledger.begun(going_down(), replace(seen("two", NEW), watchdog=held)).boots[-1].watchdog == held


def test_a_boot_that_nobody_saw_began_when_it_was_asked_for() -> None:
    asked = going_down()
    assert asked.asked is not None
    told = replace(asked, asked=replace(asked.asked, at=1000.0))
    missed = ledger.begun(told, seen("three", now=1240.0, line="Kernel panic")).boots[-2]
    assert (missed.started_at, missed.ended_at) == (1000.0, 1240.0)
