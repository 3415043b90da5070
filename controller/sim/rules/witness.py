"""Sees everything that happens in a simulated world and tells what must never happen."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from controller.adapters.delivery.hypervisor.records import BootStarted
from controller.adapters.store.memory import Disk
from controller.domain.delivery import BootCause
from controller.domain.fleet.decided import Fleet, evolve_fleet
from controller.domain.record.effects import Effect, RebootHost, RevertKernel
from controller.domain.record.events import (
    AttemptEvent,
    CommandReported,
    Event,
    RolloutEvent,
    RolloutPlanned,
    RunReported,
)
from controller.domain.record.fleet import FleetEvent
from controller.domain.record.journey import IN_FLIGHT, Step
from controller.domain.record.names import FLEET, key_of_stream, leg_of_command
from controller.domain.state.attempt import Attempt, evolve, planned_attempt
from controller.domain.state.rollout import ENDED_STATES, Rollout, State, evolve_rollout, planned_rollout
from controller.domain.state.tally import MOST_FAILURES, Tally, tallied
from controller.services.agents.kernel_logs import LogReported
from controller.services.records import Commit
from controller.services.state.world import World
from controller.sim.hosts.link import Report
from controller.sim.rules.invariants import Breach, Rule, Watch

# How much later than its deadline a host may be moved: the engine looks at every deadline as it comes.
_SLACK_S = 60.0
# After so many breaches nobody reads further.
MOST_BREACHES = 20


@dataclass(slots=True, kw_only=True)
class Seen:
    """The state that the log describes, folded here a second time."""

    rollouts: dict[str, Rollout] = field(default_factory=dict)
    attempts: dict[str, dict[str, Attempt]] = field(default_factory=dict)
    watches: dict[str, Watch] = field(default_factory=dict)
    fleet: Fleet = field(default_factory=Fleet)


class Witness:
    """Folds the log for itself, compares it with what the machines do, and keeps every breach."""

    def __init__(self, disk: Disk, *, places: Mapping[str, Mapping[str, str]], on_breach: Callable[[], None]) -> None:
        self.disk = disk
        self.seen = Seen()
        self.breaches: list[Breach] = []
        self.events = 0
        # Host -> its labels.
        self._places = places
        self._on_breach = on_breach
        # Command id -> the effect that was committed under it.
        self._intents: dict[str, Effect] = {}
        # Reports that are in the log.
        self._logged: set[str] = set()
        # (host, command id) -> boots it has caused.
        self._caused: dict[tuple[str, str], int] = {}
        # Host, round and leg, as commands name them -> the reboot command.
        self._legs: dict[str, str] = {}
        # What a host still keeps of a report that is acknowledged to it.
        self.spooled: Callable[[str, str], Report | None] = lambda _host, _report_id: None
        # Whether a host is a node that serves now.
        self.serves: Callable[[str], bool] = lambda _host: False
        # Who wants to know of every event.
        self.on_event: Callable[[str, str, Event], None] = lambda _uid, _host, _event: None

    def breach(self, rule: Rule, sentence: str) -> None:
        """Keep a breach that was found outside."""
        self._keep((Breach(rule=rule, sentence=sentence),))

    def _keep(self, found: Iterable[Breach]) -> None:
        for breach in found:
            if len(self.breaches) < MOST_BREACHES:
                self.breaches.append(breach)
            self._on_breach()

    # --- what the log says ---

    def committed(self, commits: Sequence[Commit]) -> None:
        """See what was written."""
        for commit in commits:
            for effect in commit.effects or ():
                self._intended(effect)
            if not commit.events:
                continue
            key = key_of_stream(commit.stream)
            if key == FLEET:
                self.events += len(commit.events)
                for event in commit.events:
                    self.seen.fleet = evolve_fleet(self.seen.fleet, cast(FleetEvent, event))
                for watch in self.seen.watches.values():
                    watch.fleet = self.seen.fleet
                continue
            for event in commit.events:
                self.events += 1
                self._fold(key.uid, key.host, event)
                self.on_event(key.uid, key.host, event)

    def _fold(self, uid: str, host: str, event: Event) -> None:
        """Fold one event. Streams keep the two kinds of event apart, so which it is follows from the stream."""
        seen = self.seen
        if isinstance(event, RolloutPlanned):
            self._planned(uid, event)
        elif host:
            learnt = cast(AttemptEvent, event)
            before = seen.attempts[uid][host]
            after = seen.attempts[uid][host] = evolve(before, learnt)
            if isinstance(event, RunReported | CommandReported):
                self._logged.add(f"{host}/{event.report_id}")
            self._keep(seen.watches[uid].attempt(seen.rollouts[uid], before, after, learnt))
        else:
            decided = cast(RolloutEvent, event)
            rollout = seen.rollouts[uid]
            changed = seen.rollouts[uid] = evolve_rollout(rollout, decided)
            self._keep(seen.watches[uid].rollout(rollout, changed, decided, seen.attempts[uid]))

    def _planned(self, uid: str, event: RolloutPlanned) -> None:
        self.seen.rollouts[uid] = planned_rollout(event)
        self.seen.watches[uid] = Watch(self._places, self.seen.fleet)
        self.seen.attempts[uid] = {
            planned.host: planned_attempt(planned, rollout=event.name, uid=uid, wave=wave, position=position)
            for wave, hosts in enumerate(event.waves)
            for position, planned in enumerate(hosts)
        }

    def _intended(self, effect: Effect) -> None:
        known = self._intents.setdefault(effect.command_id, effect)
        if known != effect:
            self.breach(Rule.INTENT, f"{effect.command_id} names two effects: {known} and {effect}")

    def _is_kept(self, host: str, report: Report | None) -> bool:
        """Whether lines of the present boot's kernel log are kept with the host itself, as between two rollouts."""
        held = any(host in self.seen.attempts[uid] for uid, one in self.seen.rollouts.items() if not one.ended)
        if held or not isinstance(report, LogReported):
            return False
        kept = self.disk.hosts[host]
        found = {*kept.serious.values(), *kept.fatal.values(), *kept.unread.values()}
        return kept.boot_id == report.boot_id and found.issuperset(report.lines)

    # --- what the machines do ---

    def acknowledged(self, host: str, report_id: str) -> None:
        """An agent is told, or was told, that a report is durable."""
        if f"{host}/{report_id}" in self._logged or f"{host}/{report_id}" in self.disk.reports:
            return
        if not self._is_kept(host, self.spooled(host, report_id)):
            self.breach(Rule.ACKNOWLEDGED, f"{host} forgets {report_id}, which is not in the log")

    def booted(self, host: str, record: BootStarted, *, original: str) -> None:
        """A machine has begun to boot a kernel."""
        if record.cause is BootCause.INITIAL:
            return
        self._kernel_is_listed(host, record, original)
        if record.cause in (BootCause.FALLBACK, BootCause.RESTART):
            return
        intent = self._intents.get(record.command_id)
        if not isinstance(intent, RebootHost | RevertKernel) or intent.host != host:
            self.breach(Rule.INTENT, f"{host} is rebooted by {record.command_id}, which nobody has committed")
            return
        times = self._caused[host, record.command_id] = self._caused.get((host, record.command_id), 0) + 1
        if times > 1:
            self.breach(Rule.INTENT, f"{host} is rebooted {times} times by {record.command_id}")
        if isinstance(intent, RebootHost):
            self._once_a_leg(host, record.command_id)
            if self.serves(host):
                self.breach(Rule.SERVICE, f"{host} is rebooted by {record.command_id} while it serves")

    def _once_a_leg(self, host: str, command_id: str) -> None:
        # What stands before the step and its number: the round, where it is not the first, and the leg.
        leg = leg_of_command(command_id)
        first = self._legs.setdefault(leg, command_id)
        if first != command_id:
            self.breach(Rule.INTENT, f"{host} is rebooted for one leg by {command_id} and by {first}")

    def _kernel_is_listed(self, host: str, record: BootStarted, original: str) -> None:
        if record.kernel == original:
            return
        for uid, attempts in self.seen.attempts.items():
            attempt = attempts.get(host)
            if attempt is None or attempt.step is Step.PENDING:
                continue
            listed = self.seen.rollouts[uid].kernels[attempt.architecture].digest
            if record.kernel == listed and any(side == "new" for side in attempt.legs):
                return
        self.breach(Rule.KERNEL, f"{host} boots {record.kernel}")

    # --- what time shows ---

    def overdue(self, uid: str, host: str, now: float) -> bool:
        """Return whether a host waits beyond its deadline."""
        attempt = self.seen.attempts[uid][host]
        waits = attempt.step in IN_FLIGHT and attempt.deadline is not None
        if not waits or attempt.deadline is None:
            return False
        silence_s = self.seen.rollouts[uid].policy.silence_timeout_s if attempt.silent_since is not None else 0.0
        return attempt.deadline + silence_s + _SLACK_S < now

    # --- the end ---

    def remembers(self, world: World) -> None:
        """Compare a controller's memory with what the log says."""
        for name, ours, theirs in (
            ("rollouts", self.seen.rollouts, world.rollouts),
            ("attempts", self.seen.attempts, world.attempts),
        ):
            if ours != theirs:
                self.breach(Rule.REPLAY, f"{name} differ between memory and log")
        for uid, rollout in world.rollouts.items():
            kept, counted = world.tallies[uid], tallied(rollout, world.attempts[uid].values())
            if _counts(kept) != _counts(counted):
                self.breach(Rule.REPLAY, f"the tally says {_counts(kept)}, counted anew it is {_counts(counted)}")

    def is_over(self, uid: str) -> bool:
        """Return whether a rollout has ended."""
        return self.seen.rollouts[uid].state in ENDED_STATES

    def left_behind(self, uid: str, *, machines: Callable[[str], tuple[str, str, str, str]]) -> None:
        """Compare an ended rollout with its machines: (original, default, running, armed) of each."""
        rollout = self.seen.rollouts[uid]
        for host, attempt in self.seen.attempts[uid].items():
            original, default, running, armed = machines(host)
            back = default == original and running in (original, "") and not armed
            if attempt.step in (Step.REVERTED, Step.SKIPPED) and not back:
                text = f"{host} is {attempt.step}, boots {default}, runs {running}, armed: {armed or 'nothing'}"
                self.breach(Rule.ENDED, text)
            if attempt.step is Step.DONE:
                wanted = original
                if attempt.legs[-1] == "new":
                    wanted = rollout.kernels[attempt.architecture].digest
                if rollout.state is State.PROMOTED and default != wanted:
                    self.breach(Rule.ENDED, f"{host} is done and boots {default} by default, not {wanted}")

    def left_out(self, uid: str, out: Collection[str]) -> None:
        """Tell which nodes are out of service for ever, after a rollout that has come to rest."""
        for host, attempt in self.seen.attempts[uid].items():
            if host in out and attempt.step is not Step.LOST:
                self.breach(Rule.SERVICE, f"{host} is {attempt.step} and stays out of service")


def _counts(tally: Tally) -> tuple[object, ...]:
    """Return what a tally counts, without places where nobody is."""
    hosts = {place: number for place, number in tally.hosts.items() if number}
    # A list that was cut off depends on the order in which it was filled.
    whole = len(tally.failures) < MOST_FAILURES
    failed = {(one.host, one.condemns) for one in tally.failures} if whole else None
    worse = {cell: set(hosts) for cell, hosts in tally.far_worse.items() if hosts}
    return hosts, tally.in_flight, tally.slots, tally.ended, tally.unheard, tally.broken, failed, worse
