"""When a controller dies, is replaced, loses its disk, or gets a verb at a bad moment: drawn, counted in commits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import exp
from typing import Final

from controller.sim.faults.fields import Incident
from controller.sim.faults.parse import Faults
from controller.sim.universe import chance

_MOST: Final = 200


class Kind(StrEnum):
    """What happens to the controller."""

    CRASH = "crash"
    LEADER_CHANGE = "leader_change"
    STORE_FAILS = "store_fails"
    CLOCK_JUMP = "clock_jump"
    OPERATOR = "operator"


class Moment(StrEnum):
    """Where exactly in the controller's work a crash falls."""

    BEFORE_COMMIT = "before_commit"  # decided, and nothing is written
    AFTER_COMMIT = "after_commit"  # written, and nobody in the process knows
    BEFORE_EFFECT = "before_effect"  # the effect is in the outbox
    AFTER_EFFECT = "after_effect"  # the effect is done, and nothing says so


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One incident of one run."""

    # After how many commits of the whole run it happens.
    at_commit: int
    kind: Kind
    # How long what goes away stays away; of a clock, how far it is set ahead.
    lasts_s: float = 0.0
    moment: Moment = Moment.AFTER_COMMIT
    verb: str = ""


def strikes_of(faults: Faults, seed: str, expected_commits: int) -> tuple[Strike, ...]:
    """Return the incidents of one run, in order."""
    controller = faults.controller
    found: list[Strike] = []
    for kind, incident in (
        (Kind.CRASH, controller.crashes),
        (Kind.LEADER_CHANGE, controller.leader_changes),
        (Kind.STORE_FAILS, controller.store_fails),
    ):
        if incident is None:
            continue
        for number, at_commit in _moments(incident, (seed, kind), expected_commits):
            lasts_s = 2 * incident.down_for_s * chance(seed, kind, number, "lasts")
            moment = list(Moment)[int(4 * chance(seed, kind, number, "moment"))]
            found.append(Strike(at_commit=at_commit, kind=kind, lasts_s=lasts_s, moment=moment))
    if controller.clock_jumps is not None:
        for number, at_commit in _moments(controller.clock_jumps, (seed, Kind.CLOCK_JUMP), expected_commits):
            sign = 1 if chance(seed, Kind.CLOCK_JUMP, number, "sign") < 0.5 else -1
            found.append(Strike(at_commit=at_commit, kind=Kind.CLOCK_JUMP, lasts_s=sign * controller.clock_jumps.by_s))
    found += _operators(faults.operator, seed, expected_commits)
    return tuple(sorted(found, key=lambda strike: (strike.at_commit, strike.kind, strike.verb)))


def _operators(verbs: Mapping[str, Incident], seed: str, expected_commits: int) -> Iterator[Strike]:
    for verb, incident in verbs.items():
        for _, at_commit in _moments(incident, (seed, f"operator {verb}"), expected_commits):
            yield Strike(at_commit=at_commit, kind=Kind.OPERATOR, verb=verb)


def _moments(incident: Incident, names: tuple[str, str], expected_commits: int) -> Iterator[tuple[int, int]]:
    """Yield (number, commit) of each time an incident happens; how often is Poisson around its mean."""
    seed, name = names
    left, number = exp(-min(incident.per_rollout, 100.0)), 0
    product = chance(seed, name, "count", 0)
    while product > left and number < _MOST:
        yield number, 1 + int(expected_commits * chance(seed, name, "commit", number))
        number += 1
        product *= chance(seed, name, "count", number)
