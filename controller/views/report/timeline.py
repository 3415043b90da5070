"""What happened when, as sentences: the steps of a rollout and its hosts, their boots included."""

from collections.abc import Sequence
from typing import assert_never

from controller.domain.record.actions.power_cycles import PowerCycleBegun, PowerCycled
from controller.domain.record.actions.work import WorkTold
from controller.domain.record.control import ControlEvent
from controller.domain.record.events import (
    AbortStarted,
    AttemptEvent,
    CommandReported,
    CommandState,
    DeliveryReported,
    Event,
    FatalLogged,
    HostHeard,
    HostsAdmitted,
    HostSilent,
    Moved,
    PlaceReported,
    RevertStarted,
    RolloutCompleted,
    RolloutEnded,
    RolloutEvent,
    RolloutPaused,
    RolloutPlanned,
    RolloutPromoted,
    RolloutStarted,
    RunReported,
    RunState,
    SeriousLogged,
    TrialEnded,
    WatchResumed,
    WaveOpened,
)
from controller.domain.record.fleet import FleetEvent
from controller.domain.record.journey import Trigger
from controller.domain.record.names import is_uncordoning, key_of_stream
from controller.domain.record.verdicts import WaveJudged
from controller.domain.state.rollout import Rollout
from controller.views.models import Epoch
from controller.views.report.model import Moment
from controller.views.rollouts.power_cycles import power_begun_text, power_cycled_text
from controller.views.rollouts.waiting import reason_text
from controller.words import names_text


def timeline(rollout: Rollout, events: Sequence[tuple[str, Event]]) -> tuple[Moment, ...]:
    """Return every event that a reader wants to know of, in the order of the log."""
    moments: list[Moment] = []
    verdict = ""
    for stream, event in events:
        text = _text(event)
        if isinstance(event, WaveJudged):
            verdict = event.sentence
        elif verdict and isinstance(event, RolloutPaused | RevertStarted | RolloutPromoted | RolloutCompleted):
            # The line above says why.
            head, said, more = text.partition(f": {reason_text(verdict)}")
            text = f"{head}:{more}" if said and more.startswith(" ") else f"{head}{more}"
        if text:
            offset_s = event.at - rollout.planned_at
            moments.append(Moment(at=Epoch(event.at), offset_s=offset_s, host=key_of_stream(stream).host, text=text))
    return tuple(moments)


def _text(event: Event) -> str:
    """Return the event as a sentence; empty for events that only answer a step."""
    if isinstance(event, RolloutEvent):
        return _rollout_text(event)
    if isinstance(event, AttemptEvent):
        return _host_text(event)
    assert isinstance(event, FleetEvent), f"{type(event).__name__} is of no stream"
    # It concerns no rollout more than another; `kernroll fleet log` tells it.
    return ""


def _rollout_text(event: RolloutEvent) -> str:
    if isinstance(event, ControlEvent):
        return event.told
    match event:
        case RolloutPlanned():
            return f"planned by {event.by}"
        case RolloutStarted():
            return f"started by {event.by}"
        case HostsAdmitted():
            return f"wave {event.wave + 1}: the turn of {names_text(event.hosts)} has come"
        case WaveOpened():
            return f"wave {event.wave + 1} opened"
        case WaveJudged():
            return f"wave {event.wave + 1} judged: {event.sentence}"
        case RolloutPaused():
            # What an operator asked for begins with the word already.
            return event.reason if event.reason.startswith("paused by ") else f"paused: {reason_text(event.reason)}"
        case RolloutPromoted():
            return f"promoted: {reason_text(event.reason)}"
        case RolloutCompleted():
            return f"completed: {reason_text(event.reason)}"
        case AbortStarted():
            return f"abort: {event.reason}"
        case RevertStarted():
            hasty = "; all hosts at once, whatever the disruption budget says" if event.emergency else ""
            return f"revert: {reason_text(event.reason)}{hasty}"
        case RolloutEnded():
            lost = f"; {names_text(event.lost)} did not come back" if event.lost else ""
            return f"{event.state.replace('_', ' ')}{lost}"
        case _:
            assert_never(event)


def _why(remark: str) -> str:
    return f": {remark}" if remark else ""


def _host_text(event: AttemptEvent) -> str:
    match event:
        case Moved() if event.trigger is Trigger.POWER_CYCLE:
            return (
                f"{event.step}: not heard when its time was over, so that its power is cut and given again, once "
                "(limits.power_cycle)"
            )
        case Moved():
            again = f" (try {event.tries + 1})" if event.tries else ""
            kernel = f", runs {event.release}" if event.release else ""
            line = f": “{event.failure.line}”" if event.failure is not None and event.failure.line else ""
            why = f": {event.failure.sentence}{line}" if event.failure is not None else ""
            return f"{event.step}{again}{kernel}{why}"
        case HostHeard():
            return f"heard under {event.release}, boot {event.boot_id[:8]}"
        case HostSilent():
            return "not heard any more"
        case WatchResumed():
            return "a controller has started and watches again"
        case PowerCycleBegun():
            return power_begun_text(event)
        case PowerCycled():
            return power_cycled_text(event.outcome, event.detail)
        case TrialEnded():
            line = f": “{event.line}”" if event.line else ""
            return f"trial boot ended, {event.end.replace('_', ' ')}{line}"
        case FatalLogged():
            return f"kernel log, {event.signature}: “{event.line}”"
        case SeriousLogged():
            return "; ".join(f"kernel log, {one.signature}: “{one.line}”" for one in event.findings)
        case RunReported():
            told = f"run {event.index} {event.state.replace('_', ' ')}{_why(event.error)}"
            return "" if event.state is RunState.OK else told
        case CommandReported():
            told = f"measurement {event.state.replace('_', ' ')}{_why(event.detail)}"
            return "" if event.state is CommandState.COMPLETED else told
        case DeliveryReported() | WorkTold():
            # The move that follows says what came of it; `kernroll rollout log` tells the work itself.
            return ""
        case PlaceReported():
            # Likewise, but for a host whose way has ended.
            told = "could not be put back into service" if event.error else "in service again"
            return f"{told}{_why(event.error)}" if is_uncordoning(event.command_id) else ""
        case _:
            assert_never(event)
