"""An agent that speaks and never listens, over a real connection: it is as silent as one that says nothing."""

import asyncio
from pathlib import Path

import grpc
from own_controller import free_port, hello, own_controller

from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc

# Acknowledged by its whole name: a few fill what a connection takes unread.
_LONG_NAME = "r" * (1 << 20)


async def test_an_agent_that_never_reads_is_silent_although_it_speaks(tmp_path: Path) -> None:
    async with own_controller(tmp_path / "state", free_port(), free_port(), heartbeat_interval_s=0.5) as controller:
        held = await controller.enroll("h1")
        async with controller.channel(held) as channel:
            call = agent_pb2_grpc.AgentServiceStub(channel).Session()
            await call.write(hello("h1"))

            async def speak() -> None:
                report = agent_pb2.AgentMessage(report=agent_pb2.Report(report_id=_LONG_NAME))
                while True:
                    await call.write(report)
                    # The controller reads a host that says so much more slowly; it says something all the time.
                    await asyncio.sleep(0.05)

            speaking = asyncio.create_task(speak())
            await controller.until(lambda: controller.sessions.is_connected("h1"))
            await controller.until(lambda: not controller.sessions.is_connected("h1"))
            assert not controller.engine.world.hosts["h1"].connected
            speaking.cancel()
            call.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            assert await call.code() is grpc.StatusCode.CANCELLED
