"""When a whole fleet comes back at once: so many sessions open at a time, the others try again later."""

import asyncio
from typing import Any, cast

import grpc
import pytest

from controller.adapters.memory_store import MemoryStore
from controller.adapters.rpc import agent_service
from controller.adapters.rpc.agent_service import AgentService
from controller.services.enrollment import Enrollment
from controller.services.identity import Epochs
from protos.kernroll.v1 import agent_pb2, common_pb2


class Aborted(Exception):
    """The call was ended with a code and a sentence."""


class Call:
    """One agent's call: a Hello, then silence."""

    def __init__(self, host: str) -> None:
        facts = common_pb2.HostFacts(architecture="x86_64", kernel_release="7.0.13", boot_id="b", page_size_bytes=4096)
        hello = agent_pb2.Hello(protocol_version=1, host=host, facts=facts)
        self._messages = [agent_pb2.AgentMessage(hello=hello).SerializeToString()]
        self.silence = asyncio.Event()

    async def read(self) -> Any:
        if self._messages:
            return self._messages.pop()
        await self.silence.wait()
        return agent_service._EOF  # the stream's end, which the stubs do not know

    async def write(self, _message: Any) -> None:
        """Nobody looks."""

    async def abort(self, code: grpc.StatusCode, text: str) -> None:
        raise Aborted(code, text)


class SlowSessions:
    """Sessions that open only when they are told to."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.two_wait = asyncio.Event()
        self.hosts: list[str] = []

    async def connected(self, session: Any, _host: Any) -> None:
        self.hosts.append(session.host)
        if len(self.hosts) == 2:
            self.two_wait.set()
        await self.opened.wait()

    async def disconnected(self, _session: Any) -> None:
        """Nothing is kept."""


class StillClock:
    """Time stands still."""

    def now(self) -> float:
        return 1000.0


async def test_sessions_beyond_the_limit_are_sent_away_and_later_ones_are_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent_service, "_MOST_OPENING", 2)
    sessions: Any = SlowSessions()
    store, clock, nobody = MemoryStore(), StillClock(), cast(Enrollment, None)
    service = AgentService(
        sessions, clock, enrollment=nobody, epochs=Epochs(store, 1), heartbeat_interval_s=30.0, plaintext=True
    )
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
