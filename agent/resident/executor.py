"""Runs the one active command and reports everything that comes of it."""

import asyncio
from collections.abc import Callable

import structlog

from agent.adapters.state.command_journal import CommandJournal
from agent.domain.errors import RigError
from agent.domain.results import (
    CommandOutcome,
    OutcomeStatus,
    WorkloadRun,
    outcome_report_id,
    run_report_id,
)
from agent.domain.session.commands import CleaningUp, Finished, Record, RunBegun, RunEnded, RunWorkload, Start
from agent.locks import Lock
from agent.resident.outbox import Outbox
from agent.workloads.port import Host
from agent.workloads.registry import workload_for
from agent.workloads.runner import Plan, Stop, StopReason, drive

log = structlog.get_logger(__name__)


class Executor:
    """Holds at most one running command."""

    def __init__(self, *, host: Host, journal: CommandJournal, outbox: Outbox, lock: Lock) -> None:
        self._host = host
        self._journal = journal
        self._outbox = outbox
        self._lock = lock
        self._task: asyncio.Task[None] | None = None
        self._stop = Stop()
        # Set when the start-up sweep is over; commands wait for it.
        self.ready = asyncio.Event()
        # Called with the command's id, a step and a fraction; the open session replaces it.
        self.on_progress: Callable[[str, str, float], None] = lambda command_id, step, fraction: None
        # Called before a result is spooled, so that the kernel's own words come first.
        self.before_report: Callable[[], None] = lambda: None

    def start(self, start: Start) -> None:
        """Begin; the journal holds the command as accepted already."""
        self._stop = Stop()
        self._task = asyncio.create_task(self._execute(start, self._stop), name=f"command {start.command_id}")

    def cancel(self) -> None:
        """Stop the running command; its outcome follows."""
        self._stop.request(StopReason.CANCELLED)

    async def shut_down(self) -> None:
        """Stop the running command because the agent ends; returns when it is cleaned up and reported as died."""
        self._stop.request(StopReason.AGENT_ENDS)
        await self.idle()

    async def idle(self) -> None:
        """Wait until no command runs."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _execute(self, start: Start, stop: Stop) -> None:
        log.info("command_started", command_id=start.command_id, workload=start.workload.order.workload)
        outcome = await self._drive(start.command_id, start.timeout_s, start.workload, stop)
        self.before_report()
        self._outbox.report(outcome_report_id(self._outbox.host, start.command_id), start.command_id, outcome)
        self._note(Finished(command_id=start.command_id))
        log.info("command_finished", command_id=start.command_id, status=outcome.status, detail=outcome.detail)

    async def _drive(self, command_id: str, timeout_s: float, order: RunWorkload, stop: Stop) -> CommandOutcome:
        plan = Plan(warmups=order.warmups, repetitions=order.repetitions, timeout_s=timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready_or_stopped(stop)
            with self._lock.held():
                workload = workload_for(order.order, self._host)
                return await drive(workload, plan, self._host, _Reporter(self, command_id), stop)
        except TimeoutError:
            detail = f"the start-up sweep did not end within the command's {timeout_s:g} s"
            return CommandOutcome(status=OutcomeStatus.TIMED_OUT, detail=detail)
        except (RigError, OSError) as error:
            return CommandOutcome(status=OutcomeStatus.INFRASTRUCTURE, detail=str(error))
        except Exception as error:  # a bug of ours must not leave the command without an outcome
            log.exception("command_bug", command_id=command_id)
            detail = f"the agent failed: {type(error).__name__}: {error}"
            return CommandOutcome(status=OutcomeStatus.INFRASTRUCTURE, detail=detail)

    async def _ready_or_stopped(self, stop: Stop) -> None:
        waits = {asyncio.create_task(self.ready.wait()), asyncio.create_task(stop.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def run_begun(self, index: int) -> None:
        """Write down that a run begins."""
        self._journal.write(RunBegun(index=index))

    def clean_up_begun(self) -> None:
        """Write down that taking down begins."""
        self._note(CleaningUp())

    def run_ended(self, command_id: str, run: WorkloadRun) -> None:
        """Spool a run, then write down that it ended."""
        self.before_report()
        self._outbox.report(run_report_id(self._outbox.host, command_id, run.index), command_id, run)
        self._note(RunEnded(index=run.index))

    def _note(self, record: Record) -> None:
        # A journal that knew more than the spool would leave a successor nothing to tell of a run that is lost.
        self._journal.note(record, durable=self._outbox.spool.durable)


class _Reporter:
    """The workload runner's listener for one command."""

    def __init__(self, executor: Executor, command_id: str) -> None:
        self._executor = executor
        self._command_id = command_id

    async def run_begun(self, index: int) -> None:
        self._executor.run_begun(index)

    def clean_up_begun(self) -> None:
        self._executor.clean_up_begun()

    async def run_ended(self, run: WorkloadRun) -> None:
        self._executor.run_ended(self._command_id, run)

    def progress(self, step: str, fraction: float) -> None:
        self._executor.on_progress(self._command_id, step, fraction)
