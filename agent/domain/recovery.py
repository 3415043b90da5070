"""What a starting agent reports about the command that its predecessor left half-way."""

from agent.domain.commands import ActiveCommand
from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus, WorkloadRun


def interrupted(
    active: ActiveCommand, *, boot_id: str, clean_up_problem: str = ""
) -> tuple[WorkloadRun | None, CommandOutcome]:
    """Return the died run, if one had begun, and the outcome of the interrupted command.

    `boot_id` is the present boot's; `clean_up_problem` says why the start-up sweep failed, empty when it did not.
    """
    accepted = active.accepted
    what = "the agent was killed" if boot_id == accepted.boot_id else "the host was restarted"
    then = f"clean-up failed: {clean_up_problem}" if clean_up_problem else "cleaned up since"
    if active.run_index is None:
        return None, CommandOutcome(status=OutcomeStatus.DIED, detail=f"{what} between two runs; {then}")
    text = f"{what} during run {active.run_index}; {then}"
    run = WorkloadRun(
        workload=accepted.workload,
        index=active.run_index,
        warmup=active.run_index < accepted.warmups,
        status=RunStatus.DIED,
        error=text,
        kernel_release=accepted.kernel_release,
    )
    return run, CommandOutcome(status=OutcomeStatus.DIED, detail=text)
