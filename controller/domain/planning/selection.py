"""From spec and hosts to waves: who takes part, who goes first, and what stands in the way."""

import fnmatch
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.domain.hosts.facts import fact_text
from controller.domain.hosts.strata import stratum_among
from controller.domain.planning.allocation import Allocation, allocate
from controller.domain.planning.candidates import HostCandidate
from controller.domain.record.events import PlannedHost
from controller.domain.record.journey import Role
from controller.domain.record.policy import WavePolicy
from controller.domain.spec.document import Architecture, Expected, RolloutSpec, Selector
from controller.words import are, count_text, names_text

__all__ = ["HostCandidate", "WaveHosts", "WavePlan", "hosts_by_stratum", "plan_waves", "stratum_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveHosts:
    """One wave of the plan; empty waves are left out of a plan."""

    # Counts from 1, as people do.
    number: int
    hosts: tuple[PlannedHost, ...]
    bake_s: float
    policy: WavePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class WavePlan:
    """The hosts of a rollout in their order. The same spec, hosts and seed give the same plan."""

    waves: tuple[WaveHosts, ...]
    # Hosts per stratum, sorted by name.
    strata: Mapping[str, int]
    # Stratum -> who is compared, where a design compares anybody.
    comparisons: Mapping[str, Allocation] = field(default_factory=dict)
    # Sentences; a plan with blockers must not start.
    blockers: tuple[str, ...]
    notes: tuple[str, ...]
    # What decided the order: the spec's salt, else the one given.
    seed: str


def plan_waves(
    spec: RolloutSpec, hosts: Sequence[HostCandidate], salt: str, needed: Mapping[str, int] | None = None
) -> WavePlan:
    """Plan a rollout over `hosts`; nothing but the arguments decides, and their order does not matter.

    Within a stratum hosts are ordered by a hash over seed and name, so every rollout burns other canaries and a
    repeated plan burns the same ones. `needed` says how many comparisons a stratum's margins take ("power").
    """
    seed = spec.salt or salt
    chosen = [host for host in selected(spec, hosts) if not host.barred]
    strata: dict[str, list[HostCandidate]] = defaultdict(list)
    for host in chosen:
        strata[stratum_of(spec, host)].append(host)
    allocated = {
        name: allocate(spec, name, _shuffled(strata[name], seed), (needed or {}).get(name, 0), seed)
        for name in sorted(strata)
    }
    waves, notes = _waves(spec, allocated)
    return WavePlan(
        waves=waves,
        strata={name: len(strata[name]) for name in sorted(strata)},
        comparisons={name: own for name, own in allocated.items() if own.comparisons or own.missing},
        blockers=tuple(_blockers(spec, hosts, chosen)),
        notes=(*_kernel_notes(spec, chosen), *_label_notes(spec, chosen), *notes),
        seed=seed,
    )


def hosts_by_stratum(spec: RolloutSpec, hosts: Sequence[HostCandidate]) -> Mapping[str, int]:
    """Return how many hosts of every stratum the spec selects and nothing bars."""
    return Counter(stratum_of(spec, host) for host in selected(spec, hosts) if not host.barred)


def selected(spec: RolloutSpec, hosts: Iterable[HostCandidate]) -> list[HostCandidate]:
    """Return the hosts that the spec means, those that are left out all the same among them."""
    named = frozenset(spec.selector.hosts)
    return [
        host for host in hosts if host.selected and (not named or host.name in named) and _matches(spec.selector, host)
    ]


def stratum_of(spec: RolloutSpec, host: HostCandidate) -> str:
    """Return the host's stratum: architecture/platform, then the spec's labels, for example "arm64/vm/zone=a"."""
    return stratum_among(host.subject.host.stratum, host.subject.labels, spec.strata.labels).text


def _matches(selector: Selector, host: HostCandidate) -> bool:
    return all(fact_text(host.subject, key) in allowed for key, allowed in selector.match.items())


def _shuffled(hosts: Iterable[HostCandidate], seed: str) -> list[HostCandidate]:
    def place(host: HostCandidate) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed}\0{host.name}".encode()).digest(), host.name

    return sorted(hosts, key=place)


def _waves(spec: RolloutSpec, allocated: Mapping[str, Allocation]) -> tuple[tuple[WaveHosts, ...], tuple[str, ...]]:
    """Join the strata's waves; empty ones are left out."""
    planned: list[WaveHosts] = []
    notes: list[str] = []
    for index, wave in enumerate(spec.waves):
        drills = spec.drill.per_stratum if spec.drill is not None and not planned else 0
        members = tuple(host for own in allocated.values() for host in _drilled(own.waves[index], drills))
        if members:
            policy = WavePolicy(max_duration_s=wave.max_duration_s, approvals=wave.approvals)
            planned.append(WaveHosts(number=len(planned) + 1, hosts=members, bake_s=wave.bake_s, policy=policy))
    skipped = len(spec.waves) - len(planned)
    if planned and skipped:
        notes.append(f"{skipped} of {len(spec.waves)} waves would be empty and {are(skipped)} left out.")
    if left := sum(own.left for own in allocated.values()):
        notes.append(f"{count_text(left, 'host')} would stay on the old kernel: the waves do not reach them.")
    return tuple(planned), tuple(notes)


