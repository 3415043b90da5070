"""The resident agent: recovers, watches the kernel log, runs what it is told, and stays connected."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import grpc.aio
import structlog

from agent.adapters.host.boot_program import BootProgram
from agent.adapters.host.kmsg import KernelLogWatcher
from agent.adapters.network.controller import Session
from agent.adapters.state.command_journal import CommandJournal
from agent.adapters.wire import messages
from agent.domain.errors import AgentError, ProtocolViolation, Unreachable
from agent.domain.host.facts import HostFacts
from agent.domain.results import (
    CommandOutcome,
    OutcomeStatus,
    outcome_report_id,
    run_report_id,
    stale_report_id,
)
from agent.domain.session.backoff import pause_s
from agent.domain.session.commands import (
    ActiveCommand,
    Command,
    Conclude,
    EpochSeen,
    Finished,
    Start,
    StopActive,
    decide,
    unwritable,
)
from agent.domain.session.recovery import interrupted
from agent.domain.session.session import BootRequest
from agent.locks import Lock
from agent.resident.boot_requests import BootRequests
from agent.resident.executor import Executor
from agent.resident.outbox import Outbox
from agent.workloads.port import Host
from agent.workloads.rig.undoing import sweep
from protos.kernroll.v1 import agent_pb2

log = structlog.get_logger(__name__)

# When the agent is told to end, how long it still tries to hand over its last reports.
_HANDOVER_TIMEOUT_S = 3.0
_HANDOVER_POLL_S = 0.05
_BACKOFF_BASE_S = 0.5
# Recovery takes less than a second unless the kernel hangs; a session that begins after it begins with nothing active.
_RECOVERY_HEAD_START_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the composition root gives the resident agent."""

    name: str
    host: Host
    read_facts: Callable[[], HostFacts]
    boot_program: BootProgram
    journal: CommandJournal
    outbox: Outbox
    executor: Executor
    workload_lock: Lock
    # Returns a channel for connection attempt number n: the addresses take turns.
    connect: Callable[[int], grpc.aio.Channel]
    # None when the kernel log cannot be read.
    kernel_log: KernelLogWatcher | None
    # Returns the next number in [0, 1).
    jitter: Callable[[], float]
    # The longest pause between two connection attempts.
    backoff_limit_s: float
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Resident:
    """One agent process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._session: Session | None = None
        # What kernroll-boot has written down, as this session told it last.
        self._told_boot = ""
        self._boot_requests = BootRequests(parts.boot_program, self._on_answer)
        parts.outbox.on_news = self._on_news
        parts.executor.on_progress = self._on_progress
        if parts.kernel_log is not None:
            parts.executor.before_report = parts.kernel_log.flush

    async def serve(self, stop: asyncio.Event) -> None:
        """Recover, then serve until told to stop; a running command is then cleaned up and reported as died."""
        self._parts.outbox.begin()
        async with self._kernel_log(), asyncio.TaskGroup() as group:
            # A swapoff that hangs must not keep the host from answering; commands wait for this, the session does not.
            recovery = group.create_task(self.recover(), name="recovery")
            await asyncio.wait({recovery}, timeout=_RECOVERY_HEAD_START_S)
            sessions = group.create_task(self._hold_sessions(), name="sessions")
            await stop.wait()
            recovery.cancel()
            self._boot_requests.stop()
            await self._parts.executor.shut_down()
            await self._hand_over()
            sessions.cancel()

    async def recover(self) -> None:
        """Take down what an earlier process left, then report the command that it left half-way."""
        # Read before the first wait: a command that arrives meanwhile is not one that died.
        active = self._parts.journal.book.active
        problem = await self._sweep()
        if active is not None:
            self._report_interrupted(active, problem)
        self._parts.executor.ready.set()

    async def _sweep(self) -> str:
        """Take down what an earlier process left; return why that failed, empty when it did not."""
        try:
            with self._parts.workload_lock.held():
                for leftover in await sweep(self._parts.host):
                    log.warning("leftover_taken_down", leftover=repr(leftover))
        except (AgentError, OSError, TimeoutError) as error:
            # Tried again before the next workload.
            log.error("start_up_sweep_failed", error=str(error))
            return str(error)
        return ""

    def _report_interrupted(self, active: ActiveCommand, problem: str) -> None:
        command_id, boot_id = active.accepted.command_id, active.accepted.boot_id
        outbox = self._parts.outbox
        run, outcome = interrupted(active, boot_id=outbox.boot_id, clean_up_problem=problem)
        if run is not None:
            outbox.report(run_report_id(outbox.host, command_id, run.index), command_id, run, boot_id=boot_id)
        outbox.report(outcome_report_id(outbox.host, command_id), command_id, outcome, boot_id=boot_id)
        self._parts.journal.note(Finished(command_id=command_id), durable=outbox.spool.durable)
        log.warning("command_died", command_id=command_id, detail=outcome.detail)

    # What a session does to the agent.

    def hello(self) -> agent_pb2.AgentMessage:
        """Return the first message of a session."""
        book = self._parts.journal.book
        self._told_boot = self._parts.boot_program.status()
        return messages.hello(
            self._parts.name,
            self._parts.read_facts(),
            active_command_ids=book.active_ids,
            highest_epoch=book.highest_epoch,
            boot_status=self._told_boot,
            takes_boot_requests=self._parts.boot_program.takes_requests,
        )

    def heartbeat(self) -> agent_pb2.AgentMessage:
        """Return a sign of life; also the moment to write what a full disk has not taken, and to tell what is lost."""
        spool = self._parts.outbox.spool
        self._parts.outbox.begin()
        spool.persist()
        if spool.durable:
            self._parts.journal.catch_up()
        return agent_pb2.AgentMessage(
            heartbeat=agent_pb2.Heartbeat(
                boot_id=self._parts.outbox.boot_id,
                spooled_reports=len(spool),
                active_command_ids=self._parts.journal.book.active_ids,
                boot_status=self._boot_news(),
            )
        )

    def _boot_news(self) -> str:
        """Return what kernroll-boot has written down since it was told last; empty when that is nothing."""
        status = self._parts.boot_program.status()
        if status == self._told_boot:
            return ""
        self._told_boot = status
        return status

    def welcomed(self, epoch: int) -> None:
        """Remember the epoch of the controller that greets."""
        if epoch > self._parts.journal.book.highest_epoch:
            self._parts.journal.note(EpochSeen(epoch=epoch))
        # Among them what the end of the session before made the spool give up.
        self._parts.outbox.begin()
        log.info("session_open", epoch=epoch, spooled_reports=len(self._parts.outbox.spool))

    def obey(self, command: Command) -> str:
        """Take one telling of a command; return why it is refused, empty when it is not."""
        parts = self._parts
        decision = decide(
            parts.journal.book,
            command,
            boot_id=parts.outbox.boot_id,
            kernel_release=parts.host.kernel_release,
            unable=parts.outbox.spool.queue.no_room or parts.journal.doubt,
        )
        try:
            parts.journal.write(*decision.records)
        except OSError as error:
            # What cannot be written down cannot be done once and only once.
            decision = unwritable(command, str(error))
        match decision.action:
            case Start() as start:
                parts.executor.start(start)
            case StopActive():
                parts.executor.cancel()
            case Conclude() as conclude:
                self._conclude(conclude, command.epoch)
            case None:
                pass
        if decision.refused:
            log.warning("command_refused", command_id=command.command_id, reason=decision.refused)
        return decision.refused

    def ask(self, request: BootRequest) -> None:
        """Pass on what kernroll-boot is asked, unless whoever asks does not lead any more."""
        journal = self._parts.journal
        highest = journal.book.highest_epoch
        if request.epoch > highest:
            journal.note(EpochSeen(epoch=request.epoch))
        stale = f"stale epoch {request.epoch}: epoch {highest} has been obeyed" if request.epoch < highest else ""
        self._boot_requests.take(request, stale=stale)

    def _conclude(self, conclude: Conclude, epoch: int) -> None:
        outbox = self._parts.outbox
        outcome = CommandOutcome(status=conclude.status, detail=conclude.detail)
        if conclude.stale:
            report_id = stale_report_id(outbox.host, conclude.command_id, epoch)
            outbox.report(report_id, conclude.command_id, outcome)
            return
        outbox.report(outcome_report_id(outbox.host, conclude.command_id), conclude.command_id, outcome)
        refused = "" if conclude.status is OutcomeStatus.CANCELLED else conclude.detail
        finished = Finished(command_id=conclude.command_id, refused=refused)
        self._parts.journal.note(finished, durable=outbox.spool.durable)

    # Staying connected.

    async def _hold_sessions(self) -> None:
        attempt = 0
        connection = 0
        while True:
            session = self._session = Session(handler=self, spool=self._parts.outbox.spool)
            try:
                reason = await session.hold(partial(self._parts.connect, connection))
                log.info("session_ended", reason=reason)
            except (Unreachable, ProtocolViolation) as error:
                log.warning("session_lost", error=str(error), attempt=attempt)
            except Exception:  # a bug of ours must not end the one who measures
                log.exception("session_bug", attempt=attempt)
            finally:
                self._session = None
            connection += 1
            attempt = 0 if session.steady else attempt + 1
            backoff_s = pause_s(
                attempt, base_s=_BACKOFF_BASE_S, limit_s=self._parts.backoff_limit_s, jitter=self._parts.jitter()
            )
            await self._parts.sleep(max(backoff_s, session.retry_after_s))

    async def _hand_over(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_HANDOVER_TIMEOUT_S):
                # A session may end and open again meanwhile, so there is no one event to wait for.
                while len(self._parts.outbox.spool) and self._session is not None and self._session.opened:  # noqa: ASYNC110
                    await asyncio.sleep(_HANDOVER_POLL_S)

    @asynccontextmanager
    async def _kernel_log(self) -> AsyncIterator[None]:
        if self._parts.kernel_log is None:
            yield
            return
        watch = asyncio.create_task(self._parts.kernel_log.watch(), name="kernel log")
        try:
            yield
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await watch

    def _on_news(self) -> None:
        if self._session is not None:
            self._session.notice()

    def _on_answer(self, request_id: str, document: str) -> None:
        # Without a session it is lost, and asked for again.
        if self._session is not None:
            self._session.answer(request_id, document)

    def _on_progress(self, command_id: str, step: str, fraction: float) -> None:
        if self._session is not None:
            self._session.progress(command_id, step, fraction)
