"""Agents' sessions: who may say what, which stream counts, and what is kept when something fails half-way."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from engine_parts import STARTED, UID, Parts, host, outcome, planned, reached, run, walked

from controller.adapters.rpc.agent_messages import report_of
from controller.domain.errors import Permanent, Temporary
from controller.domain.hosts.host import Host
from controller.domain.record.effects import AgentEffect, CancelCommand, RevertKernel, RunWorkload
from controller.domain.record.events import CommandState, HostHeard, RunReported, RunState
from controller.domain.record.journey import Step
from controller.domain.record.names import Key
from controller.domain.state.attempt import RETRY_PAUSE_S
from controller.services.agents import sessions
from controller.services.agents.identity import checked_name
from controller.services.agents.sessions import AgentStream, Held, LogReported
from protos.kernroll.v1 import agent_pb2, common_pb2

OOPS = "BUG: Bad page state in process swapon  pfn:12345"


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    """Two hosts that are asked for their first measurement."""
    made = await Parts().start()
    for name in ("a", "b"):
        await made.connect(name)
    await made.engine.record(Key(UID), lambda: (planned(("a", "b")), STARTED))
    await made.engine.settle()
    assert set(made.engine.outstanding) == {"u1/a/0.baseline.0", "u1/b/0.baseline.0"}
    yield made
    await made.engine.close()


async def test_a_receipt_settles_only_what_its_own_host_was_asked(parts: Parts) -> None:
    await parts.sessions.accepted("a", "u1/b/0.baseline.0", "")
    assert "u1/b/0.baseline.0" in parts.engine.outstanding
    await parts.sessions.accepted("b", "u1/b/0.baseline.0", "busy")
    assert "u1/b/0.baseline.0" in parts.engine.outstanding
    await parts.sessions.accepted("b", "u1/b/0.baseline.0", "")
    assert set(parts.engine.outstanding) == {"u1/a/0.baseline.0"} == set(parts.disk.effects)


async def test_no_agent_settles_what_a_supervisor_was_asked(parts: Parts) -> None:
    revert = RevertKernel(command_id="u1/a/1.reverting.0", host="a", kernel="old-digest")
    parts.engine.outstanding[revert.command_id] = revert
    await parts.sessions.accepted("a", revert.command_id, "")
    assert revert.command_id in parts.engine.outstanding


def held(*commands: str, spooled: int = 0, boot: str = "a-boot-1") -> Held:
    return Held(boot_id=boot, command_ids=frozenset(commands), spooled_reports=spooled)


def stream_of(parts: Parts, name: str = "a") -> AgentStream:
    return parts.sessions._connected[name]


async def test_a_command_that_an_agent_took_and_lost_is_tried_again_at_once_and_not_at_its_deadline(
    parts: Parts,
) -> None:
    name = "u1/a/0.baseline.0"
    await parts.sessions.accepted("a", name, "")
    # Its disk was set back: it holds nothing, and has no answer.
    await parts.connect("a")
    await parts.sessions.holds(stream_of(parts), held())
    lost = parts.attempt("a").command
    assert lost is not None
    assert (lost.state, "neither holds it any more" in lost.detail) == (CommandState.INFRASTRUCTURE, True)
    # It says so again, and is believed once.
    before = len(parts.disk.log)
    await parts.sessions.holds(stream_of(parts), held())
    assert len(parts.disk.log) == before
    parts.clock.at += RETRY_PAUSE_S
    await parts.engine.settle()
    # Under a name of its own: should the agent have carried out the first all the same, nothing runs twice.
    assert parts.attempt("a").command_id == "u1/a/0.baseline.1"
    assert "u1/a/0.baseline.1" in parts.engine.outstanding


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        (held("u1/a/0.baseline.0"), True),
        # Its answer is under way.
        (held(spooled=1), True),
        # Of a boot that another Hello has overtaken.
        (held(boot="a-boot-0"), True),
        # It may not even have reached the agent.
        (held(), False),
    ],
    ids=["held", "spooled", "of another boot", "not taken"],
)
async def test_a_command_that_is_not_lost_goes_on(parts: Parts, said: Held, taken: bool) -> None:
    if taken:
        await parts.sessions.accepted("a", "u1/a/0.baseline.0", "")
    await parts.sessions.holds(stream_of(parts), said)
    assert parts.attempt("a").command is None
    assert parts.attempt("a").command_id == "u1/a/0.baseline.0"


async def test_a_refusal_whose_report_is_lost_is_an_answer_all_the_same(parts: Parts) -> None:
    name = "u1/a/0.baseline.0"
    await parts.sessions.accepted("a", name, "busy with command c0")
    await parts.sessions.holds(stream_of(parts), held(spooled=1))
    assert parts.attempt("a").command is None
    await parts.sessions.holds(stream_of(parts), held())
    assert parts.attempt("a").command is not None
    assert name not in parts.engine.outstanding


async def test_an_answer_that_was_recorded_is_not_lost(parts: Parts) -> None:
    await parts.sessions.accepted("a", "u1/a/0.baseline.0", "")
    await parts.measure("a")
    answered = parts.attempt("a").command
    await parts.sessions.holds(stream_of(parts), held())
    assert parts.attempt("a").command == answered


async def test_the_word_of_an_older_stream_says_nothing_of_what_is_held(parts: Parts) -> None:
    older = stream_of(parts)
    await parts.connect("a")
    await parts.sessions.accepted("a", "u1/a/0.baseline.0", "")
    await parts.sessions.holds(older, held())
    assert parts.attempt("a").command is None


async def test_a_host_shows_what_its_agent_could_not_hand_over(parts: Parts) -> None:
    await parts.sessions.holds(stream_of(parts), held(spooled=7))
    assert parts.operations.host("a").spooled_reports == 7
    await parts.sessions.disconnected(stream_of(parts))
    assert parts.operations.host("a").spooled_reports == 0


async def test_a_report_about_another_host_changes_nothing(parts: Parts) -> None:
    before = parts.attempt("b")
    await parts.sessions.reported("a", outcome(before, CommandState.FAILED))
    await parts.sessions.reported("a", run(before, 0))
    assert parts.attempt("b") == before
    assert "u1/b/0.baseline.0" in parts.engine.outstanding
    assert parts.attempt("a").command is None


async def test_no_host_uses_up_the_name_of_anothers_report(parts: Parts) -> None:
    theirs = run(parts.attempt("b"), 0)
    await parts.sessions.reported("a", replace(run(parts.attempt("a"), 0), report_id=theirs.report_id))
    await parts.sessions.reported("b", theirs)
    assert len(parts.attempt("b").runs) == 1


async def test_a_repeated_report_counts_once(parts: Parts) -> None:
    report = run(parts.attempt("a"), 1)
    await parts.sessions.reported("a", report)
    await parts.sessions.reported("a", report)
    # The same run under another name, as a spool that was restored might tell it.
    await parts.sessions.reported("a", replace(report, report_id="again"))
    assert len(parts.attempt("a").runs) == 1


async def test_runs_that_were_not_ordered_are_not_kept(parts: Parts) -> None:
    attempt = parts.attempt("a")
    before = len(parts.disk.log)
    for index in range(80):
        await parts.sessions.reported("a", run(attempt, index))
        # Of a command that was never given, and of one of another rollout.
        await parts.sessions.reported(
            "a", replace(run(attempt, index), command_id=f"u1/a/{index}", report_id=f"s{index}")
        )
        await parts.sessions.reported(
            "a", replace(run(attempt, index), command_id=f"u7/a/{index}", report_id=f"t{index}")
        )
    task = parts.engine.world.rollouts[UID].policy.tasks[0]
    assert len(parts.disk.log) - before == task.repetitions + task.warmups
    assert len(parts.disk.reports) == task.repetitions + task.warmups


async def test_what_a_host_says_unasked_does_not_fill_the_store(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_MOST_UNASKED", 10)
    for number in range(50):
        log = LogReported(report_id=f"k{number}", boot_id=f"boot-{number}", lines=(OOPS, "all is well"))
        await parts.sessions.reported("a", log)
        await parts.sessions.reported("a", replace(log, report_id=f"w{number}", lines=("all is well",)))
        await parts.connect("a", boot=f"again-{number}")
    assert len(parts.disk.log) + len(parts.disk.reports) < 60
    # Another host is heard all the same.
    await parts.sessions.reported("b", run(parts.attempt("b"), 0))
    assert len(parts.attempt("b").runs) == 1


async def test_a_cancellation_is_told_until_it_is_confirmed(parts: Parts) -> None:
    cancel = CancelCommand(command_id="u1/a/0.baseline.0.cancel", host="a", target_command_id="u1/a/0.baseline.0")
    parts.engine.outstanding[cancel.command_id] = cancel
    await parts.sessions.send(cancel)
    assert cancel.command_id in parts.engine.outstanding
    await parts.sessions.accepted("a", cancel.command_id, "no such command")
    assert cancel.command_id not in parts.engine.outstanding


async def test_the_newest_session_counts_however_slow_the_older_was() -> None:
    parts = await Parts().start()
    saving, go_on, save = asyncio.Event(), asyncio.Event(), parts.store.save_host

    async def slow(one: Host) -> None:
        if one.boot_id == "a-boot-1":
            saving.set()
            await go_on.wait()
        await save(one)

    parts.store.save_host = slow  # type: ignore[method-assign]  # a disk that is slow once
    older = asyncio.create_task(parts.connect(boot="1"))
    await saving.wait()
    await parts.connect(boot="2")
    go_on.set()
    await older
    assert parts.engine.world.hosts["a"].boot_id == "a-boot-2"


async def test_the_end_of_a_replaced_stream_is_no_silence(parts: Parts) -> None:
    older = parts.sessions._connected["a"]
    await parts.connect("a")
    await parts.sessions.disconnected(older)
    assert parts.sessions.is_connected("a")
    assert parts.attempt("a").silent_since is None


async def test_a_silence_is_recorded_even_if_the_disk_was_full_when_it_began(parts: Parts) -> None:
    parts.disk.failure = Temporary("the disk is full", retry_after_s=0.0)
    ending = asyncio.create_task(parts.sessions.disconnected(parts.sessions._connected["a"]))
    for _ in range(20):
        await asyncio.sleep(0)
    assert parts.attempt("a").silent_since is None
    parts.disk.failure = None
    await reached(lambda: parts.attempt("a").silent_since is not None)
    await ending


@pytest.mark.parametrize("steps", range(1, 8))
async def test_a_silence_is_recorded_even_if_whoever_tells_of_it_is_cancelled(parts: Parts, steps: int) -> None:
    before, save = parts.engine.changes, parts.store.save_host

    async def slow(one: Host) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await save(one)

    parts.store.save_host = slow  # type: ignore[method-assign]  # a disk that takes its time
    ending = asyncio.create_task(parts.sessions.disconnected(stream_of(parts)))
    for _ in range(steps):
        await asyncio.sleep(0)
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    await reached(lambda: parts.attempt("a").silent_since is not None and parts.engine.changes > before)
    assert not parts.engine.world.hosts["a"].connected


async def test_a_host_that_is_back_before_its_silence_could_be_recorded_was_not_silent(parts: Parts) -> None:
    parts.disk.failure = Temporary("the disk is full", retry_after_s=0.0)
    ending = asyncio.create_task(parts.sessions.disconnected(parts.sessions._connected["a"]))
    for _ in range(20):
        await asyncio.sleep(0)
    stream = parts.stream("a")
    parts.sessions._connected["a"] = stream
    parts.disk.failure = None
    await ending
    assert parts.attempt("a").silent_since is None


async def test_a_stream_that_takes_nothing_is_closed(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.services.agents.sessions._SEND_TIMEOUT_S", 0.0)
    closed: list[str] = []

    async def stall(_effect: AgentEffect) -> None:
        await asyncio.Event().wait()

    await parts.sessions.connected(AgentStream(host="a", send=stall, close=closed.append), host("a"))
    effect = parts.engine.outstanding["u1/a/0.baseline.0"]
    assert isinstance(effect, RunWorkload)
    with pytest.raises(Temporary, match="does not take what it is sent"):
        await parts.sessions.send(effect)
    assert closed


async def test_a_fatal_line_counts_for_the_boot_it_was_written_under() -> None:
    parts = await walked(Step.PROBATION)
    # An agent that was away for long still holds a report from before the rollout.
    await parts.sessions.reported("a", LogReported(report_id="k0", boot_id="a-boot-0", lines=(OOPS,)))
    # And one from the old kernel.
    await parts.sessions.reported("a", LogReported(report_id="k1", boot_id="a-boot-1", lines=(OOPS,)))
    await parts.engine.settle()
    assert parts.attempt().step is Step.PROBATION
    await parts.sessions.reported("a", LogReported(report_id="k2", boot_id="a-boot-2", lines=(OOPS,)))
    await parts.engine.settle()
    assert parts.attempt().step is Step.REVERTING
    assert parts.attempt().condemned


async def test_a_fatal_line_of_the_old_kernel_before_the_reboot_does_not_speak_against_the_new_one() -> None:
    parts = await walked(Step.ARM)
    await parts.sessions.reported("a", LogReported(report_id="k", boot_id="a-boot-1", lines=(OOPS,)))
    await parts.engine.settle()
    assert parts.attempt().step is Step.REVERTING
    assert not parts.attempt().condemned


async def test_only_news_are_recorded(parts: Parts) -> None:
    before = len(parts.disk.log)
    await parts.connect("a")
    assert len(parts.disk.log) == before
    await parts.connect("a", boot="2")
    assert [type(one.event) for one in parts.disk.log[before:]] == [HostHeard]


def test_a_name_must_be_in_the_certificate() -> None:
    assert checked_name("a", ("b", "a")) == "a"
    with pytest.raises(Permanent, match="the certificate is for nobody, not for a"):
        checked_name("a", ())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_measurement(value: float) -> None:
    good = common_pb2.Sample(metric="swap_mount.swapon_time", value=1.5, unit="s")
    bad = common_pb2.Sample(metric="swap_mount.cost", value=value, unit="MiB/TiB")
    body = common_pb2.WorkloadRun(status=common_pb2.RUN_STATUS_OK, samples=[good, bad])
    report = report_of(agent_pb2.Report(report_id="r", command_id="u/a/0.baseline.0", run=body), 5.0)
    assert isinstance(report, RunReported)
    assert report.state is RunState.INFRASTRUCTURE
    assert report.values == {"swap_mount.swapon_time": 1.5}
    assert "swap_mount.cost" in report.error


async def test_a_lost_host_was_heard_last_when_it_spoke_last(parts: Parts) -> None:
    stream = await parts.connect("a")
    parts.clock.at += 5000.0
    parts.sessions.heartbeat("a")
    spoke = parts.clock.at
    # That it is gone is noticed later.
    parts.clock.at += 300.0
    await parts.sessions.disconnected(stream)
    known = parts.engine.world.hosts["a"]
    assert (known.connected, known.last_seen) == (False, spoke)
    again = await Parts(parts.disk, parts.clock).start()
    assert again.engine.world.hosts["a"].last_seen == spoke


async def test_a_controller_that_dies_forgets_at_most_an_hour(parts: Parts) -> None:
    await parts.connect("a")
    for _ in range(100):
        parts.clock.at += 600.0
        parts.sessions.heartbeat("a")
        await asyncio.sleep(0)
    again = await Parts(parts.disk, parts.clock).start()
    assert parts.clock.at - again.engine.world.hosts["a"].last_seen <= 3600.0


async def test_what_a_newer_session_said_is_not_overwritten_by_the_older_ones_end(parts: Parts) -> None:
    older = await parts.connect("a")
    await parts.connect("a", boot="2")
    await parts.sessions.disconnected(older)
    assert parts.disk.hosts["a"].boot_id == "a-boot-2"


async def test_a_host_that_is_forgotten_is_not_written_again(parts: Parts) -> None:
    stream = await parts.connect("a")
    parts.engine.world.forget("a")
    del parts.disk.hosts["a"]
    await parts.sessions.disconnected(stream)
    assert "a" not in parts.disk.hosts


async def test_an_order_to_panic_that_an_agent_lost_does_not_wait_for_its_deadline(parts: Parts) -> None:
    attempt = parts.attempt("a")
    drilled = replace(attempt, step=Step.DRILL, drill_boot_id=attempt.boot_id)
    parts.engine.world.attempts["u1"]["a"] = drilled
    await parts.sessions.accepted("a", attempt.command_id, "")
    await parts.sessions.holds(stream_of(parts), held())
    lost = parts.attempt("a").command
    assert lost is not None
    assert lost.state is CommandState.INFRASTRUCTURE
