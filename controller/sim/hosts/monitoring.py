"""Whoever is asked by a rollout's checks: programs that answer, refuse, say nothing sensible or nothing at all."""

import asyncio
from collections import Counter
from typing import Final

from controller.domain.errors import Temporary
from controller.domain.record.checks import Answer, Check, Outcome, Question
from controller.sim.faults.document import Monitoring
from controller.sim.universe import Universe

_LATENCY_S: Final = 0.2
# Longer than anybody waits for one answer.
_SILENCE_S: Final = 3600.0
# How long a person takes.
_PERSON_S: Final = 300.0


class SimulatedMonitoring:
    """See Checker. Without faults every question is answered with a pass."""

    def __init__(self, universe: Universe, faults: Monitoring) -> None:
        self._universe = universe
        self._faults = faults
        # Question -> how often it was asked, by whichever controller.
        self._asked: Counter[str] = Counter()
        # Questions that were answered with a pass: nothing else may be on record as one.
        self.passed: set[str] = set()

    async def ask(self, check: Check, question: Question) -> Answer:
        """See Checker."""
        self._asked[question.id] += 1
        drawn = (question.id, self._asked[question.id])
        await asyncio.sleep(self._universe.jitter(_LATENCY_S, "check", *drawn))
        found = self.drawn(*drawn)
        if found == "silent":
            await asyncio.sleep(_SILENCE_S)
        if found == "errors":
            raise Temporary(f"{check.url} answers with what is no answer")
        if not found:
            self.passed.add(question.id)
        return Answer(outcome={"fails": Outcome.FAIL, "waits": Outcome.WAIT}.get(found, Outcome.PASS), detail=found)

    def drawn(self, *question: object) -> str:
        """Return the fault that an answer has; empty when it is a pass."""
        chance = self._universe.chance("monitoring", *question)
        for name in ("silent", "errors", "fails", "waits"):
            fault = getattr(self._faults, name)
            chance -= 0.0 if fault is None else fault.share
            if chance < 0:
                return name
        return ""

    def person_s(self, *question: object) -> float:
        """Return after how long a person reports a manual check."""
        return self._universe.jitter(_PERSON_S, "person", *question)
