"""The controller's memory: the state folded from the event log, kept up to date event by event."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from controller.domain.fleet.decided import Fleet, concerned, evolve_fleet
from controller.domain.hosts.boot_times import BootTimes
from controller.domain.hosts.host import Host
from controller.domain.judging.condemned import condemned
from controller.domain.record.control import (
    HostsLeftOut,
    HostsRecalled,
    HostsRetried,
    RevertHastened,
    RolloutOnly,
    RolloutResumed,
    StratumHeld,
)
from controller.domain.record.events import (
    AbortStarted,
    AttemptEvent,
    Event,
    HostsAdmitted,
    RevertStarted,
    RolloutCompleted,
    RolloutEnded,
    RolloutEvent,
    RolloutPaused,
    RolloutPlanned,
    RolloutPromoted,
    RolloutStarted,
    WaveOpened,
)
from controller.domain.record.fleet import FleetEvent
from controller.domain.record.journey import Step
from controller.domain.record.names import FLEET, Key, key_of_command, key_of_stream
from controller.domain.record.verdicts import WaveJudged
from controller.domain.state.attempt import Attempt, evolve, planned_attempt
from controller.domain.state.occupancy import Occupancy
from controller.domain.state.rollout import Rollout, State, evolve_rollout, planned_rollout
from controller.domain.state.snapshot import AttemptSnapshot, RolloutSnapshot, Snapshot
from controller.domain.state.tally import Tally, tallied, tally_moved
from controller.domain.state.turns import Turns, Values
from controller.services.state.agenda import Agenda

_MAY_BEGIN_AGAIN = frozenset({Step.SKIPPED, Step.REVERTED})
# Steps that a freeze, a quarantine or a closed window can stop.
_MAY_BE_HELD_UP = frozenset({Step.PENDING, Step.HELD, Step.DRAIN})


@dataclass(slots=True)
class World(Agenda):
    """All aggregates, and what of them to look at again.

    Work per event is constant: tallies change by differences, marking touches only the hosts an event concerns.
    """

    rollouts: dict[str, Rollout] = field(default_factory=dict)
    attempts: dict[str, dict[str, Attempt]] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    fleet: Fleet = field(default_factory=Fleet)
    # Host -> the rollout that holds it.
    active: dict[str, str] = field(default_factory=dict)
    # Grows whenever `active` changes, so that nobody has to compare a fleet to notice.
    active_version: int = 0
    # Rollout -> hosts that wait to start, and finished hosts that wait to be returned.
    starts: dict[str, Turns] = field(default_factory=dict)
    returns: dict[str, Turns] = field(default_factory=dict)
    # Rollout -> hosts that are to begin again and have not yet.
    retrying: dict[str, set[str]] = field(default_factory=dict)
    # One set of books for all rollouts.
    occupancy: Occupancy = field(default_factory=Occupancy)
    # Stratum -> how long its boots take.
    boots: dict[str, BootTimes] = field(default_factory=dict)

    def see(self, host: Host) -> None:
        """Remember what a host says of itself, and whether it is there."""
        self.hosts[host.name] = host
        if self._occupy(host.name):
            # Room for some, or for fewer.
            self._mark_unfinished()

    def forget(self, name: str) -> None:
        """Drop what a host said of itself."""
        self.hosts.pop(name, None)
        self.occupancy.remove(name)
        self._mark_unfinished()

    def _occupy(self, name: str) -> bool:
        """Keep the books of the disruption budget; return whether room has changed."""
        host, attempt = self.hosts.get(name), self.active_attempt(name)
        if host is None:
            return False
        lost = attempt is not None and attempt.step is Step.LOST
        moving = attempt is not None and attempt.holds_slot and not lost
        # A host in quarantine is out of service already: nobody waits for it.
        away = lost or (not host.connected and name not in self.fleet.quarantined)
        changed = self.occupancy.set(name, self.fleet.labels_of(host), moving=moving, away=away)
        if changed and name in self.active:
            uid = self.active[name]
            for turns in (self.starts[uid], self.returns[uid]):
                turns.place(name, self._bounded(self.rollouts[uid], name))
        return changed

    def rehearse(self, key: Key, events: tuple[Event, ...]) -> tuple[Attempt | Rollout | Fleet, ...]:
        """Return the aggregate after each event, and change nothing.

        Raises what the events are at odds with, before they are in the log for ever.
        """
        after: list[Attempt | Rollout | Fleet] = []
        if key == FLEET:
            fleet = self.fleet
            for event in events:
                fleet = evolve_fleet(fleet, event)  # type: ignore[arg-type]  # streams keep the kinds apart
                after.append(fleet)
            return tuple(after)
        if key.host:
            attempt = self.attempts[key.uid][key.host]
            for event in events:
                attempt = evolve(attempt, event)  # type: ignore[arg-type]  # streams keep the two kinds apart
                after.append(attempt)
            return tuple(after)
        rollout = self.rollouts.get(key.uid)
        for event in events:
            if rollout is None:
                assert isinstance(event, RolloutPlanned), f"{key.uid}: {type(event).__name__} before it is planned"
                rollout = planned_rollout(event)
            else:
                rollout = evolve_rollout(rollout, event)  # type: ignore[arg-type]  # as above
            after.append(rollout)
        return tuple(after)

    def apply(self, key: Key, event: Event, rehearsed: Attempt | Rollout | Fleet | None = None) -> None:
        """Fold one event and mark what it makes worth looking at; `rehearsed` is what it was found to lead to."""
        if key == FLEET:
            self._apply_fleet(event)  # type: ignore[arg-type]  # streams keep the kinds of event apart
        elif key.host:
            found = rehearsed if isinstance(rehearsed, Attempt) else None
            self._apply_attempt(key, event, found)  # type: ignore[arg-type]  # streams keep the two kinds apart
        elif isinstance(event, RolloutPlanned):
            self._plan(event)
        else:
            self._apply_rollout(key, event)  # type: ignore[arg-type]  # as above

    def _plan(self, event: RolloutPlanned) -> None:
        rollout = planned_rollout(event)
        attempts: dict[str, Attempt] = {}
        tally = Tally()
        self.starts[event.uid] = starts = Turns()
        self.returns[event.uid] = Turns()
        self.retrying[event.uid] = set()
        for wave, hosts in enumerate(event.waves):
            for position, planned in enumerate(hosts):
                attempt = planned_attempt(planned, rollout=event.name, uid=event.uid, wave=wave, position=position)
                attempts[planned.host] = attempt
                tally = tally_moved(tally, None, attempt, rollout)
                self.active[planned.host] = event.uid
                starts.add(planned.host, wave, self._bounded(rollout, planned.host), position)
        self.rollouts[event.uid] = rollout
        self.active_version += 1
        self.attempts[event.uid] = attempts
        self.tallies[event.uid] = tally
        self.mark(Key(event.uid))

    def _apply_fleet(self, event: FleetEvent) -> None:
        """Fold what operators decided. What is about some hosts touches only those."""
        before, self.fleet = self.fleet, evolve_fleet(self.fleet, event)
        about = concerned(before, event)
        if about is None:
            self._look_again()
            return
        for host in about:
            self._occupy(host)
            if host in self.active:
                self.mark(Key(self.active[host], host))
        if about:
            # Room for some, or for fewer.
            self._mark_unfinished()

    def _mark_unfinished(self) -> None:
        for uid, rollout in self.rollouts.items():
            if not rollout.ended:
                self.mark(Key(uid))

    def _look_again(self) -> None:
        self._mark_unfinished()
        for host, uid in self.active.items():
            if self.attempts[uid][host].step in _MAY_BE_HELD_UP:
                self.mark(Key(uid, host))

    def _apply_rollout(self, key: Key, event: RolloutEvent) -> None:
        before = self.rollouts[key.uid]
        after = evolve_rollout(before, event)
        self.rollouts[key.uid] = after
        self.mark(key)
        if after.state is State.RUNNING and before.state is not State.RUNNING:
            # Their turn had come when the rollout was stopped.
            self._mark_hosts(key.uid, self.starts[key.uid].called)
        if denials := condemned(after, self.attempts[key.uid], event):
            self.fleet = self.fleet.remembering(denials)
            self._look_again()
        if isinstance(event, RolloutOnly):
            return
        match event:
            case HostsAdmitted():
                self.starts[key.uid].call(event.hosts)
                self._mark_hosts(key.uid, event.hosts)
            case WaveJudged():
                self._mark_hosts(key.uid, event.measure_again)
            case HostsRecalled():
                self.returns[key.uid].call(event.hosts)
                self._mark_hosts(key.uid, event.hosts)
            case HostsRetried():
                again = {host for host in event.hosts if self.attempts[key.uid][host].step in _MAY_BEGIN_AGAIN}
                self.retrying[key.uid] |= again
                self._mark_hosts(key.uid, event.hosts)
            case HostsLeftOut():
                self._mark_hosts(key.uid, event.hosts)
            case RevertStarted() | AbortStarted():
                for host in self.attempts[key.uid]:
                    self.active[host] = key.uid
                    self._occupy(host)
                self.active_version += 1
                self._turn_back(after, self.attempts[key.uid].values())
            case StratumHeld():
                self._recount(after)
                self._turn_back(after, [a for a in self.attempts[key.uid].values() if a.stratum == event.stratum])
            case RevertHastened():
                self._mark_hosts(key.uid, self.attempts[key.uid])
            case RolloutResumed():
                self._recount(after)
            case RolloutPromoted() | RolloutCompleted() | RolloutEnded():
                self._set_free(key.uid)
            case RolloutPlanned() | RolloutStarted() | RolloutPaused() | WaveOpened():
                pass
            case _:
                assert_never(event)

    def _set_free(self, uid: str) -> None:
        """Let the hosts of a rollout that has ended go."""
        for host in self.attempts[uid]:
            if self.active.get(host) == uid:
                del self.active[host]
                self._occupy(host)
        self.active_version += 1

    def _mark_hosts(self, uid: str, hosts: Iterable[str]) -> None:
        for host in hosts:
            self.mark(Key(uid, host))

    def _recount(self, rollout: Rollout) -> None:
        """Count again what was counted as a failure before. Walks the hosts: only a person or a failure asks for it."""
        self.tallies[rollout.uid] = tallied(rollout, self.attempts[rollout.uid].values())

    def _turn_back(self, rollout: Rollout, attempts: Iterable[Attempt]) -> None:
        """Let hosts that serve on the new kernel wait for their way back, and look at all of them."""
        leaving_done = rollout.state is State.ABORTING
        for attempt in attempts:
            self.retrying[rollout.uid].discard(attempt.host)
            if attempt.step is Step.BAKE or (attempt.step is Step.DONE and not leaving_done):
                self._wait_to_return(rollout, attempt)
            self.mark(Key(rollout.uid, attempt.host))

    def _wait_to_return(self, rollout: Rollout, attempt: Attempt) -> None:
        turns = self.returns[rollout.uid]
        if not turns.waits(attempt.host) and attempt.host not in turns.called:
            turns.add(attempt.host, attempt.wave, self._bounded(rollout, attempt.host), attempt.position)

    def _bounded(self, rollout: Rollout, name: str) -> Values:
        """Return the host's values of the labels that the rollout's budget counts by."""
        host = self.hosts.get(name)
        labels = {} if host is None else self.fleet.labels_of(host)
        return tuple(labels.get(bound.key) for bound in rollout.policy.max_unavailable)

    def _apply_attempt(self, key: Key, event: AttemptEvent, rehearsed: Attempt | None) -> None:
        rollout, before = self.rollouts[key.uid], self.attempts[key.uid][key.host]
        after = evolve(before, event) if rehearsed is None else rehearsed
        self.attempts[key.uid][key.host] = after
        counted = (before.step, before.failure, before.unheard) != (after.step, after.failure, after.unheard)
        if counted:
            self.tallies[key.uid] = tally_moved(self.tallies[key.uid], before, after, rollout)
            self.mark(Key(key.uid))
        if before.step is not after.step:
            self._stepped(rollout, before, after)
        self.mark(key)
        silence_s = rollout.policy.silence_timeout_s
        known = before.wake_times(silence_s)
        for wake in after.wake_times(silence_s):
            if wake not in known:
                self.push(wake, key)

    def _stepped(self, rollout: Rollout, before: Attempt, after: Attempt) -> None:
        """Keep turns, books and boot times after a host has moved."""
        host = after.host
        self.starts[rollout.uid].leave(host)
        self.returns[rollout.uid].leave(host)
        if after.step is Step.PENDING:
            self.retrying[rollout.uid].discard(host)
            self.starts[rollout.uid].add(host, after.wave, self._bounded(rollout, host), after.position)
        if before.step is Step.VERIFY and after.step in (Step.PROBATION, Step.DRILL):
            boots = self.boots.get(after.stratum, BootTimes())
            self.boots[after.stratum] = boots.with_boot(after.since - before.since)
        self._occupy(host)

    def mark_host(self, host: str) -> None:
        """Look at the host's attempt again, if a rollout holds it."""
        uid = self.active.get(host)
        if uid is not None:
            self.mark(Key(uid, host))

    def snapshot(self, key: Key) -> Snapshot:
        """Return what a decision about this aggregate may look at; shares structure, copies nothing."""
        rollout = self.rollouts[key.uid]
        if key.host:
            attempt = self.attempts[key.uid][key.host]
            return AttemptSnapshot(
                attempt=attempt,
                rollout=rollout,
                host=self.hosts.get(key.host),
                admitted=key.host in self.starts[key.uid].called,
                recalled=key.host in self.returns[key.uid].called,
                boots=self.boots.get(attempt.stratum, BootTimes()),
                fleet=self.fleet,
            )
        return RolloutSnapshot(
            rollout=rollout,
            tally=self.tallies[key.uid],
            attempts=self.attempts[key.uid],
            starts=self.starts[key.uid],
            returns=self.returns[key.uid],
            occupancy=self.occupancy,
            retrying=len(self.retrying[key.uid]),
            boots=self.boots,
            fleet=self.fleet,
        )

    def revision(self, key: Key) -> int:
        """Return how many events the aggregate's stream has; 0 for one that does not exist."""
        if key == FLEET:
            return self.fleet.revision
        if key.host:
            return self.attempts[key.uid][key.host].revision
        rollout = self.rollouts.get(key.uid)
        return 0 if rollout is None else rollout.revision

    def by_name(self, name: str) -> Rollout | None:
        """Return the rollout of this name, or None."""
        return next((rollout for rollout in self.rollouts.values() if rollout.name == name), None)

    def rollouts_after(self, uid: str) -> Iterable[Rollout]:
        """Return the rollouts planned after this one, oldest first."""
        ordered = list(self.rollouts)
        return (self.rollouts[later] for later in ordered[ordered.index(uid) + 1 :])

    def active_attempt(self, host: str) -> Attempt | None:
        """Return the attempt of the rollout that holds the host, or None."""
        uid = self.active.get(host)
        return None if uid is None else self.attempts[uid][host]

    def delivery_of(self, host: str, command_id: str = "") -> str:
        """Return the delivery that is pinned in the plan of a command, or else of the host's newest rollout."""
        if command_id:
            return self.attempts[key_of_command(command_id).uid][host].delivered_by
        planned = (self.attempts[uid][host] for uid in reversed(self.rollouts) if host in self.attempts[uid])
        newest = self.active_attempt(host) or next(planned, None)
        return "" if newest is None else newest.delivered_by

    def active_hosts(self) -> tuple[str, ...]:
        """Return the hosts that unfinished rollouts hold, sorted."""
        return tuple(sorted(self.active))


def folded(events: Iterable[tuple[str, Event]], hosts: Mapping[str, Host]) -> World:
    """Return the world that a log describes; every unfinished aggregate is dirty."""
    world = World()
    for host in hosts.values():
        world.see(host)
    for stream, event in events:
        world.apply(key_of_stream(stream), event)
    return world
