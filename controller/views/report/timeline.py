"""What happened when, as sentences: the steps of a rollout and its hosts, their boots included."""

from collections.abc import Sequence

from controller.domain.control_events import CheckReported, ChecksAsked, ChecksOverridden
from controller.domain.events import (
    AbortStarted,
    CommandReported,
    CommandState,
    Event,
    FatalLogged,
    HostHeard,
    HostSilent,
    Moved,
    RevertStarted,
    RolloutCompleted,
    RolloutEnded,
    RolloutPaused,
    RolloutPlanned,
    RolloutPromoted,
    RolloutStarted,
    RunReported,
    RunState,
    SeriousLogged,
    TrialEnded,
    WaveOpened,
)
from controller.domain.rollout import Rollout
from controller.domain.verdict_events import WaveJudged
from controller.views.models import Epoch
from controller.views.quantities import names_text
from controller.views.report.model import Moment
from controller.views.report.runs import host_of


def timeline(rollout: Rollout, events: Sequence[tuple[str, Event]]) -> tuple[Moment, ...]:
    """Return every event that a reader wants to know of, in the order of the log."""
    moments: list[Moment] = []
    verdict = ""
    for stream, event in events:
        text = _text(event)
        if isinstance(event, WaveJudged):
            verdict = event.sentence
        elif isinstance(event, RolloutPaused | RevertStarted) and event.reason == verdict:
            # The line above says why.
            text = "paused" if isinstance(event, RolloutPaused) else "revert"
        if text:
            offset_s = event.at - rollout.planned_at
            moments.append(Moment(at=Epoch(event.at), offset_s=offset_s, host=host_of(stream), text=text))
    return tuple(moments)


def _text(event: Event) -> str:
    """Return the event as a sentence; empty for events that only answer a step."""
    match event:
        case RolloutPlanned():
            return f"planned by {event.by}"
        case RolloutStarted():
            return f"started by {event.by}"
        case WaveOpened():
            return f"wave {event.wave + 1} opened"
        case WaveJudged():
            return f"wave {event.wave + 1} judged: {event.sentence}"
        case RolloutPaused():
            return f"paused: {event.reason}"
        case RolloutPromoted():
            return "promoted"
        case RolloutCompleted():
            return "completed"
        case AbortStarted():
            return f"abort: {event.reason}"
        case RevertStarted():
            return f"revert: {event.reason}"
        case ChecksAsked():
            again = f" (time {event.number})" if event.number > 1 else ""
            return f"wave {event.wave + 1} asks its checks{again}: {names_text([check.name for check in event.checks])}"
        case CheckReported():
            who = f" (by {event.by})" if event.by else ""
            told = f"check {event.check} of wave {event.wave + 1}: {event.outcome.replace('_', ' ')}{who}"
            return f"{told}: {event.detail}" if event.detail else told
        case ChecksOverridden():
            return f"{event.by} went on without {names_text(event.checks)}: {event.remark}"
        case RolloutEnded():
            return event.state + (f"; {names_text(event.lost)} did not come back" if event.lost else "")
        case _:
            return _host_text(event)


def _host_text(event: Event) -> str:
    match event:
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
        case TrialEnded():
            line = f": “{event.line}”" if event.line else ""
            return f"trial boot ended, {event.end.replace('_', ' ')}{line}"
        case FatalLogged():
            return f"kernel log, {event.signature}: “{event.line}”"
        case SeriousLogged():
            return "; ".join(f"kernel log, {one.signature}: “{one.line}”" for one in event.findings)
        case RunReported() if event.state is not RunState.OK:
            return f"run {event.index} {event.state}: {event.error}".rstrip(": ")
        case CommandReported() if event.state is not CommandState.COMPLETED:
            return f"measurement {event.state}: {event.detail}".rstrip(": ")
        case _:
            return ""
