"""How fast a plan may go, and how long it takes at least and at most, in sentences."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from controller.domain.hosts.boot_times import BootTimes
from controller.domain.planning.selection import WavePlan
from controller.domain.record.checks import CheckKind
from controller.domain.record.deadlines import longest_walk_s
from controller.domain.record.events import PlannedHost
from controller.domain.record.policy import PlaceBound, Policy
from controller.domain.record.windows import DAYS, Window, next_opening
from controller.domain.state.occupancy import FLEET, HYPERVISOR
from controller.words import count_text, duration_text, time_text


def pace_sentences(
    policy: Policy,
    plan: WavePlan,
    labels: Mapping[str, Mapping[str, str]],
    now: float,
    boots: Mapping[str, BootTimes],
) -> tuple[str, ...]:
    """Return what bounds the rollout's pace, and its duration.

    `labels` are those of every host of the fleet, `boots` what is known of a stratum's boots.
    """
    return (
        *_bounds(policy, labels),
        *_windows(policy.windows, now),
        *_approvals(policy),
        _error_budget(policy),
        _duration(policy, plan, labels, boots),
    )


def _bounds(policy: Policy, labels: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    if policy.max_in_flight is not None:
        yield f"At most {count_text(policy.max_in_flight, 'host')} of this rollout under way at a time."
    for bound in policy.max_unavailable:
        known = len(labels) if bound.key == FLEET else max(_places(bound, labels).values(), default=0)
        if not known:
            continue
        allowed = count_text(bound.allowed(known), "host")
        if bound.key == FLEET:
            share = f" ({bound.share:.0%} of {known})" if bound.share is not None else ""
            yield f"At most {allowed} of the fleet{share} unavailable at a time, hosts that are away now included."
        else:
            yield f"At most {allowed} of the same {bound.key} unavailable at a time, hosts that are away now included."


def _places(bound: PlaceBound, labels: Mapping[str, Mapping[str, str]]) -> Counter[str]:
    return Counter(of[bound.key] for of in labels.values() if bound.key in of)


def _windows(windows: Sequence[Window], now: float) -> Iterator[str]:
    for window in windows:
        days = "every day" if len(window.days) == len(DAYS) else ", ".join(DAYS[day] for day in window.days)
        yield f"Hosts go down only {days} from {_clock(window.opens)} to {_clock(window.closes)} in {window.zone}."
    opening = next_opening(windows, now) if windows else None
    if opening is not None:
        yield "A window is open now." if opening <= now else f"The next window opens at {time_text(opening)}."


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _approvals(policy: Policy) -> Iterator[str]:
    for number, wave in enumerate(policy.waves, start=1):
        if wave.approvals:
            allowed = duration_text(policy.approval_timeout_s)
            persons = count_text(wave.approvals, "person")
            yield f"Wave {number} begins when {persons} approved it; the rollout pauses without that after {allowed}."


def _error_budget(policy: Policy) -> str:
    share = f" or {policy.error_budget_share:.0%} of the open waves" if policy.error_budget_share else ""
    return (
        f"It pauses when more than {count_text(policy.error_budget_hosts, 'host')}{share} fail for reasons of their "
        "rig, and reverts on the first that speaks against the kernel."
    )


def _duration(
    policy: Policy, plan: WavePlan, labels: Mapping[str, Mapping[str, str]], boots: Mapping[str, BootTimes]
) -> str:
    baking_s = sum(wave.bake_s for wave in plan.waves)
    most_s = baking_s
    for wave in plan.waves:
        hosts = [planned.host for planned in wave.hosts]
        most_s += max(_walk_s(policy, planned, boots) for planned in wave.hosts) * walks_at_most(policy, hosts, labels)
        # Hosts that are not heard when their soak time is over are waited for, those far outside the others measured
        # once more.
        most_s += policy.silence_timeout_s
        most_s += 0.0 if policy.design == "before_after" else policy.probation_timeout_s
    # Checks of a wave are asked at the same time.
    programs = [one.deadline_s for one in policy.checks if one.kind is not CheckKind.MANUAL and not one.dry_run]
    most_s += max(programs, default=0.0) * len(plan.waves)
    within = ", within maintenance windows" if policy.windows else ""
    return (
        f"It takes at least {duration_text(baking_s)} (the soak times alone) and at most {duration_text(most_s)} "
        f"(every limit used up{within}); waits for people are not counted."
    )


def _walk_s(policy: Policy, planned: PlannedHost, boots: Mapping[str, BootTimes]) -> float:
    known = boots.get(planned.stratum, BootTimes())
    return longest_walk_s(policy, planned, known.timeout_s(policy.boot_timeout_s, planned.stratum))


def walks_at_most(policy: Policy, hosts: Sequence[str], labels: Mapping[str, Mapping[str, str]]) -> int:
    """Return how many walks, one after the other, the wave takes at most.

    A host waits only while something that bounds it is full. What fits n hosts into room for k keeps the last of them
    waiting for at most the walks of the n - 1 others, k at a time; where several things bound a host, one after the
    other may be full.
    """
    here = Counter(place for host in hosts for place in _places_of(labels.get(host, {})))
    known = Counter(place for of in labels.values() for place in _places_of(of))
    of_wave = 0 if policy.max_in_flight is None else (len(hosts) - 1) // policy.max_in_flight
    most = 0
    for host in hosts:
        waits = of_wave
        places = dict(_places_of(labels.get(host, {})))
        for bound in policy.max_unavailable:
            if bound.key in places:
                place = (bound.key, places[bound.key])
                waits += (here[place] - 1) // bound.allowed(known[place])
        # A hypervisor and its guests never move together, and its guests may go one after the other.
        waits += here[HYPERVISOR, host] + (places.get(HYPERVISOR) in hosts)
        most = max(most, waits)
    return 1 + most


def _places_of(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield FLEET, ""
    yield from labels.items()
