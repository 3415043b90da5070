"""The supervisor's pure core: no sequence of commands, crashes and time brings a VM where it must not be."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.adapters.delivery.hypervisor import records
from controller.adapters.delivery.hypervisor.records import (
    BootEnded,
    BootEnding,
    BootStarted,
    Defined,
    Record,
    StartResumed,
    SwitchedOff,
    SwitchedOn,
)
from controller.adapters.delivery.hypervisor.supervising import commands
from controller.adapters.delivery.hypervisor.supervising.decision import (
    RESTART_WAIT_MAX_S,
    End,
    Leave,
    Observation,
    Qemu,
    Start,
    Wait,
    Write,
    decide,
    restart_wait_s,
)
from controller.adapters.delivery.hypervisor.supervising.state import (
    BOOTS_KEPT,
    COMMANDS_KEPT,
    Boot,
    VmState,
    apply,
    fold,
    status,
)
from controller.domain.delivery import BootCause, BootEnd, BootRecord
from controller.domain.errors import Conflict, InvalidInput, KernrollError, Permanent, Temporary
from controller.domain.kernels import Kernel

DIGESTS = ("old", "new", "bad")
RUNNING = Observation(qemu=Qemu.RUNNING)
GONE = Observation(qemu=Qemu.GONE)
NEVER = Observation(qemu=Qemu.NEVER_STARTED)


def kernel(digest: str) -> Kernel:
    """Return a kernel with this digest."""
    return Kernel(digest=digest, release=digest, architecture="x86_64", source="test", files={"boot": digest})


def switched_on(*more: Record) -> VmState:
    """Return the state of a VM that is on and runs boot 1."""
    first = BootStarted(at=0, number=1, kernel="old", command_id="", cause=BootCause.INITIAL)
    return fold([Defined(at=0, kernel=kernel("old")), SwitchedOn(at=0), first, *more])


def on_trial() -> VmState:
    """Return the state of a VM in an unheard trial of `new`, started at 10 with 100 s to boot and 50 s to bless."""
    state = switched_on()
    for record in (
        commands.stage(state, "c1", kernel("new"), now=1),
        records.Armed(at=2, command_id="c2", kernel="new", boot_timeout_s=100, probation_timeout_s=50),
        records.RebootAsked(at=3, command_id="c3"),
        BootEnding(at=4, number=1, end=BootEnd.REPLACED),
        BootEnded(at=5, number=1, end=BootEnd.REPLACED),
    ):
        assert record is not None
        state = apply(state, record)
    action = decide(state, None, 10)
    assert isinstance(action, Start)
    return apply(state, action.record)


def test_a_trial_waits_exactly_until_its_deadlines() -> None:
    state = on_trial()
    assert decide(state, RUNNING, 109.9) == Wait(until=110)
    assert decide(state, RUNNING, 110) == Write(record=BootEnding(at=110, number=2, end=BootEnd.NOT_ACKNOWLEDGED))
    heard = commands.acknowledge(state, "c4", now=60)
    assert heard is not None
    state = apply(state, heard)
    assert decide(state, RUNNING, 109.9) == Wait(until=110)
    assert decide(state, RUNNING, 110) == Write(record=BootEnding(at=110, number=2, end=BootEnd.NOT_BLESSED))


def test_what_comes_after_the_deadline_comes_too_late() -> None:
    state = on_trial()
    with pytest.raises(Permanent, match="its deadline has passed"):
        commands.acknowledge(state, "late", now=110)
    with pytest.raises(Permanent, match="its deadline has passed"):
        commands.bless(state, "late", now=110)
    assert commands.bless(state, "in time", now=109.9) is not None


def test_a_second_acknowledgement_does_not_extend_the_probation() -> None:
    state = on_trial()
    for command_id, now in (("a1", 60), ("a2", 90)):
        record = commands.acknowledge(state, command_id, now=now)
        assert record is not None
        state = apply(state, record)
    assert decide(state, RUNNING, 100) == Wait(until=110)


def test_a_panic_is_acted_on_before_anything_else() -> None:
    seen = replace(RUNNING, panic_line="Kernel panic - not syncing: x")
    action = decide(on_trial(), seen, 11)
    assert isinstance(action, Write)
    assert (action.record.end, action.record.console_line) == (BootEnd.PANIC, "Kernel panic - not syncing: x")


def test_a_start_that_was_interrupted_counts_its_deadline_anew() -> None:
    state = on_trial()
    action = decide(state, NEVER, 500)
    assert action == Start(record=StartResumed(at=500, number=2))
    state = apply(state, StartResumed(at=500, number=2))
    assert decide(state, RUNNING, 599) == Wait(until=600)


def test_an_end_that_was_decided_survives_whatever_is_seen_later() -> None:
    state = apply(on_trial(), BootEnding(at=110, number=2, end=BootEnd.NOT_ACKNOWLEDGED, console_line="last"))
    assert decide(state, RUNNING, 111) == End(number=2)
    expected = Write(record=BootEnded(at=112, number=2, end=BootEnd.NOT_ACKNOWLEDGED, console_line="last"))
    assert decide(state, replace(GONE, panic_line="Kernel panic - not syncing: x"), 112) == expected
    assert decide(state, NEVER, 112) == expected


def test_switching_off_ends_the_machine_and_the_supervisor() -> None:
    state = apply(on_trial(), SwitchedOff(at=20))
    ending = decide(state, RUNNING, 20)
    assert ending == Write(record=BootEnding(at=20, number=2, end=BootEnd.STOPPED))
    state = apply(apply(state, ending.record), BootEnded(at=21, number=2, end=BootEnd.STOPPED))
    assert decide(state, None, 22) == Leave()
    with pytest.raises(Temporary, match="switched off"):
        commands.reboot(state, "c9", now=22)
    state = apply(state, SwitchedOn(at=30))
    action = decide(state, None, 31)
    assert isinstance(action, Start)
    assert isinstance(action.record, BootStarted)
    assert (action.record.cause, action.record.kernel) == (BootCause.INITIAL, "old")
    with pytest.raises(Permanent, match="over: the machine was switched off"):
        commands.bless(state, "c10", now=32)


def ended(number: int, started_at: float, ended_at: float, end: BootEnd = BootEnd.RESET) -> Boot:
    """Return a boot of the default kernel that is over."""
    return Boot(
        record=BootRecord(
            number=number,
            kernel="old",
            command_id="",
            cause=BootCause.RESTART,
            end=end,
            started_at=started_at,
            ended_at=ended_at,
        )
    )


def test_restarts_wait_longer_while_boots_keep_ending_early() -> None:
    waits = [restart_wait_s(tuple(ended(n, 0, 1) for n in range(count))) for count in range(1, 10)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    healthy = (ended(1, 0, 1), ended(2, 0, 1), ended(3, 0, 1000))
    assert restart_wait_s(healthy) == 1
    assert restart_wait_s((*healthy, ended(4, 0, 1))) == 1


def test_a_clock_that_was_set_back_does_not_keep_the_machine_down() -> None:
    state = switched_on(BootEnded(at=1_000_000, number=1, end=BootEnd.RESET))
    assert decide(state, None, 1_000_000.5) == Wait(until=1_000_001)
    assert isinstance(decide(state, None, 5), Start)


def test_bless_of_a_trial_that_restarts_have_pushed_off_the_record_is_refused() -> None:
    state = apply(on_trial(), BootEnded(at=11, number=2, end=BootEnd.PANIC))
    for number in range(3, 3 + BOOTS_KEPT):
        cause = BootCause.FALLBACK if number == 3 else BootCause.RESTART
        state = apply(state, BootStarted(at=number, number=number, kernel="old", command_id="", cause=cause))
        state = apply(state, BootEnded(at=number, number=number, end=BootEnd.PANIC))
    with pytest.raises(Permanent, match="on record any more"):
        commands.bless(state, "late", now=99)


def test_commands_are_remembered_up_to_a_limit() -> None:
    state = switched_on()
    for index in range(COMMANDS_KEPT + 1):
        state = apply(state, records.Acknowledged(at=0, command_id=f"c{index}"))
    assert len(state.commands) == COMMANDS_KEPT
    assert "c0" not in state.commands
    with pytest.raises(Conflict, match="already used for acknowledge"):
        commands.reboot(state, "c1", now=0)


@pytest.mark.parametrize(("boot_s", "probation_s"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1)])
def test_arming_needs_time_limits(boot_s: float, probation_s: float) -> None:
    with pytest.raises(InvalidInput, match="above zero"):
        commands.arm(switched_on(), "c", "old", boot_timeout_s=boot_s, probation_timeout_s=probation_s, now=0)


def test_a_journal_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(Permanent, match="boot 2 was started while boot 1 was running"):
        switched_on(BootStarted(at=1, number=2, kernel="old", command_id="", cause=BootCause.RESTART))
    with pytest.raises(Permanent, match="boot 7, which is not running"):
        switched_on(BootEnded(at=1, number=7, end=BootEnd.RESET))


class VmMachine(RuleBasedStateMachine):
    """Any commands in any order, QEMU ending at will, the supervisor dying between any two steps, time passing."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.journal: list[Record] = []
        self.state = VmState()
        self.seen = NEVER
        self.starts: list[int] = []
        self.ids = 0

    def write(self, record: Record | None) -> None:
        if record is not None:
            line = records.encode(record)
            assert records.decode(line, "journal") == record
            self.journal.append(record)
            self.state = apply(self.state, record)

    def command_id(self) -> str:
        self.ids += 1
        return f"c{self.ids}"

    @initialize()
    def defined(self) -> None:
        self.write(Defined(at=self.now, kernel=kernel("old")))
        self.write(SwitchedOn(at=self.now))

    @rule(digest=st.sampled_from(DIGESTS))
    def stage(self, digest: str) -> None:
        self.write(commands.stage(self.state, self.command_id(), kernel(digest), now=self.now))

    @rule(digest=st.sampled_from(DIGESTS), boot_s=st.sampled_from([10.0, 100.0]))
    def arm(self, digest: str, boot_s: float) -> None:
        before = self.state
        try:
            self.write(
                commands.arm(
                    self.state, self.command_id(), digest, boot_timeout_s=boot_s, probation_timeout_s=20, now=self.now
                )
            )
        except Permanent:
            assert digest not in before.kernels

    @rule(verb=st.sampled_from([commands.reboot, commands.acknowledge, commands.bless]))
    def command(self, verb: Callable[..., Record | None]) -> None:
        default, boot = self.state.default, self.state.open_boot
        try:
            record = verb(self.state, self.command_id(), now=self.now)
        except KernrollError:
            return
        self.write(record)
        if self.state.default != default:
            assert boot is not None
            assert boot.on_trial
            assert boot.record.kernel == self.state.default

    @rule(digest=st.sampled_from(DIGESTS))
    def revert(self, digest: str) -> None:
        try:
            self.write(commands.revert(self.state, self.command_id(), digest, now=self.now))
        except KernrollError:
            return
        assert self.state.default == digest
        assert self.state.armed is None

    @rule(on=st.booleans())
    def switch(self, on: bool) -> None:
        if on != self.state.on:
            self.write(SwitchedOn(at=self.now) if on else SwitchedOff(at=self.now))

    @rule(seconds=st.sampled_from([0.5, 5.0, 60.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(line=st.sampled_from(["", "Kernel panic - not syncing: x"]))
    @precondition(lambda self: self.seen.qemu is Qemu.RUNNING)
    def qemu_ends(self, line: str) -> None:
        self.seen = replace(GONE, panic_line=line)

    @rule()
    def supervisor_restarts(self) -> None:
        folded = fold(self.journal)
        assert folded == self.state
        self.state = folded

    @rule(started=st.booleans())
    def act(self, started: bool) -> None:
        """Carry out one action; with `started` false the supervisor dies after writing and before starting QEMU."""
        match decide(self.state, self.seen if self.state.open_boot else None, self.now):
            case Start(record=record):
                last = self.state.boots[-1] if self.state.boots else None
                self.write(record)
                self.seen = NEVER
                if isinstance(record, BootStarted):
                    self.check_start(last, record)
                if started:
                    self.starts.append(record.number)
                    self.seen = RUNNING
            case Write(record=record):
                self.write(record)
            case End():
                self.seen = GONE
            case Wait(until=until):
                assert until is None or until > self.now
            case Leave():
                assert not self.state.on

    def check_start(self, last: Boot | None, record: BootStarted) -> None:
        assert record.number == (last.record.number + 1 if last else 1)
        if record.cause is not BootCause.TRIAL:
            assert record.kernel == self.state.default
        if last and last.on_trial and not record.command_id and last.record.end is not BootEnd.STOPPED:
            assert record.cause in (BootCause.FALLBACK, BootCause.INITIAL)

    @invariant()
    def no_boot_is_started_twice(self) -> None:
        assert len(self.starts) == len(set(self.starts))

    @invariant()
    def it_settles(self) -> None:
        """Left alone with a QEMU that obeys, the VM comes to rest, and no failed trial is left running."""
        state, seen, now = self.state, self.seen, self.now
        for _ in range(12):
            match decide(state, seen if state.open_boot else None, now):
                case Start(record=record):
                    state, seen = apply(state, record), RUNNING
                case Write(record=record):
                    state = apply(state, record)
                case End():
                    seen = GONE
                case Wait(until=until):
                    assert state.on
                    if state.open_boot:
                        return
                    assert until is not None
                    assert until - now <= RESTART_WAIT_MAX_S
                    now = until
                case Leave():
                    assert state.open_boot is None
                    return
        raise AssertionError("it does not come to rest")

    @invariant()
    def the_status_agrees(self) -> None:
        shown = status(self.state, "vm")
        assert shown.revision == len(self.journal)
        assert len(shown.boots) <= BOOTS_KEPT
        assert all(boot.end is not None for boot in shown.boots[:-1])
        assert shown.running is None or shown.boots[-1].kernel == shown.running


VmMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestVmMachine = VmMachine.TestCase
