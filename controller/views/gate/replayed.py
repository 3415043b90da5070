"""The view of a replay, values only: the command line needs no more, and starts at once."""

from dataclasses import dataclass

from controller.views.models import VerdictView


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedWaveView:
    """One judged wave."""

    # Counts from 1, as people do.
    number: int
    # "promote", "hold" or "revert", and the reason: as it was, and as it would be.
    recorded_decision: str
    recorded_sentence: str
    decision: str
    sentence: str
    # As they would be.
    verdicts: tuple[VerdictView, ...]
    # Whether every word and number is what was recorded.
    same: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayView:
    """A whole replay."""

    name: str
    # What was changed, one sentence each; empty for the plan as it was.
    changes: tuple[str, ...]
    waves: tuple[ReplayedWaveView, ...]
    # What came of it.
    sentence: str
