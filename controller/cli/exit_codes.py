"""What every exit code of `kernroll` means; `kernroll --help` prints this table."""

from enum import IntEnum

from controller.domain.errors import Conflict, InvalidInput, KernrollError, NotFound, Temporary


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    INPUT = 3
    UNREACHABLE = 4
    NOT_FOUND = 5
    CONFLICT = 6
    UNSUCCESSFUL = 7
    TIMED_OUT = 8
    UNDECIDED = 9
    INTERRUPTED = 130
    READER_GONE = 141


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILURE: "failed; the message says why",
    ExitCode.USAGE: "unknown command or option",
    ExitCode.INPUT: "a file or value is wrong; the message names line and field",
    ExitCode.UNREACHABLE: "no controller answers, or another failure that may pass; try again",
    ExitCode.NOT_FOUND: "no such host, rollout or kernel",
    ExitCode.CONFLICT: "contradicts the present state, or the plan has blockers",
    ExitCode.UNSUCCESSFUL: "--watch: the rollout ended otherwise than asked (reverted, aborted, paused); gate: FAIL",
    ExitCode.TIMED_OUT: "no answer, or no end of the rollout, within the time allowed",
    ExitCode.UNDECIDED: "gate: neither PASS nor FAIL; more data, or another design, would decide",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C; a rollout that was watched goes on",
    ExitCode.READER_GONE: "the reader of the output went away",
}


def exit_code_of(error: KernrollError) -> ExitCode:
    """Return the exit code of a failure that is reported to a person."""
    # By name, because importing the class would load gRPC for commands that do not call anybody.
    if type(error).__name__ == "TimedOut":
        return ExitCode.TIMED_OUT
    match error:
        case InvalidInput():
            return ExitCode.INPUT
        case NotFound():
            return ExitCode.NOT_FOUND
        case Conflict():
            return ExitCode.CONFLICT
        case Temporary():
            return ExitCode.UNREACHABLE
        case _:
            return ExitCode.FAILURE


def table_text() -> str:
    """Return the table, one line a code."""
    return "\n".join(f"  {code.value:<4}{MEANINGS[code]}" for code in ExitCode)
