"""Counts over a rollout's hosts, kept move by move so that no decision walks the fleet."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.domain.record.events import Failure
from controller.domain.record.journey import ENDED, Step
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout

MOST_FAILURES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedHost:
    """One host's newest failure."""

    host: str
    stratum: str
    failure: Failure
    # Whether it speaks against the kernel.
    condemns: bool
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts over a rollout's hosts, kept up to date move by move so that no decision walks the fleet."""

    # (wave, step) -> hosts there.
    hosts: Mapping[tuple[int, Step], int] = field(default_factory=dict)
    in_flight: int = 0
    # Hosts that count against the disruption budget.
    slots: int = 0
    ended: int = 0
    # Hosts that are done and not heard now.
    unheard: int = 0
    # Hosts whose rig failed since failures were last excused.
    broken: int = 0
    # Failures that condemn the kernel first, each kind in the order it was learnt, at most 100.
    failures: tuple[FailedHost, ...] = ()
    # (stratum, metric) -> hosts that got worse by more than ten margins, and when that was learnt.
    far_worse: Mapping[tuple[str, str], tuple[tuple[str, float], ...]] = field(default_factory=dict)

    def count(self, wave: int, *steps: Step) -> int:
        """Return how many hosts of the wave stand in one of the steps."""
        return sum(self.hosts.get((wave, step), 0) for step in steps)

    def count_all(self, *steps: Step) -> int:
        """Return how many hosts of all waves stand in one of the steps."""
        return sum(number for (_, step), number in self.hosts.items() if step in steps)

    def open_hosts(self, last_wave: int) -> int:
        """Return how many hosts of the waves up to this one have not ended."""
        return sum(number for (wave, step), number in self.hosts.items() if wave <= last_wave and step not in ENDED)


def tallied(rollout: Rollout, attempts: Iterable[Attempt]) -> Tally:
    """Return the tally of these hosts, counted anew: what counts as a failure has changed."""
    tally = Tally()
    for attempt in attempts:
        tally = tally_moved(tally, None, attempt, rollout)
    return tally


def tally_moved(tally: Tally, before: Attempt | None, after: Attempt, rollout: Rollout) -> Tally:
    """Return the tally after one host changed; costs the same whatever the size of the fleet."""
    hosts = tally.hosts
    if before is None or before.step is not after.step:
        counts = dict(hosts)
        if before is not None:
            counts[before.wave, before.step] -= 1
        counts[after.wave, after.step] = counts.get((after.wave, after.step), 0) + 1
        hosts = counts
    failures = tally.failures
    failed_before = None if before is None else before.failure
    if after.failure != failed_before:
        failures = _with_failure(failures, after, rollout)
    return Tally(
        hosts=hosts,
        in_flight=tally.in_flight + after.in_flight - (before is not None and before.in_flight),
        slots=tally.slots + after.holds_slot - (before is not None and before.holds_slot),
        ended=tally.ended + after.ended - (before is not None and before.ended),
        unheard=tally.unheard + after.unheard - (before is not None and before.unheard),
        broken=tally.broken + rig_broke(after, rollout) - (before is not None and rig_broke(before, rollout)),
        failures=failures,
        far_worse=_with_far_worse(tally.far_worse, before, after),
    )


_FarWorse = Mapping[tuple[str, str], tuple[tuple[str, float], ...]]


def _with_far_worse(known: _FarWorse, before: Attempt | None, after: Attempt) -> _FarWorse:
    counted = ((), 0.0) if before is None else (before.far_worse, before.far_worse_at)
    if counted == (after.far_worse, after.far_worse_at):
        return known
    found = dict(known)
    for metric in (*counted[0], *after.far_worse):
        # What an earlier round has shown counts no more.
        cell = after.stratum, metric
        others = tuple(entry for entry in found.pop(cell, ()) if entry[0] != after.host)
        entries = (*others, (after.host, after.far_worse_at)) if metric in after.far_worse else others
        if entries:
            found[cell] = entries
    return found


def rig_broke(attempt: Attempt, rollout: Rollout) -> bool:
    """Whether the host's rig failed and that matters: nobody has excused it, and its stratum is not held."""
    if attempt.failure is None or attempt.condemned or attempt.stratum in rollout.held:
        return False
    return attempt.failed_at > rollout.excused_at


def _with_failure(failures: tuple[FailedHost, ...], attempt: Attempt, rollout: Rollout) -> tuple[FailedHost, ...]:
    """Return the list with a host's newest failure. However many rigs break, one that condemns is never left out.

    Hosts of held strata are: what was to follow from them has followed.
    """
    entries = [entry for entry in failures if entry.host != attempt.host]
    if attempt.failure is not None and attempt.stratum not in rollout.held:
        entries.append(
            FailedHost(
                host=attempt.host,
                stratum=attempt.stratum,
                failure=attempt.failure,
                condemns=attempt.condemned,
                at=attempt.failed_at,
            )
        )
    # Stable: each kind stays in the order it was learnt.
    return tuple(sorted(entries, key=lambda entry: not entry.condemns)[:MOST_FAILURES])
