"""A rollout's recorded judgement beside what the gate says of the same log today, or under other claims."""

from collections.abc import Sequence

from controller.domain.record.verdicts import WaveJudged
from controller.views.gate.replayed import ReplayedWaveView, ReplayView
from controller.views.rollouts.status import verdict_view
from controller.words import count_text

__all__ = ["ReplayView", "ReplayedWaveView", "replay_view"]


def replay_view(name: str, changes: Sequence[str], waves: Sequence[tuple[WaveJudged, WaveJudged]]) -> ReplayView:
    """Return the view of (recorded, replayed) judgements, in the order in which they were made."""
    views = tuple(
        ReplayedWaveView(
            number=recorded.wave + 1,
            recorded_decision=recorded.decision,
            recorded_sentence=recorded.sentence,
            decision=replayed.decision,
            sentence=replayed.sentence,
            verdicts=tuple(verdict_view(cell) for cell in replayed.cells),
            same=recorded == replayed,
        )
        for recorded, replayed in waves
    )
    return ReplayView(name=name, changes=tuple(changes), waves=views, sentence=_sentence(name, changes, views))


def _sentence(name: str, changes: Sequence[str], waves: Sequence[ReplayedWaveView]) -> str:
    if not waves:
        return f"No wave of {name} has been judged yet."
    judged = count_text(len(waves), "judgement")
    turned = next((wave for wave in waves if wave.decision != wave.recorded_decision), None)
    if turned is not None:
        after = " What came after it would not have happened as it did." if turned is not waves[-1] else ""
        would = f"{turned.decision} instead of {turned.recorded_decision}"
        return f"At wave {turned.number} the gate would say {would}.{after}"
    if all(wave.same for wave in waves):
        return f"{judged} replayed: every word and number is as it was recorded."
    told = "under these changes" if changes else "by the gate as it is today"
    return f"{judged} replayed {told}: every decision stays, with other numbers or words."
