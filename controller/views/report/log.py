"""A rollout's log as operators read it: what was decided and learnt, and what was done on its hosts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, assert_never

from controller.domain.record.actions.work import WorkKind, WorkLine, WorkTold
from controller.domain.record.events import Event
from controller.domain.record.names import key_of_stream
from controller.domain.state.rollout import Rollout
from controller.views.models import Epoch, LiveProgress, LogLineView, RolloutLogView
from controller.views.report.timeline import timeline
from controller.words import duration_text

# The newest are shown.
MOST_SHOWN: Final = 1000
_WAYS: Final = {"ssh": "by ssh", "agent": "through its agent"}


def rollout_log(
    rollout: Rollout,
    events: Sequence[tuple[str, Event]],
    working: Mapping[str, LiveProgress],
    now: float,
    *,
    host: str = "",
    most: int = MOST_SHOWN,
) -> RolloutLogView:
    """Return the newest lines, of one host alone when one is named; `working` is what is under way on hosts."""
    told = [*_decided(rollout, events), *_worked(rollout, events)]
    # What was told late stands where it happened; of one moment the work comes before what followed from it.
    told.sort(key=lambda line: line.at)
    lines = [line for line in told if not host or line.host == host]
    under_way = tuple(
        LogLineView(at=Epoch(now), offset_s=now - rollout.planned_at, host=name, text=working[name].step)
        for name in sorted(working)
        if not host or name == host
    )
    shown = lines[-max(1, min(most, MOST_SHOWN)) :]
    return RolloutLogView(name=rollout.name, lines=tuple(shown), left_out=len(lines) - len(shown), under_way=under_way)


def _decided(rollout: Rollout, events: Sequence[tuple[str, Event]]) -> Iterator[LogLineView]:
    for moment in timeline(rollout, events):
        yield LogLineView(at=moment.at, offset_s=moment.offset_s, host=moment.host, text=moment.text)


def _worked(rollout: Rollout, events: Sequence[tuple[str, Event]]) -> Iterator[LogLineView]:
    for stream, event in events:
        if isinstance(event, WorkTold):
            for line in event.lines:
                yield LogLineView(
                    at=Epoch(line.at),
                    offset_s=line.at - rollout.planned_at,
                    host=key_of_stream(stream).host,
                    text=_text(line, _WAYS.get(event.way, event.way)),
                )


def _text(line: WorkLine, way: str) -> str:
    took = f" ({duration_text(line.seconds)})" if line.seconds else ""
    why = f": {line.sentence}" if line.sentence else ""
    match line.kind:
        case WorkKind.WAITS:
            return f"{way}, {line.what}{why}"
        case WorkKind.BEGAN:
            return f"{way}, {line.what} begins{why}"
        case WorkKind.RUNNING:
            return f"  {line.what}: still at it{took}"
        case WorkKind.CHANGED | WorkKind.FAILED:
            return f"  {line.what}: {line.kind}{took}{why}"
        case WorkKind.ENDED:
            return f"{way}, {line.what} ends{took}{why}"
        case _:
            assert_never(line.kind)
