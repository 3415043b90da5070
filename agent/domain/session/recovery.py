"""What a starting agent reports about the command that its predecessor left half-way."""

from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus, WorkloadRun
from agent.domain.session.commands import ActiveCommand


def interrupted(
    active: ActiveCommand, *, boot_id: str, clean_up_problem: str = ""
) -> tuple[WorkloadRun | None, CommandOutcome]:
    """Return the died run, if one had begun, and the outcome of the interrupted command.

    `boot_id` is the present boot's; `clean_up_problem` says why the start-up sweep failed, empty when it did not.
    """
    accepted = active.accepted
    what = "the agent was killed" if boot_id == accepted.boot_id else "the host was restarted"
    then = f"clean-up failed: {clean_up_problem}" if clean_up_problem else "cleaned up since"
    text = f"{what} {_phase(active)}; {then}"
    if active.last_run is None or not active.running:
        return None, CommandOutcome(status=OutcomeStatus.DIED, detail=text)
    run = WorkloadRun(
        workload=accepted.workload,
        index=active.last_run,
        warmup=active.last_run < accepted.warmups,
        status=RunStatus.DIED,
        error=text,
        kernel_release=accepted.kernel_release,
    )
    return run, CommandOutcome(status=OutcomeStatus.DIED, detail=text)


def _phase(active: ActiveCommand) -> str:
    """Return when in its life the command was interrupted."""
    if active.running:
        kind = "warm-up" if (active.last_run or 0) < active.accepted.warmups else "run"
        return f"during {kind} {active.last_run}"
    if active.cleaning_up:
        return "while it cleaned up"
    return "between two runs" if active.last_run is not None else "while it prepared"
