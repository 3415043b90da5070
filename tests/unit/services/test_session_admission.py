"""When a whole fleet comes back at once: so many sessions open at a time, the others try again later."""

import asyncio
from typing import Any, cast

import grpc
import pytest
from engine_parts import DEADLINE_S, reached

from controller.adapters.rpc import agent_service
from controller.adapters.rpc.agent_service import AgentService
from controller.adapters.store.memory import MemoryStore
from controller.domain.record.effects import CancelCommand
from controller.services.agents.enrollment import Enrollment
from controller.services.agents.identity import Epochs, SentAway
from controller.services.agents.sessions import AgentStream
from protos.kernroll.v1 import agent_pb2, common_pb2


class Aborted(Exception):
    """The call was ended with a code and a sentence."""


class Call:
    """One agent's call: a Hello, what else it says, then silence."""

    def __init__(self, host: str, *more: agent_pb2.AgentMessage) -> None:
        facts = common_pb2.HostFacts(architecture="x86_64", kernel_release="7.0.13", boot_id="b", page_size_bytes=4096)
        hello = agent_pb2.Hello(protocol_version=1, host=host, facts=facts)
        said = (agent_pb2.AgentMessage(hello=hello), *more)
        self._messages = [one.SerializeToString() for one in reversed(said)]
        self.silence = asyncio.Event()
        self.taken: list[str | None] = []

    async def read(self) -> Any:
        if self._messages:
            return self._messages.pop()
        await self.silence.wait()
        return agent_service._EOF  # the stream's end, which the stubs do not know

    async def write(self, message: agent_pb2.ControllerMessage) -> None:
        self.taken.append(message.WhichOneof("body"))

    async def abort(self, code: grpc.StatusCode, text: str) -> None:
        raise Aborted(code, text)


class SlowSessions:
    """Sessions that open only when they are told to."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.two_wait = asyncio.Event()
        self.hosts: list[str] = []
        self.streams: list[AgentStream] = []
        self.ended: list[str] = []
        self.sends_away = False

    async def connected(self, session: AgentStream, _host: Any) -> None:
        self.hosts.append(session.host)
        self.streams.append(session)
        if len(self.hosts) == 2:
            self.two_wait.set()
        await self.opened.wait()
        if self.sends_away:
            raise SentAway("another machine of this name is connected", retry_after_s=60.0)

    async def disconnected(self, session: AgentStream) -> None:
        self.ended.append(session.host)

    def heartbeat(self, _host: str) -> None:
        """Nothing is kept."""


class Slow(Call):
    """An agent whose connection takes nothing until it flows."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.flowing = asyncio.Event()

    async def write(self, message: agent_pb2.ControllerMessage) -> None:
        await self.flowing.wait()
        await super().write(message)


class Deaf(Call):
    """An agent that says what it has to say, and reads nothing beyond the Welcome."""

    async def write(self, message: agent_pb2.ControllerMessage) -> None:
        await super().write(message)
        if len(self.taken) > 1:
            await asyncio.Event().wait()


class StillClock:
    """Time stands still."""

    def now(self) -> float:
        return 1000.0


def service_of(sessions: Any) -> AgentService:
    nobody = cast(Enrollment, None)
    epochs = Epochs(MemoryStore(), 1)
    return AgentService(
        sessions, StillClock(), enrollment=nobody, epochs=epochs, heartbeat_interval_s=30.0, plaintext=True
    )


async def test_sessions_beyond_the_limit_are_sent_away_and_later_ones_are_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent_service, "_MOST_OPENING", 2)
    sessions: Any = SlowSessions()
    service = service_of(sessions)
    calls = [Call(name) for name in "abcd"]
    opening = [asyncio.create_task(service.Session(iter(()), call)) for call in calls[:2]]
    await sessions.two_wait.wait()
    with pytest.raises(Aborted) as refused:
        await service.Session(iter(()), calls[2])
    assert refused.value.args == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "2 sessions are opening at this moment; try again",
    )
    sessions.opened.set()
    for call in calls:
        call.silence.set()
    await asyncio.gather(*opening)
    await service.Session(iter(()), calls[3])
    assert sessions.hosts == ["a", "b", "d"]


@pytest.mark.parametrize("steps", range(12))
async def test_a_stream_that_ends_and_is_cancelled_in_the_same_moment_has_ended(steps: int) -> None:
    sessions: Any = SlowSessions()
    sessions.opened.set()
    call = Call("a")
    serving = asyncio.create_task(service_of(sessions).Session(iter(()), call))
    await reached(lambda: call.taken == ["welcome"])
    for _ in range(20):
        await asyncio.sleep(0)
    # A client's cancellation ends what is read, and then cancels the call: at any moment on its way to its end.
    call.silence.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert sessions.ended == ["a"]


async def test_nobody_is_welcomed_before_the_session_is_admitted_and_no_order_comes_before_the_welcome() -> None:
    sessions: Any = SlowSessions()
    call = Call("a")
    serving = asyncio.create_task(service_of(sessions).Session(iter(()), call))
    await reached(lambda: bool(sessions.hosts))
    for _ in range(20):
        await asyncio.sleep(0)
    assert call.taken == []
    cancel = CancelCommand(command_id="c.cancel", host="a", target_command_id="c")
    ordering = asyncio.create_task(sessions.streams[0].send(cancel))
    for _ in range(20):
        await asyncio.sleep(0)
    sessions.opened.set()
    await ordering
    assert call.taken == ["welcome", "command"]
    call.silence.set()
    await serving


async def test_a_session_that_is_sent_away_is_not_welcomed() -> None:
    sessions: Any = SlowSessions()
    sessions.sends_away = True
    sessions.opened.set()
    call = Call("a")
    await service_of(sessions).Session(iter(()), call)
    assert call.taken == ["goodbye"]


async def test_a_burst_that_opens_while_others_are_held_up_is_counted_before_it_is_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent_service, "_MOST_OPENING", 2)
    sessions: Any = SlowSessions()
    service = service_of(sessions)
    calls = [Slow(f"h{number}") for number in range(6)]
    opening = [asyncio.create_task(service.Session(iter(()), call)) for call in calls]
    for _ in range(50):
        await asyncio.sleep(0)
    for call in calls:
        call.flowing.set()
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(sessions.hosts) == 2
    sessions.opened.set()
    for call in calls:
        call.silence.set()
    answers = await asyncio.gather(*opening, return_exceptions=True)
    assert sum(isinstance(one, Aborted) for one in answers) == 4


async def test_an_agent_that_says_much_and_takes_nothing_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_service, "_MISSED_HEARTBEATS", 0.0001)
    report = agent_pb2.AgentMessage(report=agent_pb2.Report(report_id="r"))
    sessions: Any = SlowSessions()
    sessions.opened.set()
    call = Deaf("a", *[report] * 3)
    async with asyncio.timeout(DEADLINE_S):
        await service_of(sessions).Session(iter(()), call)
    assert call.taken[:2] == ["welcome", "acknowledgement"]
    assert sessions.ended == ["a"]
