"""What a decision may look at, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.domain.attempt import Attempt
from controller.domain.effects import Effect
from controller.domain.events import Event
from controller.domain.fleet import Fleet
from controller.domain.hosts import Host
from controller.domain.rollout import Rollout, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSnapshot:
    """One host's attempt with what surrounds it."""

    attempt: Attempt
    rollout: Rollout
    # None when the controller has never heard of the host.
    host: Host | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSnapshot:
    """One rollout, the tally of its hosts, and the hosts themselves for the moments that judge a wave."""

    rollout: Rollout
    tally: Tally
    attempts: Mapping[str, Attempt]
    # What operators have decided about hosts and kernels; frozen, no rollout admits hosts.
    fleet: Fleet = field(default_factory=Fleet)


Snapshot = AttemptSnapshot | RolloutSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to record, and what to ask of the world. Empty when there is nothing to do now."""

    events: tuple[Event, ...] = ()
    # Replace whatever this host's earlier decisions still had outstanding.
    effects: tuple[Effect, ...] = ()


NOTHING = Decision()
