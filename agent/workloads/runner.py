"""Drives one workload through prepare, warm-ups, repetitions and clean-up, and names how it ended."""

import asyncio
import math
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import structlog

from agent.domain.errors import AgentError, KernelWanting, WorkloadDied
from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus, WorkloadRun
from agent.to_end import run_to_end
from agent.workloads.port import Host, Listener, Measurement, Workload
from agent.workloads.recorded import Recorded

log = structlog.get_logger(__name__)


# However many runs a command has, one that takes no longer than this is not taken for one that hangs.
_LEAST_RUN_TIMEOUT_S = 60.0


class StopReason(StrEnum):
    """Why a command is stopped from outside."""

    CANCELLED = "cancelled"  # the controller or the operator wants it no more
    AGENT_ENDS = "agent_ends"  # the agent process was told to end


class Stop:
    """Asks a running command to stop; the first reason stands."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        # None until somebody asks.
        self.reason: StopReason | None = None

    def request(self, reason: StopReason) -> None:
        """Ask for the stop."""
        self.reason = self.reason or reason
        self._event.set()

    async def wait(self) -> None:
        """Wait until somebody asks."""
        await self._event.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often, and for how long at most."""

    warmups: int
    repetitions: int
    # Clean-up has limits of its own and comes on top.
    timeout_s: float

    @property
    def runs(self) -> int:
        """Return the number of runs, warm-ups included."""
        return self.warmups + self.repetitions

    @property
    def run_timeout_s(self) -> float:
        """Return how long one run may take: twice its share, so that one that hangs leaves the others their time."""
        return min(self.timeout_s, max(_LEAST_RUN_TIMEOUT_S, 2 * self.timeout_s / self.runs))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """How one stage of the workload ended."""

    status: RunStatus
    error: str = ""
    # None unless a run came to its end.
    measurement: Measurement | None = None
    # What the workload kept for a reader to see why it did not.
    evidence: Mapping[str, str] = field(default_factory=dict)


_OUTCOME_THAT_ENDS = {
    RunStatus.DIED: OutcomeStatus.DIED,
    RunStatus.CANCELLED: OutcomeStatus.CANCELLED,
    RunStatus.TIMED_OUT: OutcomeStatus.TIMED_OUT,
    RunStatus.INFRASTRUCTURE: OutcomeStatus.INFRASTRUCTURE,
}


async def drive(workload: Workload, plan: Plan, host: Host, listener: Listener, stop: Stop) -> CommandOutcome:
    """Run the workload and take everything down again; what happens to the workload is an outcome, never raised."""
    driver = _Driver(workload, plan, host, listener, stop)
    try:
        outcome = await driver.measure()
    finally:
        problem = await run_to_end(_clean_up(workload, listener))
    if not problem:
        return outcome
    status = OutcomeStatus.INFRASTRUCTURE if outcome.status is OutcomeStatus.COMPLETED else outcome.status
    return CommandOutcome(status=status, detail="; ".join(text for text in (outcome.detail, problem) if text))


async def _clean_up(workload: Workload, listener: Listener) -> str:
    listener.clean_up_begun()
    listener.progress("cleaning up", 1.0)
    try:
        await workload.clean_up()
    except (AgentError, OSError, TimeoutError) as error:
        log.error("clean_up_failed", workload=workload.name, error=str(error))
        return f"clean-up failed, tried again before the next command: {error}"
    return ""


