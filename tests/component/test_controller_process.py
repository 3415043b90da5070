"""The controller as a process: it starts once, says why it cannot, and ends when it is told to."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from own_controller import hello
from patience import PATIENCE_S

from controller.adapters.pki.certificates import SERVER_NAME
from controller.cli.exit_codes import ExitCode
from protos.kernroll.v1 import agent_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = PATIENCE_S

Process = asyncio.subprocess.Process
Start = Callable[..., "asyncio.Future[Process]"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Process] = []

    async def begin(port: int, enroll_port: int, *more: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controller", "controller", "serve", "--state-dir", str(tmp_path / "state"), *more),
            *("--listen", f"127.0.0.1:{port}", "--enroll-listen", f"127.0.0.1:{enroll_port}"),
            cwd=ROOT,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield begin  # type: ignore[misc]  # a coroutine function is what the tests call
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def serves(process: Process, client: Path, port: int) -> None:
    """Wait until the controller answers an operator's health check."""
    names = ("ca.pem", "operator-key.pem", "operator.pem")
    async with asyncio.timeout(DEADLINE_S):
        while not all((client / name).exists() for name in names):
            assert process.returncode is None, await process.communicate()
            await asyncio.sleep(0.05)
        tls = grpc.ssl_channel_credentials(*[(client / name).read_bytes() for name in names])
        options = (("grpc.ssl_target_name_override", SERVER_NAME), ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", tls, options=options) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=DEADLINE_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def ends(process: Process) -> tuple[int | None, str]:
    async with asyncio.timeout(DEADLINE_S):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_it_serves_and_ends_when_told_and_can_be_killed_and_started_again(tmp_path: Path, start: Start) -> None:
    port, enroll_port = free_port(), free_port()
    client = tmp_path / "state" / "client"
    first = await start(port, enroll_port)
    await serves(first, client, port)
    first.kill()
    await ends(first)
    again = await start(port, enroll_port)
    await serves(again, client, port)
    second, said = await ends(await start(free_port(), free_port()))
    assert second == ExitCode.FAILURE, said
    assert "another controller is running on" in said
    again.send_signal(signal.SIGTERM)
    code, said = await ends(again)
    assert code == ExitCode.OK, said
    assert "Traceback" not in said


async def test_it_says_goodbye_when_it_is_told_to_end(tmp_path: Path, start: Start) -> None:
    port = free_port()
    process = await start(port, free_port(), "--insecure-plaintext")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = agent_pb2_grpc.AgentServiceStub(channel).Session(wait_for_ready=True)
        async with asyncio.timeout(DEADLINE_S):
            await call.write(hello("h1"))
            assert (await call.read()).HasField("welcome")
            process.send_signal(signal.SIGTERM)
            said = await call.read()
    assert said.goodbye.reason == "the controller stops"
    code, output = await ends(process)
    assert code == ExitCode.OK, output
    for word in ("Traceback", "not_recorded", "host_not_saved"):
        assert word not in output


async def test_an_address_that_is_taken_is_told_and_nothing_stays_behind(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = await ends(await start(taken.getsockname()[1], free_port()))
    assert code == ExitCode.FAILURE, said
    assert "cannot listen on 127.0.0.1" in said
    assert "Traceback" not in said


async def test_a_damaged_database_is_told(tmp_path: Path, start: Start) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "kernroll.db").write_bytes(b"not a database at all, however long one looks at it" * 100)
    code, said = await ends(await start(free_port(), free_port()))
    assert code == ExitCode.FAILURE, said
    assert "kernroll.db is damaged or not a kernroll database" in said
    assert "Traceback" not in said
