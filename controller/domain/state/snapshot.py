"""What a decision may look at, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.domain.fleet.decided import Fleet
from controller.domain.hosts.boot_times import BootTimes
from controller.domain.hosts.host import Host
from controller.domain.record.effects import Effect
from controller.domain.record.events import Event
from controller.domain.state.attempt import Attempt
from controller.domain.state.occupancy import Occupancy
from controller.domain.state.rollout import Rollout
from controller.domain.state.tally import Tally
from controller.domain.state.turns import Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSnapshot:
    """One host's attempt with what surrounds it."""

    attempt: Attempt
    rollout: Rollout
    # None when the controller has never heard of the host.
    host: Host | None
    # Whether its turn to start, or to be returned, has come.
    admitted: bool = False
    recalled: bool = False
    # What operators have decided about hosts and kernels.
    fleet: Fleet = field(default_factory=Fleet)
    # How long boots of the stratum take.
    boots: BootTimes = field(default_factory=BootTimes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSnapshot:
    """One rollout, the tally of its hosts, and the hosts themselves for the moments that judge a wave."""

    rollout: Rollout
    tally: Tally
    attempts: Mapping[str, Attempt]
    # Hosts that wait to start, and finished hosts that wait to be returned.
    starts: Turns = field(default_factory=Turns)
    returns: Turns = field(default_factory=Turns)
    occupancy: Occupancy = field(default_factory=Occupancy)
    # Hosts that are to begin again and have not yet.
    retrying: int = 0
    # Stratum -> how long its boots take.
    boots: Mapping[str, BootTimes] = field(default_factory=dict)
    # What operators have decided about hosts and kernels.
    fleet: Fleet = field(default_factory=Fleet)


Snapshot = AttemptSnapshot | RolloutSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to record, and what to ask of the world. Empty when there is nothing to do now."""

    events: tuple[Event, ...] = ()
    # Replace whatever this host's earlier decisions still had outstanding.
    effects: tuple[Effect, ...] = ()
    # When to ask again although nothing has changed by then; None when no such moment is known.
    wake_at: float | None = None


NOTHING = Decision()
