"""What is known of the checks of a wave: when they were asked, and what each has answered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from controller.domain.record.checks import MOST_ERRORS, Outcome
from controller.domain.record.control import CheckReported, ChecksAsked, ChecksOverridden


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one check has answered."""

    check: str
    deadline: float
    outcome: Outcome = Outcome.WAIT
    detail: str = ""
    value: float | None = None
    # The person who reported; empty when a program did.
    by: str = ""
    # None until something was reported.
    at: float | None = None
    # One after the other, until now.
    errors: int = 0

    @property
    def inconclusive(self) -> bool:
        """Whether there were so many errors that it is not asked any more."""
        return self.outcome is Outcome.ERROR and self.errors >= MOST_ERRORS

    @property
    def open(self) -> bool:
        """Whether an answer may still come."""
        return self.outcome in (Outcome.WAIT, Outcome.ERROR) and not self.inconclusive


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One time that all checks were asked about a wave."""

    wave: int
    # How often the wave's checks were asked, this time included.
    number: int
    at: float
    # In the order of the rollout file.
    results: tuple[Result, ...]
    # Whether a resume has made it void: the wave is asked about again.
    dismissed: bool = False
    # Who went on in spite of it.
    overridden: ChecksOverridden | None = None

    def result(self, check: str) -> Result | None:
        """Return the result of a check by name; None when it was not asked."""
        return next((one for one in self.results if one.check == check), None)


def asking_of(askings: Sequence[Asking], wave: int) -> Asking | None:
    """Return the newest asking about the wave; None when there was none."""
    return next((one for one in reversed(askings) if one.wave == wave), None)


def asked(askings: Sequence[Asking], event: ChecksAsked) -> tuple[Asking, ...]:
    """Return the askings with a new one; an earlier one about the same wave is in the log only."""
    results = tuple(Result(check=one.name, deadline=one.deadline) for one in event.checks)
    new = Asking(wave=event.wave, number=event.number, at=event.at, results=results)
    return (*(one for one in askings if one.wave != event.wave), new)


def reported(askings: Sequence[Asking], event: CheckReported) -> tuple[Asking, ...]:
    """Return the askings after an answer. One to an earlier asking, or after the last word, changes nothing."""
    return tuple(
        replace(one, results=tuple(_after(result, event) for result in one.results))
        if (one.wave, one.number) == (event.wave, event.number)
        else one
        for one in askings
    )


def _after(result: Result, event: CheckReported) -> Result:
    if result.check != event.check or not result.open:
        return result
    return replace(
        result,
        outcome=event.outcome,
        detail=event.detail,
        value=event.value,
        by=event.by,
        at=event.at,
        errors=result.errors + 1 if event.outcome is Outcome.ERROR else 0,
    )


def dismissed(askings: Sequence[Asking], wave: int) -> tuple[Asking, ...]:
    """Return the askings after a resume: those about the open wave are void."""
    return tuple(replace(one, dismissed=True) if one.wave == wave else one for one in askings)


def overridden(askings: Sequence[Asking], event: ChecksOverridden) -> tuple[Asking, ...]:
    """Return the askings after somebody went on in spite of one."""
    return tuple(replace(one, overridden=event) if one.wave == event.wave else one for one in askings)
