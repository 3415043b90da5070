"""The controller's memory: the state folded from the event log, kept up to date event by event."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from controller.domain.attempt import Attempt, evolve, planned_attempt
from controller.domain.events import (
    AbortStarted,
    AttemptEvent,
    Event,
    HostsAdmitted,
    RevertStarted,
    RolloutPlanned,
)
from controller.domain.hosts import Host
from controller.domain.policy import Policy, policy_of
from controller.domain.rollout import Rollout, Tally, evolve_rollout, planned_rollout, tally_moved
from controller.domain.snapshot import AttemptSnapshot, RolloutSnapshot, Snapshot
from controller.domain.spec import parse_spec
from controller.services.records import attempt_stream, rollout_stream


@dataclass(frozen=True, slots=True)
class Key:
    """Names one aggregate: a rollout (host empty) or one host's attempt in it."""

    uid: str
    host: str = ""

    @property
    def stream(self) -> str:
        """The aggregate's stream in the event log."""
        return attempt_stream(self.uid, self.host) if self.host else rollout_stream(self.uid)


def key_of_stream(stream: str) -> Key:
    """Return the aggregate a stream belongs to."""
    kind, _, rest = stream.partition("/")
    uid, _, host = rest.partition("/")
    assert kind in ("rollout", "attempt"), stream
    return Key(uid, host)


