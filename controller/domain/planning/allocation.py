"""From a stratum's hosts in their order to waves: who changes kernel when, and who is compared with whom.

Hosts that are compared come first, in the same wave and beside one another, so that whatever the hour does to one it
does to the other. Nothing but the arguments decides: the same hosts and seed give the same allocation.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import assert_never

from controller.domain.planning.candidates import HostCandidate
from controller.domain.record.events import PlannedHost
from controller.domain.record.journey import Role
from controller.domain.spec.design import POWER
from controller.domain.spec.document import RolloutSpec, Wave

# Machines of one kind differ by what firmware and kernel keep for themselves: memory within an eighth of a doubling
# (9 %) is alike.
_MEMORY_STEPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One stratum's hosts in the spec's waves."""

    # One entry a wave of the spec; may be empty.
    waves: tuple[tuple[PlannedHost, ...], ...]
    # Control hosts, pairs, or hosts that are compared with themselves.
    comparisons: int
    # What was asked for, where hosts or waves have no room for it; 0 otherwise.
    missing: int
    # The wave, from 1, after which all comparisons are in; 0 when there are none.
    decided_after: int
    # Hosts that no wave reaches.
    left: int


def allocate(spec: RolloutSpec, stratum: str, hosts: Sequence[HostCandidate], needed: int, seed: str) -> Allocation:
    """Allocate a stratum. `hosts` are in the order of their turns; `needed` is what the margins take ("power")."""
    wanted = _wanted(spec, needed)
    found = _comparisons(spec, len(hosts), wanted)
    barred = {host.name: host.not_in_waves for host in hosts if host.not_in_waves}
    waves = _cut(spec.waves, _units(spec, stratum, hosts, found, seed), barred)
    while late := _late(spec, waves):
        # Waves that are not meant for every host leave less room than their sizes say.
        found = max(0, found - late)
        waves = _cut(spec.waves, _units(spec, stratum, hosts, found, seed), barred)
    reached = [host for wave in waves for unit in wave for host in unit]
    compared = [number for number, wave in enumerate(waves, start=1) for unit in wave if unit[0].compared]
    return Allocation(
        waves=tuple(tuple(host for unit in wave for host in unit) for wave in waves),
        comparisons=len(compared),
        missing=wanted if len(compared) < wanted else 0,
        decided_after=max(compared, default=0),
        left=len(hosts) - len(reached),
    )


def _late(spec: RolloutSpec, waves: Sequence[Sequence["_Unit"]]) -> int:
    """Return how many comparisons come after the wave that decides."""
    deciding = spec.verdict_by_wave or len(spec.waves)
    return sum(unit[0].compared for wave in waves[deciding:] for unit in wave)


def _wanted(spec: RolloutSpec, needed: int) -> int:
    match spec.design:
        case "before_after":
            return 0
        case "two_arms":
            asked = spec.controls.per_stratum
        case "matched_pairs":
            asked = spec.pairs.per_stratum
        case "abba":
            asked = spec.abba.per_stratum
        case _:
            assert_never(spec.design)
    return needed if asked == POWER else int(asked)


