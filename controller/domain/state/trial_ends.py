"""What the end of a trial boot means."""

from typing import assert_never

from controller.domain.delivery import BootEnd
from controller.domain.record.events import Failure, FailureKind, TrialEnded
from controller.gate.kernel_log import HARDWARE_KIND, classify


def trial_failure(event: TrialEnded) -> Failure:
    """Say what the end of a trial boot means."""
    match event.end:
        case BootEnd.PANIC if any(one.kind == HARDWARE_KIND for one in classify([event.line])):
            sentence = "the hardware failed under the kernel"
            return Failure(kind=FailureKind.INFRASTRUCTURE, sentence=sentence, line=event.line)
        case BootEnd.PANIC:
            return Failure(kind=FailureKind.PANIC, sentence="the kernel panicked", line=event.line)
        case BootEnd.RESET:
            return Failure(kind=FailureKind.RESET, sentence="the machine reset by itself", line=event.line)
        case BootEnd.NOT_ACKNOWLEDGED:
            sentence = "no healthy agent answered by the boot deadline"
            return Failure(kind=FailureKind.HANG, sentence=sentence, line=event.line)
        case BootEnd.NOT_BLESSED:
            sentence = "the kernel was not blessed by the probation deadline"
            if event.unattended:
                # The agent was healthy; it was the controller that did not come to bless it.
                sentence = f"{sentence}: the controller was away"
                return Failure(kind=FailureKind.INFRASTRUCTURE, sentence=sentence, line=event.line)
            return Failure(kind=FailureKind.NOT_BLESSED, sentence=sentence, line=event.line)
        case BootEnd.REPLACED | BootEnd.STOPPED:
            return Failure(kind=FailureKind.RESET, sentence="the trial boot was ended on request", line=event.line)
        case _:
            assert_never(event.end)
