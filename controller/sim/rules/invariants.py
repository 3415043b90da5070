"""What must hold of every rollout whatever happens, checked event by event against the log alone.

Nothing here asks the rules that decide: it counts for itself, so that a rule that is wrong is found. The simulator
checks every event of every run.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from controller.domain.fleet.decided import Fleet
from controller.domain.record.actions.power_cycles import PowerCycleBegun
from controller.domain.record.checks import Outcome
from controller.domain.record.control import (
    ApprovalGiven,
    CheckReported,
    ChecksAsked,
    ChecksOverridden,
    ControlEvent,
    HostsRecalled,
    RolloutResumed,
)
from controller.domain.record.events import (
    AbortStarted,
    AttemptEvent,
    DecidedEvent,
    HostsAdmitted,
    Moved,
    RevertStarted,
    RolloutCompleted,
    RolloutEnded,
    RolloutEvent,
    RolloutPaused,
    RolloutPlanned,
    RolloutPromoted,
    RolloutStarted,
    RunState,
    WaveOpened,
)
from controller.domain.record.journey import HOLDS_SLOT, IN_FLIGHT, MEASURING, Side, Step, Trigger
from controller.domain.record.verdicts import WaveJudged
from controller.domain.record.windows import open_until
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout, State

# Steps that are over as soon as they begin, where nobody has to be asked.
_INSTANT = frozenset({Step.DRAIN, Step.UNCORDON})
_PASSED = "promote"
_FLEET = "fleet"


class Rule(StrEnum):
    """What must hold."""

    BUDGET = "the disruption budget is never exceeded"
    TURN = "no host is touched before its turn"
    WINDOW = "no host is taken down in a freeze or outside a window"
    KERNEL = "no host runs a kernel that is not listed for it"
    EVIDENCE = "nothing is promoted without a PASS on record"
    MEASURED = "no measurement counts as done before its runs are in"
    BAKE = "no host is done before its soak time, or unheard"
    CONDEMNED = "a condemned kernel goes no further"
    INTENT = "no reboot without a committed intent, and none twice"
    DEADLINE = "every wait has a deadline, and it is kept"
    SERVICE = "no node is rebooted while it serves, and none stays out of service"
    RETRIES = "no measurement is repeated for ever"
    POWER = "no host's power is cut twice in an attempt, unasked, or while the host is heard"
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
    """What one rollout's log has shown so far, counted without the engine's own tally, turns and books."""

    def __init__(self, places: Mapping[str, Mapping[str, str]], fleet: Fleet) -> None:
        # What operators have decided about the fleet; whoever folds the log keeps it.
        self.fleet = fleet
        # Hosts whose journey is over for now.
        self.ended = 0
        # Host -> its labels, for the places that a budget counts by.
        self._places = places
        # Label -> its value -> hosts that have it; counted once, because places do not change.
        self._known: dict[str, Counter[str | None]] = {}
        # Hosts that hold a slot, those that may start, those that may return and have not moved.
        self._moving: set[str] = set()
        self._lost: set[str] = set()
        self._admitted: set[str] = set()
        self._recalled: set[str] = set()
        # Host -> its stratum, of hosts whose failure condemns the kernel.
        self._condemned: dict[str, str] = {}
        self._power_cut: set[str] = set()
        # Wave -> who approved it.
        self._approvals: dict[int, set[str]] = {}
        # Of the newest asking about the open wave: its number and the checks that passed; None: none counts.
        self._asked: tuple[int, set[str]] | None = None
        self._checks_overridden = False

    # --- one host ---

    def attempt(self, rollout: Rollout, before: Attempt, after: Attempt, event: AttemptEvent) -> Iterator[Breach]:
        """Yield what one event of one host breaks."""
        host = after.host
        if after.condemned:
            self._condemned[host] = after.stratum
        else:
            self._condemned.pop(host, None)
        if before.failure is not None and after.failure is None and not _begins_again(rollout, before, event):
            yield Breach(rule=Rule.FAILURE, sentence=f"{host}: {before.failure.sentence}")
        if isinstance(event, PowerCycleBegun):
            yield from self._cut(rollout, before)
        if isinstance(event, Moved):
            yield from self._moved(rollout, before, after, event)

    def _moved(self, rollout: Rollout, before: Attempt, after: Attempt, event: Moved) -> Iterator[Breach]:
        host = after.host
        if event.trigger is Trigger.START:
            yield from self._may_start(rollout, after)
        if before.step is not after.step:
            self._admitted.discard(host)
            self._recalled.discard(host)
        self.ended += after.ended - before.ended
        if event.trigger in (Trigger.CLEARED, Trigger.DRAINED):
            yield from self._open(rollout, event.at, f"{host} is taken down")
        _keep(self._moving, host, present=after.step in HOLDS_SLOT and after.step is not Step.LOST)
        _keep(self._lost, host, present=after.step is Step.LOST)
        waits = after.step in IN_FLIGHT - _INSTANT - {Step.HELD} or (after.step in _INSTANT and after.command_id)
        if waits and after.deadline is None:
            yield Breach(rule=Rule.DEADLINE, sentence=f"{host} waits in {after.step} without one")
        if event.trigger in (Trigger.MEASURED, Trigger.NEXT_LEG, Trigger.NEXT_TASK):
            yield from _measured(rollout, before)
        if event.trigger is Trigger.BAKED:
            yield from _baked(rollout, before, event)
        policy = rollout.policy
        # Elsewhere it numbers ways back, which an operator may ask for as often as he likes.
        measuring = after.step in MEASURING
        if measuring and after.tries > max(policy.infrastructure_retries, policy.died_retries):
            yield Breach(rule=Rule.RETRIES, sentence=f"{host} is measured for the {after.tries + 1}. time")

    def _cut(self, rollout: Rollout, before: Attempt) -> Iterator[Breach]:
        host = before.host
        if host in self._power_cut:
            yield Breach(rule=Rule.POWER, sentence=f"that of {host} is cut a second time")
        self._power_cut.add(host)
        if not rollout.policy.power_cycles:
            yield Breach(rule=Rule.POWER, sentence=f"that of {host} is cut, which nobody asked for")
        if before.silent_since is None or before.step not in (Step.FALLBACK, Step.REVERTING):
            yield Breach(rule=Rule.POWER, sentence=f"that of {host} is cut in {before.step}, heard or not lost yet")

    def _may_start(self, rollout: Rollout, attempt: Attempt) -> Iterator[Breach]:
        host = attempt.host
        open_now = rollout.state is State.RUNNING and attempt.wave <= rollout.wave
        if host not in self._admitted or not open_now:
            yield Breach(rule=Rule.TURN, sentence=f"{host} of wave {attempt.wave + 1} starts in {_where(rollout)}")
        if attempt.stratum in rollout.held or host in rollout.left_out or host in self.fleet.quarantined:
            yield Breach(rule=Rule.TURN, sentence=f"{host} starts although it, or its stratum, was left out")

    def _open(self, rollout: Rollout, at: float, what: str) -> Iterator[Breach]:
        """Yield when something begins that takes hosts down while none may be."""
        if self.fleet.frozen(at) is not None:
            yield Breach(rule=Rule.WINDOW, sentence=f"{what} while the fleet is frozen")
        if open_until(rollout.policy.windows, at) is None:
            yield Breach(rule=Rule.WINDOW, sentence=f"{what} while no window is open")

    # --- the rollout ---

    def rollout(
        self, before: Rollout, after: Rollout, event: RolloutEvent, attempts: Mapping[str, Attempt]
    ) -> Iterator[Breach]:
        """Yield what one event of the rollout itself breaks."""
        if isinstance(event, ControlEvent):
            yield from self._controlled(after, event)
        else:
            yield from self._decided(before, after, event, attempts)
        if after.ended and not after.reason.strip():
            yield Breach(rule=Rule.REASON, sentence=f"{after.state} without one")

    def _decided(
        self,
        before: Rollout,
        after: Rollout,
        event: DecidedEvent,
        attempts: Mapping[str, Attempt],
    ) -> Iterator[Breach]:
        match event:
            case HostsAdmitted(hosts=hosts, at=at):
                yield from self._open(after, at, "hosts are admitted")
                yield from self._admit(after, hosts, attempts)
            case WaveOpened():
                yield from self._passed(before, f"wave {event.wave + 1} is opened", attempts)
            case RolloutPromoted() | RolloutCompleted():
                yield from self._passed(before, "it is promoted", attempts)
                if before.wave + 1 < len(before.waves):
                    text = f"it is promoted after wave {before.wave + 1} of {len(before.waves)}"
                    yield Breach(rule=Rule.EVIDENCE, sentence=text)
            case RolloutPaused():
                if not event.reason.strip():
                    yield Breach(rule=Rule.REASON, sentence="paused without one")
            case RolloutEnded():
                yield from _brought_back(after, attempts)
            case RevertStarted() | AbortStarted() | RolloutPlanned() | RolloutStarted() | WaveJudged():
                pass
            case _:
                assert_never(event)

    def _controlled(self, rollout: Rollout, event: ControlEvent) -> Iterator[Breach]:
        """Keep what later rules ask for; what follows from the others shows in the hosts' own events."""
        if isinstance(event, HostsRecalled):
            self._recalled |= set(event.hosts)
            if not rollout.emergency:
                yield from self._within_budget(rollout, self._recalled, lost_count=False)
        elif isinstance(event, ApprovalGiven):
            self._approvals.setdefault(event.wave, set()).add(event.by)
        elif isinstance(event, ChecksAsked):
            self._asked, self._checks_overridden = (event.number, set()), False
        elif isinstance(event, CheckReported):
            if self._asked is not None and event.number == self._asked[0] and event.outcome is Outcome.PASS:
                self._asked[1].add(event.check)
        elif isinstance(event, ChecksOverridden):
            self._checks_overridden = True
        elif isinstance(event, RolloutResumed):
            # What was answered before a pause is asked again.
            self._asked = None

    def _admit(self, rollout: Rollout, hosts: Sequence[str], attempts: Mapping[str, Attempt]) -> Iterator[Breach]:
        self._admitted |= set(hosts)
        early = [host for host in hosts if attempts[host].step is not Step.PENDING]
        if early or rollout.state is not State.RUNNING:
            yield Breach(rule=Rule.TURN, sentence=f"{', '.join(early[:3] or hosts[:3])} admitted in {_where(rollout)}")
        yield from self._within_budget(rollout, self._admitted, lost_count=True)
        yield from self._still_good(rollout, "hosts are admitted")
        needed = rollout.policy.waves[rollout.wave].approvals if rollout.policy.waves else 0
        given = len(self._approvals.get(rollout.wave, ()))
        if given < needed and not rollout.rest_opened:
            text = f"wave {rollout.wave + 1} begins with {given} of {needed} approvals"
            yield Breach(rule=Rule.EVIDENCE, sentence=text)

    def _within_budget(self, rollout: Rollout, called: set[str], *, lost_count: bool) -> Iterator[Breach]:
        """Yield bounds that are exceeded by hosts that move, or are about to, when nobody was forced."""
        taken = self._moving | called | (self._lost if lost_count else set())
        limit = rollout.policy.max_in_flight
        if limit is not None and len(taken) > limit:
            yield Breach(rule=Rule.BUDGET, sentence=f"{len(taken)} hosts move or are about to, {limit} may")
        for bound in rollout.policy.max_unavailable:
            counted = Counter(self._place(host, bound.key) for host in taken)
            if bound.key not in self._known:
                self._known[bound.key] = Counter(self._place(host, bound.key) for host in self._places)
            known = self._known[bound.key]
            for place in {self._place(host, bound.key) for host in called} - {None}:
                if counted[place] > bound.allowed(known[place]):
                    text = f"{counted[place]} hosts move or are about to where {bound.key} is {place or 'one'}"
                    yield Breach(rule=Rule.BUDGET, sentence=f"{text}, {bound.allowed(known[place])} may")

    def _place(self, host: str, key: str) -> str | None:
        return "" if key == _FLEET else self._places.get(host, {}).get(key)

    def _still_good(self, rollout: Rollout, what: str) -> Iterator[Breach]:
        against = sorted(host for host, stratum in self._condemned.items() if stratum not in rollout.held)
        if against:
            text = f"{what} although {', '.join(against[:3])} condemned the kernel"
            yield Breach(rule=Rule.CONDEMNED, sentence=text)

    def _passed(self, rollout: Rollout, what: str, attempts: Mapping[str, Attempt]) -> Iterator[Breach]:
        """Yield why the open wave may not be left."""
        newest = rollout.judged[-1] if rollout.judged else None
        overridden = any(one.wave == rollout.wave for one in rollout.overridden)
        if not overridden and (newest is None or (newest.wave, newest.decision) != (rollout.wave, _PASSED)):
            found = "no judgement" if newest is None else f"“{newest.decision}” for wave {newest.wave + 1}"
            yield Breach(rule=Rule.EVIDENCE, sentence=f"{what} on {found}")
        yield from self._answered(rollout, what)
        yield from self._still_good(rollout, what)
        yield from _all_measured(rollout, attempts, overridden=overridden)

    def _answered(self, rollout: Rollout, what: str) -> Iterator[Breach]:
        """Yield checks of the open wave that have not passed, and that nobody went past."""
        needed = {check.name for check in rollout.policy.checks if not check.dry_run}
        open_checks = sorted(needed - (self._asked[1] if self._asked is not None else set()))
        if open_checks and not self._checks_overridden:
            yield Breach(rule=Rule.EVIDENCE, sentence=f"{what} without a pass of {', '.join(open_checks)}")
        self._asked, self._checks_overridden = None, False