def _comparisons(spec: RolloutSpec, hosts: int, wanted: int) -> int:
    """Return how many comparisons there is room for: in the stratum, and in the waves up to the deciding one."""
    alone = spec.design == "abba"
    found = min(wanted, hosts if alone else hosts // 2)
    deciding = (spec.verdict_by_wave or len(spec.waves)) - 1
    # A control host takes no part of a wave's share: fewer comparisons leave more hosts that change kernel.
    while found and found > _ends(spec.waves, hosts if alone else hosts - found)[deciding]:
        found -= 1
    return found


def _ends(waves: Sequence[Wave], units: int) -> list[int]:
    """Return after how many of the hosts that change kernel each wave ends."""
    ends: list[int] = []
    taken = 0
    for wave in waves:
        end = units
        if wave.per_stratum is not None:
            end = min(end, taken + wave.per_stratum)
        elif wave.percent is not None:
            # Round up, so that a share of a small stratum is at least one host; 1e-9 forgives binary fractions.
            end = max(taken, math.ceil(units * wave.percent / 100 - 1e-9))
        ends.append(end)
        taken = end
    return ends


# A host that changes kernel, and the control host beside it if it has one.
_Unit = tuple[PlannedHost, ...]


def _cut(waves: Sequence[Wave], units: Sequence[_Unit], barred: Mapping[str, Set[int]]) -> list[list[_Unit]]:
    """Return each wave's units in their order; `barred` are hosts and the waves (from 0) not meant for them."""
    left = list(units)
    cut: list[list[_Unit]] = []
    for index, wave in enumerate(waves):
        meant = [unit for unit in units if not any(index in barred.get(host.host, ()) for host in unit)]
        mine = {unit[0].host for unit in meant}
        free = [unit for unit in left if unit[0].host in mine]
        if wave.per_stratum is not None:
            free = free[: wave.per_stratum]
        elif wave.percent is not None:
            # Round up, so that a share of a small stratum is at least one host; 1e-9 forgives binary fractions.
            wanted = math.ceil(len(meant) * wave.percent / 100 - 1e-9)
            free = free[: max(0, wanted - (len(meant) - len(free)))]
        cut.append(free)
        taken = {unit[0].host for unit in free}
        left = [unit for unit in left if unit[0].host not in taken]
    return cut


def _units(spec: RolloutSpec, stratum: str, hosts: Sequence[HostCandidate], count: int, seed: str) -> list[_Unit]:
    match spec.design:
        case "before_after":
            return [(_host(one, stratum),) for one in hosts]
        case "two_arms":
            return _two_arms(stratum, hosts, count)
        case "matched_pairs":
            return _matched_pairs(stratum, hosts, count, seed)
        case "abba":
            own = spec.abba.cycles
            crossing = [(_host(one, stratum, Role.CROSSOVER, cycles=own),) for one in hosts[:count]]
            return [*crossing, *((_host(one, stratum),) for one in hosts[count:])]
        case _:
            assert_never(spec.design)


def _two_arms(stratum: str, hosts: Sequence[HostCandidate], count: int) -> list[_Unit]:
    """Return as many compared hosts as control hosts, one beside the other, then the rest.

    One to one in every wave: a wave's hour moves both arms alike, and neither has more of it.
    """
    edge = len(hosts) - count
    treated, controls = hosts[:edge], hosts[edge:]
    compared = [
        (_host(one, stratum, compared=True), _host(other, stratum, Role.CONTROL, compared=True))
        for one, other in zip(treated, controls, strict=False)
    ]
    return [*compared, *((_host(one, stratum),) for one in treated[count:])]


def _matched_pairs(stratum: str, hosts: Sequence[HostCandidate], count: int, seed: str) -> list[_Unit]:
    """Return pairs of hosts that are alike, in an order of the seed's; in each the seed says who changes kernel."""
    place = {host.name: position for position, host in enumerate(hosts)}
    alike = sorted(hosts, key=lambda host: (_kind(host), place[host.name]))

    def order(pair: tuple[HostCandidate, HostCandidate]) -> tuple[bool, int]:
        # Unlike pairs, if the number takes any, come last.
        return _kind(pair[0]) != _kind(pair[1]), min(place[one.name] for one in pair)

    pairs = sorted((_by_lot(first, second, seed) for first, second in _neighbours(alike)), key=order)[:count]
    units: list[_Unit] = [
        (
            _host(one, stratum, compared=True, pair=one.name),
            _host(other, stratum, Role.CONTROL, compared=True, pair=one.name),
        )
        for one, other in pairs
    ]
    paired = {one.name for pair in pairs for one in pair}
    return [*units, *((_host(one, stratum),) for one in hosts if one.name not in paired)]


def _neighbours(alike: Sequence[HostCandidate]) -> Iterator[tuple[HostCandidate, HostCandidate]]:
    """Yield pairs within one kind first; whoever is left over is paired with the next of its neighbours."""
    odd: list[HostCandidate] = []
    index = 0
    while index < len(alike):
        if index + 1 < len(alike) and _kind(alike[index]) == _kind(alike[index + 1]):
            yield alike[index], alike[index + 1]
            index += 2
        else:
            odd.append(alike[index])
            index += 1
    yield from zip(odd[::2], odd[1::2], strict=False)


def _kind(host: HostCandidate) -> tuple[int, int, int]:
    facts = host.subject.host
    memory = round(_MEMORY_STEPS * math.log2(facts.memory_bytes)) if facts.memory_bytes > 0 else 0
    return facts.page_size_bytes, memory, facts.cpu_count


def _by_lot(first: HostCandidate, second: HostCandidate, seed: str) -> tuple[HostCandidate, HostCandidate]:
    names = "\0".join(sorted((first.name, second.name)))
    turned = hashlib.sha256(f"{seed}\0pair\0{names}".encode()).digest()[0] & 1
    return (second, first) if turned else (first, second)


def _host(
    one: HostCandidate,
    stratum: str,
    role: Role = Role.TREATED,
    *,
    compared: bool = False,
    pair: str = "",
    cycles: int = 1,
) -> PlannedHost:
    return PlannedHost(
        host=one.name,
        stratum=stratum,
        architecture=one.architecture,
        role=role,
        compared=compared or role is Role.CROSSOVER,
        pair=pair,
        cycles=cycles,
        delivered_by=one.delivered_by,
        place=one.place,
    )