class _Driver:
    def __init__(self, workload: Workload, plan: Plan, host: Host, listener: Listener, stop: Stop) -> None:
        self._workload = workload
        self._plan = plan
        self._host = host
        self._listener = listener
        self._stop = stop
        self._deadline = asyncio.get_running_loop().time() + plan.timeout_s
        # Whether it is the command's time that the present stage must not exceed, and not only that of one run.
        self._last_stage = False
        # Whether the last stage was ended because its time was up.
        self._cut_off = False
        self._runs_done = 0

    async def measure(self) -> CommandOutcome:
        """Return how the command ended, clean-up apart."""
        ending = await self._supervise(self._workload.prepare(self._step), self._plan.timeout_s)
        if ending.status is not RunStatus.OK:
            # Nothing was measured, so there is no run to report.
            status = _OUTCOME_THAT_ENDS.get(ending.status, OutcomeStatus.FAILED)
            return CommandOutcome(status=status, detail=ending.error)
        failures, late = [], []
        for index in range(self._plan.runs):
            run = await self._run(index)
            if run.status is RunStatus.FAILED:
                failures.append(run.error)
                if self._cut_off:
                    # What it had set up is still there.
                    break
            elif run.status is RunStatus.TIMED_OUT and not self._last_stage:
                # It has taken down what it had set up, or it would have ended otherwise: the next may have its time.
                late.append(run.error)
            elif run.status in _OUTCOME_THAT_ENDS:
                return CommandOutcome(status=_OUTCOME_THAT_ENDS[run.status], detail=run.error)
            self._runs_done += 1
        return self._outcome(failures, late)

    def _outcome(self, failures: list[str], late: list[str]) -> CommandOutcome:
        """Return the outcome of a command whose runs were all made, by the errors of those that were not OK."""
        if failures:
            text = f"{len(failures)} of {self._plan.runs} runs failed; first: {failures[0]}"
            return CommandOutcome(status=OutcomeStatus.FAILED, detail=text)
        if late:
            text = f"{len(late)} of {self._plan.runs} runs took too long; first: {late[0]}"
            return CommandOutcome(status=OutcomeStatus.TIMED_OUT, detail=text)
        return CommandOutcome(status=OutcomeStatus.COMPLETED)

    async def _run(self, index: int) -> WorkloadRun:
        await self._listener.run_begun(index)
        begun = self._host.monotonic()
        ending = await self._supervise(self._workload.run(self._step), self._plan.run_timeout_s)
        measurement = ending.measurement or self._unfinished(ending)
        if strange := [each for each in measurement.samples if not math.isfinite(each.value)]:
            # A benchmark that counted nothing prints such values; without them the others would pass for a whole run.
            if ending.status is RunStatus.OK:
                text = f"the run is not valid: {strange[0].metric} is {strange[0].value}, which is no number"
                ending = replace(ending, status=RunStatus.INFRASTRUCTURE, error=text)
            measurement = replace(
                measurement, samples=tuple(each for each in measurement.samples if each not in strange)
            )
        run = WorkloadRun(
            workload=self._workload.name,
            index=index,
            warmup=index < self._plan.warmups,
            status=ending.status,
            error=ending.error,
            samples=measurement.samples,
            evidence=measurement.evidence,
            duration_s=self._host.monotonic() - begun,
            kernel_release=self._host.kernel_release,
        )
        await self._listener.run_ended(run)
        return run

    def _unfinished(self, ending: _Ending) -> Measurement:
        """Return what is known of a run that did not come to its end: what was counted, what the workload kept."""
        found = Measurement(samples=())
        if isinstance(self._workload, Recorded):
            found = self._workload.take_unfinished()
        return Measurement(samples=found.samples, evidence={**found.evidence, **ending.evidence})

    def _step(self, step: str) -> None:
        self._listener.progress(step, self._runs_done / self._plan.runs)

    async def _supervise(self, work: Coroutine[Any, Any, Measurement | None], timeout_s: float) -> _Ending:
        """Run one stage until it ends, somebody stops it, or its time or the command's is up."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop.wait())
        remaining_s = max(0.0, self._deadline - asyncio.get_running_loop().time())
        self._last_stage = remaining_s <= timeout_s
        try:
            waits = {task, stop}
            await asyncio.wait(waits, timeout=min(remaining_s, timeout_s), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._cut_off = not task.done() and not stop.done()
            stop.cancel()
            task.cancel()
            # A cancelled workload first takes down what it has set up.
            await run_to_end(asyncio.wait({task}))
        return self._ending(task)

    def _late(self) -> str:
        plan = self._plan
        if self._last_stage:
            return f"not finished within the command's {plan.timeout_s:g} s"
        return (
            f"not finished within {plan.run_timeout_s:g} s, which is what one of {plan.runs} runs may take of the "
            f"command's {plan.timeout_s:g} s"
        )

    def _ending(self, task: "asyncio.Task[Measurement | None]") -> _Ending:
        if task.cancelled():
            match self._stop.reason:
                case StopReason.CANCELLED:
                    return _Ending(status=RunStatus.CANCELLED, error="cancelled")
                case StopReason.AGENT_ENDS:
                    return _Ending(status=RunStatus.DIED, error="the agent was told to end; cleaned up")
                case None:
                    return _Ending(status=RunStatus.TIMED_OUT, error=self._late())
        error = task.exception()
        if error is None:
            return _Ending(status=RunStatus.OK, measurement=task.result())
        if isinstance(error, KernelWanting):
            return _Ending(status=RunStatus.FAILED, error=str(error), evidence=error.evidence)
        if isinstance(error, WorkloadDied):
            return _Ending(status=RunStatus.DIED, error=str(error), evidence=error.evidence)
        if isinstance(error, AgentError):
            return _Ending(status=RunStatus.INFRASTRUCTURE, error=str(error), evidence=error.evidence)
        if isinstance(error, OSError | TimeoutError):
            return _Ending(status=RunStatus.INFRASTRUCTURE, error=str(error))
        log.error("workload_bug", workload=self._workload.name, exc_info=error)
        return _Ending(status=RunStatus.INFRASTRUCTURE, error=f"{type(error).__name__}: {error}")
