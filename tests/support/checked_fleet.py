"""A simulated fleet whose rollout has checks, with answers made beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from simulated_fleet import SPEC, UID, Simulation

from controller.domain.deciding.checks import decide_report, learnt
from controller.domain.fleet.decided import Denial
from controller.domain.judging.condemned import condemned
from controller.domain.record.checks import Outcome
from controller.domain.record.control import CheckReported, ChecksAsked
from controller.domain.record.effects import RunCheck
from controller.domain.record.events import Event, RevertStarted
from controller.domain.record.names import Key

QUERY = "  - {name: api-errors, prometheus: {url: 'http://prom', query: errors, max: 0.01}, deadline: 300s}\n"
MANUAL = "  - {name: dba, manual: true, deadline: 1000s}\n"
ANSWER_S = 10.0


def with_checks(checks: str) -> str:
    """Return the simulated rollout with these checks, each a line that begins with two spaces and a dash."""
    return f"{SPEC}  checks:\n{checks}"


@dataclass(slots=True)
class Answers:
    """What a check answers, one try after the other, the last again and again; nothing when there is none."""

    given: list[CheckReported] = field(default_factory=list)

    def next(self) -> CheckReported | None:
        """Return the answer of the next try."""
        return (self.given.pop(0) if len(self.given) > 1 else self.given[0]) if self.given else None


def answer(outcome: Outcome, detail: str = "", value: float | None = None) -> CheckReported:
    """Return an answer to whatever is asked."""
    return CheckReported(at=0.0, wave=0, number=0, check="", outcome=outcome, detail=detail, value=value)


PASS = answer(Outcome.PASS, "0.002, at most 0.01", 0.002)
FAIL = answer(Outcome.FAIL, "0.31, must be at most 0.01", 0.31)
WAIT = answer(Outcome.WAIT, "the queue is long")
ERROR = answer(Outcome.ERROR, "http://prom cannot be reached")


class CheckedFleet(Simulation):
    """Tries every check as the controller's services do, at the check's own pace."""

    def __init__(
        self,
        checks: str,
        answers: dict[str, Sequence[CheckReported]] | None = None,
        *,
        waves: list[list[str]] | None = None,
        **named: Any,
    ) -> None:
        """Begin with two waves; `answers` are by check."""
        self.answers = {name: Answers(list(given)) for name, given in (answers or {}).items()}
        super().__init__(waves or [["a"], ["b"]], spec=with_checks(checks), **named)

    def record(self, key: Key, event: Event) -> None:
        """Fold an event, and let the checks that it asks be answered."""
        super().record(key, event)
        if isinstance(event, ChecksAsked):
            for name in (check.name for check in event.checks):
                self._later(RunCheck(command_id=f"{UID}//{name}", wave=event.wave, number=event.number, check=name))

    def _later(self, effect: RunCheck) -> None:
        answers = self.answers.get(effect.check)
        if answers is None:
            return

        def act() -> None:
            given = answers.next()
            if given is None:
                return
            report = replace(given, at=self.now, wave=effect.wave, number=effect.number, check=effect.check)
            for event in learnt(self.rollout, effect, report):
                self.record(Key(UID), event)
            asking = self.rollout.askings[-1]
            result = asking.result(effect.check)
            if (asking.wave, asking.number) == (effect.wave, effect.number) and result is not None and result.open:
                self._later(effect)

        self.later(ANSWER_S, act)

    def condemnations(self) -> list[tuple[Denial, ...]]:
        """Return what follows for the kernel from every revert."""
        attempts = self.world.attempts[UID]
        return [condemned(self.rollout, attempts, event) for _, event in self.log if isinstance(event, RevertStarted)]

    def report(self, check: str, *, passed: bool, by: str = "ada", remark: str = "") -> None:
        """A person reports."""
        event = decide_report(self.rollout, check, passed=passed, by=by, remark=remark, now=self.now)
        self.record(Key(UID), event)
