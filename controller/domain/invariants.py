"""What must hold of every rollout whatever happens, checked event by event against the log alone.

Nothing here asks the rules that decide: it counts for itself, so that a rule that is wrong is found. The simulator
checks every event of every run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from controller.domain.attempt import Attempt
from controller.domain.events import (
    AttemptEvent,
    HostsAdmitted,
    Moved,
    RolloutCompleted,
    RolloutEnded,
    RolloutEvent,
    RolloutPaused,
    RolloutPromoted,
    RunState,
    WaveJudged,
    WaveOpened,
)
from controller.domain.journey import HOLDS_SLOT, IN_FLIGHT, Side, Step, Trigger
from controller.domain.rollout import Rollout, State

# Steps that are over as soon as they begin.
_INSTANT = frozenset({Step.DRAIN, Step.UNCORDON})
_PASSED = "promote"


class Rule(StrEnum):
    """What must hold."""

    BUDGET = "the disruption budget is never exceeded"
    TURN = "no host is touched before its turn"
    KERNEL = "no host runs a kernel that is not listed for it"
    EVIDENCE = "nothing is promoted without a PASS on record"
    MEASURED = "no measurement counts as done before its runs are in"
    BAKE = "no host is done before its soak time, or unheard"
    CONDEMNED = "a condemned kernel goes no further"
    INTENT = "no reboot without a committed intent, and none twice"
    DEADLINE = "every wait has a deadline, and it is kept"
    RETRIES = "no measurement is repeated for ever"
    FAILURE = "no failure is forgotten"
    ACKNOWLEDGED = "every result that is acknowledged is in the log"
    EPOCH = "nobody but the newest controller writes"
    REASON = "whatever stops says why"
    ENDED = "an ended rollout leaves every host where it says"
    REPLAY = "the log alone says what memory says"
    LIVENESS = "every rollout ends, or is paused with one stated reason"
    SERVED = "no controller dies of what it decides"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A rule that did not hold, and how that showed."""

    rule: Rule
    sentence: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.sentence}"


class Watch:
    """What one rollout's log has shown so far, counted without the engine's own tally."""

    def __init__(self) -> None:
        self.slots = 0
        # Wave -> hosts of it that have started.
        self.started: dict[int, int] = {}
        # Hosts whose failure condemns the kernel.
        self.condemned: set[str] = set()

    def attempt(self, rollout: Rollout, before: Attempt, after: Attempt, event: AttemptEvent) -> Iterator[Breach]:
        """Yield what one event of one host breaks."""
        self.slots += (after.step in HOLDS_SLOT) - (before.step in HOLDS_SLOT)
        if after.condemned:
            self.condemned.add(after.host)
        else:
            self.condemned.discard(after.host)
        if before.failure is not None and after.failure is None:
            yield Breach(rule=Rule.FAILURE, sentence=f"{after.host}: {before.failure.sentence}")
        if isinstance(event, Moved):
            yield from self._moved(rollout, before, after, event)

    def _moved(self, rollout: Rollout, before: Attempt, after: Attempt, event: Moved) -> Iterator[Breach]:
        if event.trigger is Trigger.START:
            self.started[after.wave] = self.started.get(after.wave, 0) + 1
            yield from self._may_start(rollout, after)
        if after.step in IN_FLIGHT - _INSTANT and after.deadline is None:
            yield Breach(rule=Rule.DEADLINE, sentence=f"{after.host} waits in {after.step} without one")
        if event.trigger in (Trigger.MEASURED, Trigger.NEXT_LEG, Trigger.NEXT_TASK):
            yield from _measured(rollout, before)
        if event.trigger is Trigger.BAKED:
            yield from _baked(rollout, before, event)
        policy = rollout.policy
        if after.tries > max(policy.infrastructure_retries, policy.died_retries):
            yield Breach(rule=Rule.RETRIES, sentence=f"{after.host} is measured for the {after.tries + 1}. time")

    def _may_start(self, rollout: Rollout, attempt: Attempt) -> Iterator[Breach]:
        in_turn = (attempt.wave, attempt.position) < (rollout.wave, rollout.admitted)
        if rollout.state is not State.RUNNING or not in_turn:
            where = f"wave {rollout.wave + 1}, {rollout.admitted} admitted, {rollout.state}"
            yield Breach(rule=Rule.TURN, sentence=f"{attempt.host} of wave {attempt.wave + 1} starts in {where}")
        if self.slots > rollout.policy.max_in_flight:
            text = f"{self.slots} hosts of {rollout.policy.max_in_flight} allowed when {attempt.host} starts"
            yield Breach(rule=Rule.BUDGET, sentence=text)

    def rollout(
        self, before: Rollout, after: Rollout, event: RolloutEvent, attempts: Mapping[str, Attempt]
    ) -> Iterator[Breach]:
        """Yield what one event of the rollout itself breaks."""
        match event:
            case HostsAdmitted():
                yield from self._admitted(after)
            case WaveOpened():
                yield from self._passed(before, f"wave {event.wave + 1} is opened")
                yield from _all_done(before, before.wave, attempts)
            case RolloutPromoted() | RolloutCompleted():
                yield from self._passed(before, "it is promoted")
                yield from _all_done(before, before.wave, attempts)
                if before.wave + 1 < len(before.waves):
                    text = f"it is promoted after wave {before.wave + 1} of {len(before.waves)}"
                    yield Breach(rule=Rule.EVIDENCE, sentence=text)
            case RolloutPaused():
                if not event.reason.strip():
                    yield Breach(rule=Rule.REASON, sentence="paused without one")
            case RolloutEnded():
                yield from _brought_back(after, attempts)
            case _:
                pass
        if after.ended and not after.reason.strip():
            yield Breach(rule=Rule.REASON, sentence=f"{after.state} without one")

    def _admitted(self, rollout: Rollout) -> Iterator[Breach]:
        about_to_start = rollout.admitted - self.started.get(rollout.wave, 0)
        if self.slots + about_to_start > rollout.policy.max_in_flight:
            held = f"{self.slots} hosts hold a slot and {about_to_start} are about to"
            text = f"{held}, {rollout.policy.max_in_flight} allowed"
            yield Breach(rule=Rule.BUDGET, sentence=text)
        if self.condemned:
            text = f"hosts are admitted although {', '.join(sorted(self.condemned)[:3])} condemned the kernel"
            yield Breach(rule=Rule.CONDEMNED, sentence=text)

    def _passed(self, rollout: Rollout, what: str) -> Iterator[Breach]:
        newest: WaveJudged | None = rollout.judged[-1] if rollout.judged else None
        if newest is None or newest.wave != rollout.wave or newest.decision != _PASSED:
            found = "no judgement" if newest is None else f"“{newest.decision}” for wave {newest.wave + 1}"
            yield Breach(rule=Rule.EVIDENCE, sentence=f"{what} on {found}")
        if self.condemned:
            text = f"{what} although {', '.join(sorted(self.condemned)[:3])} condemned the kernel"
            yield Breach(rule=Rule.CONDEMNED, sentence=text)


