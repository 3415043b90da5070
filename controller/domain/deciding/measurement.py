"""How a measurement ended: done, worth another try, or an outcome that speaks against kernel or rig."""

from dataclasses import dataclass

from controller.domain.record.events import CommandState, Failure, FailureKind, RunState
from controller.domain.record.journey import Side, Trigger
from controller.domain.state.attempt import RETRY_PAUSE_S, Attempt
from controller.domain.state.runs import Run
from controller.domain.state.snapshot import AttemptSnapshot


@dataclass(frozen=True, slots=True)
class Fired:
    """A trigger, with the failure that goes with it."""

    trigger: Trigger
    failure: Failure | None = None


def measured(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    """How the leg's command ended: measured, worth another try, or an outcome that speaks against kernel or rig."""
    attempt, policy = snapshot.attempt, snapshot.rollout.policy
    answer = attempt.command
    if answer is None:
        return None
    under_test = attempt.side is Side.NEW
    task = policy.tasks[attempt.task]
    good = sum(run.state is RunState.OK for run in attempt.runs_of(attempt.leg) if run.command_id == attempt.command_id)
    if answer.state is CommandState.COMPLETED and good >= task.repetitions:
        if attempt.task + 1 < len(policy.tasks):
            return Fired(Trigger.NEXT_TASK)
        return Fired(Trigger.NEXT_LEG if attempt.leg + 1 < len(attempt.legs) and attempt.leg else Trigger.MEASURED)
    if answer.state in (CommandState.DIED, CommandState.TIMED_OUT):
        if attempt.tries < policy.died_retries:
            return Fired(Trigger.RETRY)
        died = sum(run.workload == task.workload for run in _died_runs(attempt))
        return _condemn(under_test, f"{task.workload} died or timed out in {died} runs: {answer.detail}")
    if answer.state is CommandState.FAILED:
        return _condemn(under_test, f"{task.workload} failed: {answer.detail}")
    if answer.state is CommandState.UNSUPPORTED:
        sentence = f"the agent does not know {task.workload}: {answer.detail}"
        return Fired(Trigger.FAIL, Failure(kind=FailureKind.INFRASTRUCTURE, sentence=sentence))
    if attempt.tries < policy.infrastructure_retries:
        return Fired(Trigger.RETRY) if answer.at + RETRY_PAUSE_S <= now else None
    detail = answer.detail or f"{good} of {task.repetitions} runs were measured"
    sentence = f"the rig failed {attempt.tries + 1} times under {task.workload}: {detail}"
    return Fired(Trigger.FAIL, Failure(kind=FailureKind.INFRASTRUCTURE, sentence=sentence))


def _died_runs(attempt: Attempt) -> tuple[Run, ...]:
    """Return the leg's runs that died, failed or timed out: outcomes, not missing data."""
    bad = (RunState.DIED, RunState.FAILED, RunState.TIMED_OUT)
    return tuple(run for run in attempt.runs_of(attempt.leg) if run.state in bad)


def _condemn(under_test: bool, sentence: str) -> Fired:
    if under_test:
        return Fired(Trigger.FATAL, Failure(kind=FailureKind.WORKLOAD, sentence=sentence))
    on_old = Failure(kind=FailureKind.INFRASTRUCTURE, sentence=f"{sentence} (on the old kernel)")
    return Fired(Trigger.FAIL, on_old)
