"""What a host's kernroll-boot is asked, over a real session with a real controller."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from own_controller import OwnController, free_port, hello, own_controller

from controller.adapters.delivery.ansible.program import AgentProgram, EitherProgram
from controller.domain.errors import Temporary
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[OwnController]:
    async with own_controller(tmp_path / "state", free_port(), free_port()) as made:
        yield made


@asynccontextmanager
async def session(controller: OwnController, host: str, *, takes: bool) -> AsyncIterator[Any]:
    """Yield the stream of a host that is connected."""
    async with controller.channel(await controller.enroll(host)) as channel:
        call = agent_pb2_grpc.AgentServiceStub(channel).Session()
        first = hello(host)
        first.hello.takes_boot_requests = takes
        await call.write(first)
        assert (await call.read()).HasField("welcome")
        yield call
        call.cancel()


def program(controller: OwnController) -> EitherProgram:
    return EitherProgram(AgentProgram(controller.sessions.boot_requests), None)


async def test_a_request_goes_down_the_stream_and_the_answer_comes_up(controller: OwnController) -> None:
    async with session(controller, "h1", takes=True) as call, session(controller, "h2", takes=True) as other:
        asking = asyncio.create_task(program(controller).ask("h1", "revert", "d1", "--reboot", "--command-id=c"))
        asked: agent_pb2.BootRequest = (await call.read()).boot_request
        assert list(asked.arguments) == ["revert", "d1", "--reboot", "--command-id=c"]
        assert (asked.epoch, asked.timeout_s) == (controller.epochs.current, 60.0)
        answer = agent_pb2.BootAnswer(request_id=asked.request_id, document=json.dumps({"revision": 8}))
        # Another host's word changes nothing, and is read before the session ends.
        forged = agent_pb2.BootAnswer(request_id=asked.request_id, document=json.dumps({"revision": 9}))
        await other.write(agent_pb2.AgentMessage(boot_answer=forged))
        await other.write(agent_pb2.AgentMessage(report=agent_pb2.Report(report_id="r")))
        assert (await other.read()).HasField("acknowledgement")
        await call.write(agent_pb2.AgentMessage(boot_answer=answer))
        assert await asking == {"revision": 8}


async def test_an_older_agent_is_not_asked(controller: OwnController) -> None:
    async with session(controller, "h1", takes=False):
        with pytest.raises(Temporary, match="h1: no agent is connected there that passes requests"):
            await program(controller).ask("h1", "status")


async def test_a_session_that_ends_is_not_waited_for(controller: OwnController) -> None:
    async with session(controller, "h1", takes=True) as call:
        asking = asyncio.create_task(program(controller).ask("h1", "reboot", "--command-id=c"))
        assert (await call.read()).HasField("boot_request")
    with pytest.raises(Temporary, match="session ended before it answered"):
        await asking
