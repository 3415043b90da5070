"""One measured run, as far as it is kept in memory."""

from collections.abc import Mapping
from dataclasses import dataclass

from controller.domain.bounds import numbers
from controller.domain.record.events import RunReported, RunState
from controller.domain.state.environments import recorded
from controller.gate.evidence.selftests import NO_CASES, Cases, parse_cases

# What agents call the text of their selftests' cases.
SELFTEST_CASES = "selftest_cases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the judge needs of one measured run."""

    leg: int
    # The repetition of the leg's command that this run belongs to.
    command_id: str
    index: int
    warmup: bool
    state: RunState
    boot_id: str
    values: Mapping[str, float]
    error: str = ""
    workload: str = ""
    # What `environments.recorded` keeps; empty for all but the first run of a command.
    environment: str = ""
    # Of the kernel's selftests, where the run was of them.
    cases: Cases = NO_CASES


def run_of(event: RunReported, leg: int) -> Run:
    """Return what is kept of a report."""
    return Run(
        leg=leg,
        command_id=event.command_id,
        index=event.index,
        warmup=event.warmup,
        state=event.state,
        boot_id=event.boot_id,
        values=numbers(event.values),
        error=event.error,
        workload=event.workload,
        environment=recorded(event.evidence),
        cases=parse_cases(event.evidence.get(SELFTEST_CASES, "")),
    )