def _drilled(hosts: Sequence[PlannedHost], drills: int) -> Iterable[PlannedHost]:
    """Yield the hosts; the first ones that change kernel are to prove their way back."""
    for host in hosts:
        drill = drills > 0 and host.role is not Role.CONTROL
        drills -= drill
        yield replace(host, drill=True) if drill else host


def _blockers(spec: RolloutSpec, hosts: Sequence[HostCandidate], chosen: Sequence[HostCandidate]) -> Iterable[str]:
    known = {host.name for host in hosts}
    if unknown := sorted(set(spec.selector.hosts) - known):
        yield f"{names_text(unknown)} {are(len(unknown))} not enrolled."
    if duplicates := sorted(name for name, count in Counter(host.name for host in chosen).items() if count > 1):
        yield f"{names_text(duplicates)} {are(len(duplicates))} listed twice."
    if not hosts:
        yield "No host is enrolled."
    elif not chosen and selected(spec, hosts):
        yield "Every host that the selector matches is left out."
    elif not chosen:
        yield f"The selector matches none of the {len(known)} enrolled hosts.{_selector_hint(spec.selector, hosts)}"
    for architecture in sorted({host.architecture for host in chosen} - set(spec.kernels)):
        without = sorted(host.name for host in chosen if host.architecture == architecture)
        yield (
            f"{names_text(without)} {are(len(without))} {architecture}, for which the spec has no kernel: "
            f"add kernels.{architecture} or select other hosts."
        )
    if away := sorted(host.name for host in chosen if not host.subject.host.connected):
        yield f"{names_text(away)} {are(len(away))} not connected."
    busy: dict[str, list[str]] = defaultdict(list)
    for host in chosen:
        if host.subject.rollout and host.subject.rollout != spec.name:
            busy[host.subject.rollout].append(host.name)
    for rollout, names in sorted(busy.items()):
        yield f"{names_text(sorted(names))} {are(len(names))} held by the active rollout {rollout}."
    yield from _unexpected(spec.expected, chosen)


def _unexpected(expected: Mapping[Architecture, Expected], chosen: Sequence[HostCandidate]) -> Iterable[str]:
    running: dict[tuple[str, str], list[str]] = defaultdict(list)
    for host in chosen:
        running[host.architecture, host.subject.host.kernel_release].append(host.name)
    for architecture, wanted in sorted(expected.items()):
        for (of, release), names in sorted(running.items()):
            if of == architecture and not _runs(wanted, release):
                verb = "runs" if len(names) == 1 else "run"
                yield (
                    f"{names_text(sorted(names))} {verb} {release or 'an unknown kernel'}, "
                    f"but the spec expects {wanted.release or wanted.version}."
                )


def _runs(wanted: Expected, release: str) -> bool:
    if wanted.release is not None:
        return fnmatch.fnmatchcase(release, wanted.release)
    assert wanted.version is not None
    # "7.0.1" must not match a host that runs 7.0.13.
    return re.match(re.escape(wanted.version) + r"(?![0-9]|\.[0-9])", release) is not None


def _selector_hint(selector: Selector, hosts: Sequence[HostCandidate]) -> str:
    """Name the first condition that no host meets, and what the hosts have instead."""
    for key, allowed in selector.match.items():
        values = Counter(fact_text(host.subject, key) for host in hosts)
        if not set(allowed) & set(values):
            have = sorted(value for value in values if value is not None)
            return f" {key} is {names_text(have)} there." if have else f" None of them has the label {key}."
    return ""


def _kernel_notes(spec: RolloutSpec, chosen: Sequence[HostCandidate]) -> Iterable[str]:
    for architecture in sorted(set(spec.kernels) - {host.architecture for host in chosen}):
        if chosen:
            yield f"The kernel for {architecture} is not used: no host of that architecture is selected."


def _label_notes(spec: RolloutSpec, chosen: Sequence[HostCandidate]) -> Iterable[str]:
    for key in spec.strata.labels:
        if without := sorted(host.name for host in chosen if key not in host.subject.labels):
            verb = "has" if len(without) == 1 else "have"
            yield f"{names_text(without)} {verb} no label {key}; the stratum says {key}=?."
