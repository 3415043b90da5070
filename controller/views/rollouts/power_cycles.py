"""Hosts whose power was cut and given again, in words."""

from collections.abc import Iterable, Iterator
from typing import assert_never

from controller.domain.record.actions.power_cycles import CycleOutcome, PowerCycleBegun, PowerSeen
from controller.domain.record.events import FailureKind
from controller.domain.state.attempt import Attempt
from controller.domain.state.power_cycles import was_cut


def power_begun_text(event: PowerCycleBegun) -> str:
    """Return that the order is given, with what was said before it."""
    seen = event.seen
    state = {True: "on", False: "off", None: "not told"}[seen.on]
    says = f"; it says: {' / '.join(seen.says)}" if seen.says else ""
    return f"{seen.controller} is told to cut its power and to give it again; before, power {state}{says}"


def power_cycled_text(outcome: CycleOutcome | None, detail: str) -> str:
    """Return how it ended; `None`: nobody waited for the end."""
    match outcome:
        case CycleOutcome.DONE:
            return "its power was cut and given again"
        case CycleOutcome.REFUSED | CycleOutcome.SPARED:
            return f"its power was not cut: {detail}"
        case CycleOutcome.UNKNOWN:
            return f"whether its power was cut is not known: {detail}"
        case None:
            return "its power is to be cut and given again"
        case _:
            assert_never(outcome)


def with_power(sentence: str, attempt: Attempt) -> str:
    """Return a failure's sentence with what became of the host's power; that of a lost host says so by itself."""
    lost = attempt.failure is not None and attempt.failure.kind is FailureKind.LOST
    if attempt.power is None or lost:
        return sentence
    return f"{sentence}; {power_cycled_text(attempt.power.outcome, attempt.power.detail)}"


def power_lines(attempts: Iterable[Attempt]) -> Iterator[str]:
    """Yield what became of each host's last resort, as sentences."""
    for attempt in attempts:
        if attempt.power is not None:
            yield f"{attempt.host}: {power_cycled_text(attempt.power.outcome, attempt.power.detail)}."
            yield from (f"{attempt.host} management controller: {one}" for one in _said(attempt.power.seen))


def _said(seen: PowerSeen | None) -> tuple[str, ...]:
    return () if seen is None else seen.says


def cut_hosts(attempts: Iterable[Attempt]) -> Iterator[str]:
    """Yield the hosts whose power was cut, or may have been."""
    return (attempt.host for attempt in attempts if was_cut(attempt.power))
