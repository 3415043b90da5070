"""Checks carried out: the real performer asks real servers, through restarts of the controller, at least once."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from checking_controller import DEADLINE_S, HOOK, Checking, baked, with_hook
from engine_parts import TEXT, UID, ManualClock, Parts, ScriptedDelivery, walked
from fake_checker import FakeChecker, FakeServers
from patience import PATIENCE_S

from controller.adapters.checks.checker import NetworkChecker
from controller.adapters.places.nowhere import Nowhere
from controller.adapters.store.memory import Disk
from controller.domain.caller import Caller
from controller.domain.deciding.verbs import Request
from controller.domain.errors import Conflict, NotFound, Temporary
from controller.domain.record.checks import Answer, Outcome
from controller.domain.record.control import CheckReported, Verb
from controller.domain.record.journey import Step
from controller.domain.state.rollout import State
from controller.services.engine.checking import CheckRunner
from controller.services.engine.performing import Performer
from controller.services.ports import Checker


async def restarted(disk: Disk, clock: ManualClock, checker: Checker) -> Checking:
    """Return another controller on the same disk, as after a kill."""
    parts = Parts(disk, clock)
    checking = Checking(parts, checker)
    await parts.start()
    await parts.connect(boot="2", release="7.1.13-new")
    return checking


class Program(BaseHTTPRequestHandler):
    """Answers what the test wants, and keeps what it was asked."""

    def do_POST(self) -> None:
        """Take a question and answer it."""
        server: Any = self.server
        server.questions.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        content = json.dumps(server.replies.pop(0) if len(server.replies) > 1 else server.replies[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def program() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Program)
    server.questions, server.replies = [], [{"state": "wait"}]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/orders"
    yield server
    server.shutdown()
    thread.join(timeout=PATIENCE_S)
    server.server_close()


@pytest.fixture
async def network() -> AsyncIterator[NetworkChecker]:
    checker = NetworkChecker()
    yield checker
    checker.close()


async def test_a_program_is_asked_until_it_passes_and_the_rollout_is_promoted(
    program: Any, network: NetworkChecker
) -> None:
    program.replies = [{"state": "wait", "detail": "drains"}, {"state": "pass", "detail": "drained"}]
    checking = await baked(network, with_hook(program.url))
    checking.run()
    await checking.until(State.PROMOTED)
    await checking.end()
    assert [(one["wave"], one["hosts"], one["verdict"]) for one in program.questions] == [(1, ["a"], "promote")] * 2
    assert len({one["id"] for one in program.questions}) == 1, "a receiver can tell a repeated question"
    assert (checking.result.outcome, checking.result.detail) == (Outcome.PASS, "drained")
    assert checking.parts.disk.effects == {}


async def test_a_program_that_fails_pauses_and_a_resume_asks_it_again(program: Any, network: NetworkChecker) -> None:
    program.replies = [{"state": "fail", "detail": "orders are lost"}, {"state": "pass"}]
    checking = await baked(network, with_hook(program.url))
    checking.run()
    await checking.until(State.PAUSED)
    assert checking.rollout.reason == "check orders of wave 1 failed: orders are lost"
    await checking.parts.operations.control("trial", Request(verb=Verb.RESUME, by=Caller("ada")))
    await checking.until(State.PROMOTED)
    await checking.end()


async def test_what_was_asked_before_a_kill_is_asked_after_it() -> None:
    asked = asyncio.Event()

    class Silent(FakeChecker):
        async def ask(self, *_arguments: Any) -> Answer:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError("nobody waits for this")

    before = await baked(Silent(), with_hook())
    before.run()
    async with asyncio.timeout(DEADLINE_S):
        await asked.wait()
    await before.end()
    checker = FakeChecker(FakeServers(replies={HOOK: [Answer(outcome=Outcome.PASS)]}))
    after = await restarted(before.parts.disk, before.parts.clock, checker)
    after.run()
    await after.until(State.PROMOTED)
    await after.end()
    assert [one.id for one in checker.asked] == [f"{UID}//check-1.1.orders"]
    assert after.parts.disk.effects == {}


async def test_an_answer_that_cannot_be_recorded_is_asked_for_again() -> None:
    class Filling(FakeChecker):
        async def ask(self, *arguments: Any) -> Answer:
            full = Temporary("the disk is full", retry_after_s=0.0)
            checking.parts.disk.failure = full if len(self.asked) < 2 else None
            return await super().ask(*arguments)

    checker = Filling(FakeServers(replies={HOOK: [Answer(outcome=Outcome.PASS)]}))
    checking = await baked(checker, with_hook())
    checking.run()
    await checking.until(State.PROMOTED)
    await checking.end()
    assert len(checker.asked) == 3


@pytest.mark.parametrize("trouble", [Temporary("nobody answers"), ValueError("a bug")])
async def test_whatever_goes_wrong_is_an_error_and_four_of_them_pause(trouble: Exception) -> None:
    class Broken(FakeChecker):
        async def ask(self, *_arguments: Any) -> Answer:
            raise trouble

    checking = await baked(Broken(), with_hook())
    checking.run()
    await checking.until(State.PAUSED)
    await checking.end()
    reports = [one.event for one in checking.parts.disk.log if isinstance(one.event, CheckReported)]
    assert [one.outcome for one in reports] == [Outcome.ERROR] * 4
    assert "is inconclusive: 4 errors" in checking.rollout.reason


async def test_a_server_that_never_answers_is_an_error_after_a_while() -> None:
    class Silent(FakeChecker):
        async def ask(self, *_arguments: Any) -> Answer:
            await asyncio.Event().wait()
            raise AssertionError("nobody waits for this")

    parts = await walked(Step.BAKE, with_hook())
    runner = CheckRunner(parts.engine, Silent(), parts.clock, ask_timeout_s=0.01)
    parts.clock.at += 60.0
    await parts.engine.settle()
    (effect,) = parts.engine.outstanding.values()
    working = asyncio.create_task(runner.work(effect))  # type: ignore[arg-type]  # the only effect is the check
    await parts.engine.wait_for_change(parts.engine.changes, DEADLINE_S)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    result = parts.engine.world.rollouts[UID].askings[-1].results[0]
    assert (result.outcome, result.detail) == (Outcome.ERROR, f"no answer from {HOOK} within 0.01 s")


async def test_nobody_asks_for_a_rollout_that_goes_back() -> None:
    checker = FakeChecker(FakeServers(replies={HOOK: [Answer(outcome=Outcome.WAIT)]}))
    checking = await baked(checker, with_hook())
    await checking.parts.engine.settle()
    await checking.parts.operations.control("trial", Request(verb=Verb.REVERT, by=Caller("ada")))
    checker.asked.clear()
    checking.performer.submit(tuple(checking.parts.engine.outstanding.values()))
    async with asyncio.timeout(DEADLINE_S):
        while checking.performer._running:  # noqa: ASYNC110 - one turn of the loop at a time, and no waiting
            await asyncio.sleep(0)
    await checking.end()
    assert len(checker.asked) <= 1
    assert checking.parts.disk.effects == {}


async def test_without_anybody_who_asks_a_check_ends_by_its_deadline() -> None:
    parts = await walked(Step.BAKE, with_hook())
    performer = Performer(
        parts.engine, parts.sessions, ScriptedDelivery(), parts.kernels, parts.clock, places=Nowhere()
    )
    parts.engine.on_effects = performer.submit
    parts.clock.at += 60.0
    await parts.engine.settle()
    assert parts.engine.world.next_deadline() is not None
    parts.clock.at += 300.0
    await parts.engine.settle()
    await performer.close()
    assert parts.engine.world.rollouts[UID].state is State.PAUSED


async def test_a_person_reports_and_who_said_so_is_on_record() -> None:
    parts = await walked(Step.BAKE, f"{TEXT}  checks: [{{name: dba, manual: true}}]\n")
    with pytest.raises(Conflict, match="not awaited"):
        await parts.operations.report_check("trial", "dba", passed=True, by=Caller("ada"), remark="")
    parts.clock.at += 60.0
    await parts.engine.settle()
    with pytest.raises(NotFound, match="no check dbb"):
        await parts.operations.report_check("trial", "dbb", passed=True, by=Caller("ada"), remark="")
    view = await parts.operations.report_check("trial", "dba", passed=True, by=Caller("ada"), remark="replicas in step")
    assert [(one.name, one.state, one.by) for one in view.checks] == [("dba", "passed", "ada")]
    await parts.engine.settle()
    assert parts.engine.world.rollouts[UID].state is State.PROMOTED