def _measured(rollout: Rollout, attempt: Attempt) -> Iterator[Breach]:
    """Yield when a measurement is taken for complete that is not."""
    task = rollout.policy.tasks[attempt.task]
    good = sum(
        run.command_id == attempt.command_id and run.state is RunState.OK and not run.warmup for run in attempt.runs
    )
    if good < task.repetitions:
        text = f"{attempt.host} goes on from {attempt.step} with {good} of {task.repetitions} runs of {task.workload}"
        yield Breach(rule=Rule.MEASURED, sentence=text)


def _baked(rollout: Rollout, before: Attempt, event: Moved) -> Iterator[Breach]:
    soaked_s, due_s = event.at - before.since, rollout.policy.bake_s[before.wave]
    if soaked_s < due_s:
        yield Breach(rule=Rule.BAKE, sentence=f"{before.host} is done after {soaked_s:.0f} s of {due_s:.0f} s")
    if before.silent_since is not None:
        yield Breach(rule=Rule.BAKE, sentence=f"{before.host} is done while it is not heard")


def _all_done(rollout: Rollout, last_wave: int, attempts: Mapping[str, Attempt]) -> Iterator[Breach]:
    """Yield hosts that a wave is called passed without."""
    tasks = rollout.policy.tasks
    for wave in rollout.waves[: last_wave + 1]:
        for planned in wave:
            attempt = attempts[planned.host]
            if attempt.step is not Step.DONE or attempt.failure is not None:
                yield Breach(rule=Rule.EVIDENCE, sentence=f"{attempt.host} is {attempt.step} in a wave that passed")
            if attempt.silent_since is not None:
                yield Breach(rule=Rule.EVIDENCE, sentence=f"{attempt.host} is not heard in a wave that passed")
            needed = sum(task.repetitions for task in tasks)
            for leg, side in enumerate(attempt.legs):
                good = sum(run.state is RunState.OK for run in attempt.runs_of(leg))
                if good < needed:
                    kernel = "new" if side is Side.NEW else "old"
                    text = f"{attempt.host} has {good} of {needed} runs on the {kernel} kernel in a wave that passed"
                    yield Breach(rule=Rule.EVIDENCE, sentence=text)


def _brought_back(rollout: Rollout, attempts: Mapping[str, Attempt]) -> Iterator[Breach]:
    """Yield hosts that an abort or revert has left behind."""
    reverting = rollout.state is State.REVERTED or rollout.revert_asked_at is not None
    for attempt in attempts.values():
        if attempt.in_flight or attempt.step is Step.PENDING:
            yield Breach(rule=Rule.ENDED, sentence=f"{attempt.host} is {attempt.step} after {rollout.state}")
        if reverting and attempt.step is Step.DONE:
            yield Breach(rule=Rule.ENDED, sentence=f"{attempt.host} stays done after {rollout.state}")
        if (attempt.step is Step.LOST) != (attempt.host in rollout.lost):
            yield Breach(rule=Rule.ENDED, sentence=f"{attempt.host} is {attempt.step}; listed lost: {rollout.lost}")