def _begins_again(rollout: Rollout, before: Attempt, event: AttemptEvent) -> bool:
    """Whether an operator, on record, has a host without fault begin again: then it begins with a clean sheet."""
    asked = rollout.retries.get(before.host, 0) > before.round
    return isinstance(event, Moved) and event.trigger is Trigger.AGAIN and asked and not before.condemned


def _keep(members: set[str], host: str, *, present: bool) -> None:
    if present:
        members.add(host)
    else:
        members.discard(host)


def _where(rollout: Rollout) -> str:
    return f"wave {rollout.wave + 1} of a rollout that is {rollout.state}"


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


def _all_measured(rollout: Rollout, attempts: Mapping[str, Attempt], *, overridden: bool) -> Iterator[Breach]:
    """Yield hosts that a wave is called passed in spite of."""
    reached = [attempts[planned.host] for wave in rollout.waves[: rollout.wave + 1] for planned in wave]
    needed = sum(task.repetitions for task in rollout.policy.tasks)
    for attempt in reached:
        if attempt.stratum in rollout.held or attempt.step in (Step.SKIPPED, Step.REVERTED):
            # Their rig failed, an operator left them out, or the kernel failed in their stratum, which goes back.
            if not attempt.ended or (attempt.step is Step.DONE and attempt.changed_kernel):
                text = f"{attempt.host} is {attempt.step} in a stratum that goes back, in a wave that passed"
                yield Breach(rule=Rule.EVIDENCE, sentence=text)
            continue
        if attempt.step is not Step.DONE or attempt.failure is not None or attempt.silent_since is not None:
            heard = "heard" if attempt.silent_since is None else "not heard"
            text = f"{attempt.host} is {attempt.step} and {heard} in a wave that passed"
            yield Breach(rule=Rule.EVIDENCE, sentence=text)
        for leg, side in enumerate(attempt.legs):
            good = sum(run.state is RunState.OK for run in attempt.runs_of(leg))
            if good < needed:
                kernel = "new" if side is Side.NEW else "old"
                text = f"{attempt.host} has {good} of {needed} runs on the {kernel} kernel in a wave that passed"
                yield Breach(rule=Rule.EVIDENCE, sentence=text)
    measured = {attempt.stratum for attempt in reached if attempt.step is Step.DONE}
    for stratum in sorted({attempt.stratum for attempt in reached} - measured - set(rollout.held)):
        if not overridden:
            yield Breach(rule=Rule.EVIDENCE, sentence=f"no host of {stratum} was measured in a wave that passed")


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
