"""The agent against a controller that refuses, breaks off or says what makes no sense: it comes again, ever later."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from agent_controller import Controller, swap_mount
from fake_host import FakeProcess
from fake_kernel import FakeKernel
from patience import PATIENCE_S
from structlog.testing import capture_logs

from agent.adapters.host.boot_program import BootProgram
from agent.adapters.host.host import read_facts
from agent.adapters.network import channel
from agent.adapters.network.controller import blame_of
from agent.adapters.state.command_journal import CommandJournal
from agent.adapters.state.spool import ReportSpool
from agent.domain.results import CommandOutcome, OutcomeStatus, Report, ReportBody, RunStatus, Sample, WorkloadRun
from agent.domain.session.report_size import LEFT_OUT
from agent.locks import workload_lock
from agent.resident.executor import Executor
from agent.resident.outbox import Outbox
from agent.resident.resident import Parts, Resident
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc, common_pb2

MESSAGE_BYTES = 64 << 10
Messages = AsyncIterator[agent_pb2.AgentMessage]


def run_of(evidence: str) -> WorkloadRun:
    samples = (Sample(metric="cost", value=1.0, unit="s"),)
    return WorkloadRun(
        workload="w", index=0, warmup=False, status=RunStatus.OK, samples=samples, evidence={"log": evidence}
    )


OUTCOME = CommandOutcome(status=OutcomeStatus.COMPLETED)


class Agent:
    """A resident agent in this process whose pauses take no time."""

    def __init__(self, directory: Path, port: int) -> None:
        self.pauses: list[float] = []
        self.spool = ReportSpool(directory / "spool")
        host = FakeProcess(FakeKernel(directory)).host()
        outbox = Outbox(host="host-1", boot_id="boot-1", spool=self.spool, now=lambda: 1000.0)
        journal = CommandJournal(directory / "commands.journal")
        lock = workload_lock(directory)
        self.resident = Resident(
            Parts(
                name="host-1",
                host=host,
                read_facts=lambda: read_facts(labels={}, platform_override=None),
                boot_program=BootProgram(status=directory / "status.json", socket=directory / "boot.sock"),
                journal=journal,
                outbox=outbox,
                executor=Executor(host=host, journal=journal, outbox=outbox, lock=lock),
                workload_lock=lock,
                connect=lambda _number: channel.plain(f"127.0.0.1:{port}"),
                kernel_log=None,
                jitter=lambda: 0.0,
                backoff_limit_s=10.0,
                sleep=self._sleep,
            )
        )

    async def _sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        await asyncio.sleep(0)

    def add(self, report_id: str, body: ReportBody) -> None:
        self.spool.add(Report(report_id=report_id, command_id="c", boot_id="boot-1", at=1.0, body=body))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.resident.serve(stop))
        try:
            yield
            assert not task.done(), "nothing that a controller says ends the agent"
        finally:
            stop.set()
            with suppress(Exception):
                await task


@asynccontextmanager
async def serving(controller: Controller) -> AsyncIterator[int]:
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", MESSAGE_BYTES),))
    agent_pb2_grpc.add_AgentServiceServicer_to_server(controller, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=0)


async def test_a_report_that_is_too_large_is_made_smaller_and_keeps_no_other_back(tmp_path: Path) -> None:
    controller = Controller()
    async with serving(controller) as port:
        agent = Agent(tmp_path, port)
        agent.add("r1", OUTCOME)
        agent.add("large", run_of("x" * (3 * MESSAGE_BYTES)))
        agent.add("r3", OUTCOME)
        async with agent.serving():
            await controller.until(lambda: {"r1", "large", "r3"} <= set(controller.reports))
            run = controller.reports["large"].run
            assert run.status == common_pb2.RUN_STATUS_OK
            assert [each.value for each in run.samples] == [1.0]
            assert "did not take this report of" in run.evidence[LEFT_OUT]
            await controller.until(lambda: len(agent.spool) == 0)
        # It came five times, and later each time but after the session that took something.
        assert len(agent.pauses) >= 5
        assert max(agent.pauses) >= 4.0
        # All of it stays on the host.
        assert (tmp_path / "spool/000000000002.refused").stat().st_size > 3 * MESSAGE_BYTES


class Refusing(Controller):
    """Ends a session with this status as soon as it hears of a report."""

    def __init__(self, status: grpc.StatusCode, of: str) -> None:
        super().__init__()
        self.status = status
        self.of = of
        self.refused = 0

    async def Session(self, requests: Messages, context: Any) -> None:  # type: ignore[override]  # as the real one does
        async for message in requests:
            outgoing: asyncio.Queue[agent_pb2.ControllerMessage | None] = asyncio.Queue()
            if message.HasField("report") and message.report.report_id == self.of:
                self.refused += 1
                await context.abort(self.status, "no")
            self._take(message, outgoing)
            async with self._changed:
                self._changed.notify_all()
            while not outgoing.empty():
                await context.write(outgoing.get_nowait())


@pytest.mark.parametrize(("status", "tries"), [(grpc.StatusCode.INVALID_ARGUMENT, 16), (grpc.StatusCode.UNKNOWN, 61)])
@pytest.mark.parametrize("body", [OUTCOME, run_of("x")])
async def test_a_report_that_is_never_taken_is_given_up_and_kept(
    tmp_path: Path, status: grpc.StatusCode, tries: int, body: ReportBody
) -> None:
    controller = Refusing(status, "bad")
    async with serving(controller) as port:
        agent = Agent(tmp_path, port)
        agent.add("bad", body)
        agent.add("good", OUTCOME)
        with capture_logs() as logged:
            async with agent.serving():
                await controller.until(lambda: "good" in controller.reports)
        # Ends whose status the library lost count for nothing; on a busy machine there are some.
        lost = sum("Internal error from Core" in str(each.get("error")) for each in logged)
        # Once with the other behind it, then alone until something of it is left out, three times.
        assert controller.refused - lost == tries
        assert (tmp_path / "spool/000000000001.refused").exists()


@pytest.mark.parametrize(
    ("code", "details", "blame"),
    [
        (grpc.StatusCode.INTERNAL, "Internal error from Core", 0),
        (grpc.StatusCode.INTERNAL, "a message of 5 bytes cannot be read", 1),
        (grpc.StatusCode.UNAVAILABLE, "the disk is full", 0),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max", 4),
    ],
)
def test_an_end_whose_status_is_lost_blames_no_report(code: grpc.StatusCode, details: str, blame: int) -> None:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
    assert blame_of(error) == blame


async def test_a_controller_that_cannot_write_now_costs_no_report_anything(tmp_path: Path) -> None:
    controller = Refusing(grpc.StatusCode.UNAVAILABLE, "r1")
    async with serving(controller) as port:
        agent = Agent(tmp_path, port)
        agent.add("r1", run_of("whole"))
        async with agent.serving():
            await controller.until(lambda: len(controller.hellos) > 40)
            controller.of = ""
            await controller.until(lambda: "r1" in controller.reports)
        assert controller.reports["r1"].run.evidence["log"] == "whole"


@asynccontextmanager
async def saying(said: bytes, on_hello: Callable[[], Awaitable[None]], *, welcome: bool) -> AsyncIterator[int]:
    async def session(requests: Messages, _context: Any) -> AsyncIterator[bytes]:
        async for _message in requests:
            await on_hello()
            if welcome:
                first = agent_pb2.Welcome(protocol_version=1, epoch=1, heartbeat_interval_s=0.1)
                yield agent_pb2.ControllerMessage(welcome=first).SerializeToString()
            yield said
            return

    name = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
    handler = grpc.stream_stream_rpc_method_handler(
        session, request_deserializer=agent_pb2.AgentMessage.FromString, response_serializer=lambda content: content
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Session": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=0)


def said(**body: Any) -> bytes:
    return agent_pb2.ControllerMessage(**body).SerializeToString()


SAID = {
    "nothing": b"",
    "no message": b"\xff\xff\xff\xff",
    "half a message": said(goodbye=agent_pb2.Goodbye(reason="x" * 100))[:50],
    # Groups within groups, which no version of the contract has.
    "deep groups": b"\x0b" * 100_000,
    "deep messages": b"\x12\x80\x80\x04" * 50_000,
    "a text that is none": b"\x22\x04\x0a\x02\xff\xfe",
    "silence for ever": said(goodbye=agent_pb2.Goodbye(reason="y" * 100_000, retry_after_s=1e308)),
    "silence that is no number": said(goodbye=agent_pb2.Goodbye(retry_after_s=float("nan"))),
    "another welcome": said(welcome=agent_pb2.Welcome(protocol_version=1, epoch=2**64 - 1)),
    "the last epoch": said(command=agent_pb2.Command(command_id="c1", epoch=2**64 - 1)),
    "a command without a name": said(command=agent_pb2.Command(epoch=1)),
    "a command with a long name": said(command=agent_pb2.Command(command_id="c" * 100_000, epoch=1)),
    "a strange name": said(command=agent_pb2.Command(command_id="\x1b[2J\x00", epoch=1)),
    "a command without an end": said(command=swap_mount("c1", timeout_s=float("inf"))),
    "receipts of nobody": said(acknowledgement=agent_pb2.Acknowledgement(report_ids=["r"] * 10_000)),
}


@pytest.mark.parametrize("welcome", [True, False])
@pytest.mark.parametrize("what", SAID)
async def test_whatever_a_controller_says_the_agent_comes_again_and_ever_later(
    tmp_path: Path, what: str, *, welcome: bool
) -> None:
    enough = asyncio.Event()
    hellos = 0

    async def greeted() -> None:
        nonlocal hellos
        hellos += 1
        if hellos > 6:
            enough.set()

    async with saying(SAID[what], greeted, welcome=welcome) as port:
        agent = Agent(tmp_path, port)
        async with agent.serving(), asyncio.timeout(PATIENCE_S):
            await enough.wait()
    assert agent.pauses[:5] == sorted(agent.pauses[:5])
    assert agent.pauses[4] > agent.pauses[0] or agent.pauses[0] == 300.0
    assert max(agent.pauses) <= 300.0


async def test_what_cannot_be_put_together_ends_the_session_and_not_all_of_them(tmp_path: Path) -> None:
    controller = Controller()
    async with serving(controller) as port:
        agent = Agent(tmp_path, port)
        heartbeat = agent.resident.heartbeat
        broken = 3

        def failing() -> agent_pb2.AgentMessage:
            nonlocal broken
            broken -= 1
            if broken >= 0:
                raise OSError("the disk is gone")
            return heartbeat()

        agent.resident.heartbeat = failing  # type: ignore[method-assign]  # a fault of the host
        async with agent.serving():
            await controller.until(lambda: controller.heartbeats)
        assert len(controller.hellos) == 4