@dataclass(slots=True)
class World:
    """All aggregates, what is dirty, and when time alone makes one dirty.

    Work per event is constant: tallies change by differences, marking touches only the hosts an event concerns.
    """

    rollouts: dict[str, Rollout] = field(default_factory=dict)
    attempts: dict[str, dict[str, Attempt]] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    # Host -> the rollout that holds it.
    active: dict[str, str] = field(default_factory=dict)
    # Grows whenever `active` changes, so that nobody has to compare a fleet to notice.
    active_version: int = 0
    # Insertion-ordered set of what to look at again.
    dirty: dict[Key, None] = field(default_factory=dict)
    deadlines: list[tuple[float, int, Key]] = field(default_factory=list)
    _pushed: int = 0

    def rehearse(self, key: Key, events: tuple[Event, ...]) -> tuple[Attempt | Rollout, ...]:
        """Return the aggregate after each event, and change nothing.

        Raises what the events are at odds with, before they are in the log for ever.
        """
        after: list[Attempt | Rollout] = []
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
                rollout = planned_rollout(event, _policy(event))
            else:
                rollout = evolve_rollout(rollout, event)  # type: ignore[arg-type]  # as above
            after.append(rollout)
        return tuple(after)

    def apply(self, key: Key, event: Event, rehearsed: Attempt | Rollout | None = None) -> None:
        """Fold one event and mark what it makes worth looking at; `rehearsed` is what it was found to lead to."""
        if key.host:
            assert not isinstance(rehearsed, Rollout), "a host's event leads to a host"
            self._apply_attempt(key, event, rehearsed)  # type: ignore[arg-type]  # streams keep the kinds apart
        elif isinstance(event, RolloutPlanned):
            self._plan(event)
        else:
            self._apply_rollout(key, event)

    def _plan(self, event: RolloutPlanned) -> None:
        rollout = planned_rollout(event, _policy(event))
        attempts: dict[str, Attempt] = {}
        tally = Tally()
        for wave, hosts in enumerate(event.waves):
            for position, planned in enumerate(hosts):
                attempt = planned_attempt(planned, rollout=event.name, uid=event.uid, wave=wave, position=position)
                attempts[planned.host] = attempt
                tally = tally_moved(tally, None, attempt)
                self.active[planned.host] = event.uid
        self.rollouts[event.uid] = rollout
        self.active_version += 1
        self.attempts[event.uid] = attempts
        self.tallies[event.uid] = tally
        self.mark(Key(event.uid))

    def _apply_rollout(self, key: Key, event: Event) -> None:
        before = self.rollouts[key.uid]
        after = evolve_rollout(before, event)  # type: ignore[arg-type]  # streams keep the two kinds of event apart
        self.rollouts[key.uid] = after
        self.mark(key)
        match event:
            case HostsAdmitted():
                for planned in after.waves[event.wave][before.admitted : event.count]:
                    self.mark(Key(key.uid, planned.host))
            case RevertStarted() | AbortStarted():
                for host in self.attempts[key.uid]:
                    self.active[host] = key.uid
                    self.mark(Key(key.uid, host))
                self.active_version += 1
            case _ if after.ended:
                for host in self.attempts[key.uid]:
                    if self.active.get(host) == key.uid:
                        del self.active[host]
                self.active_version += 1

    def _apply_attempt(self, key: Key, event: AttemptEvent, rehearsed: Attempt | None) -> None:
        before = self.attempts[key.uid][key.host]
        after = evolve(before, event) if rehearsed is None else rehearsed
        self.attempts[key.uid][key.host] = after
        counted = (before.step, before.failure, before.unheard) != (after.step, after.failure, after.unheard)
        if counted:
            self.tallies[key.uid] = tally_moved(self.tallies[key.uid], before, after)
            self.mark(Key(key.uid))
        self.mark(key)
        silence_s = self.rollouts[key.uid].policy.silence_timeout_s
        known = before.wake_times(silence_s)
        for wake in after.wake_times(silence_s):
            if wake not in known:
                self._pushed += 1
                heapq.heappush(self.deadlines, (wake, self._pushed, key))

    def mark(self, key: Key) -> None:
        """Look at this aggregate again."""
        self.dirty[key] = None

    def mark_host(self, host: str) -> None:
        """Look at the host's attempt again, if a rollout holds it."""
        uid = self.active.get(host)
        if uid is not None:
            self.mark(Key(uid, host))

    def take_dirty(self) -> Key | None:
        """Return the next aggregate to look at, or None."""
        if not self.dirty:
            return None
        key = next(iter(self.dirty))
        del self.dirty[key]
        return key

    def mark_due(self, now: float) -> None:
        """Mark every aggregate whose time has come."""
        while self.deadlines and self.deadlines[0][0] <= now:
            self.mark(heapq.heappop(self.deadlines)[2])

    def next_deadline(self) -> float | None:
        """Return when time alone next makes something dirty; never late, sometimes early."""
        return self.deadlines[0][0] if self.deadlines else None

    def snapshot(self, key: Key) -> Snapshot:
        """Return what a decision about this aggregate may look at; shares structure, copies nothing."""
        rollout = self.rollouts[key.uid]
        if key.host:
            return AttemptSnapshot(
                attempt=self.attempts[key.uid][key.host], rollout=rollout, host=self.hosts.get(key.host)
            )
        return RolloutSnapshot(rollout=rollout, tally=self.tallies[key.uid], attempts=self.attempts[key.uid])

    def revision(self, key: Key) -> int:
        """Return how many events the aggregate's stream has; 0 for one that does not exist."""
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

    def active_hosts(self) -> tuple[str, ...]:
        """Return the hosts that unfinished rollouts hold, sorted."""
        return tuple(sorted(self.active))


def _policy(event: RolloutPlanned) -> Policy:
    return event.policy or _parsed(event.spec_yaml, event.name, event.bake_s)


@lru_cache(maxsize=16)
def _parsed(spec_yaml: str, name: str, bake_s: tuple[float, ...]) -> Policy:
    # A start rehearses its events before it applies them: the same text twice.
    return policy_of(parse_spec(spec_yaml, f"{name} as planned"), bake_s)


def folded(events: Iterable[tuple[str, Event]], hosts: Mapping[str, Host]) -> World:
    """Return the world that a log describes; every unfinished aggregate is dirty."""
    world = World(hosts=dict(hosts))
    for stream, event in events:
        world.apply(key_of_stream(stream), event)
    return world
