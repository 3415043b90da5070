"""Which hosts a rollout is meant for, and which of them are left out, each with the reason.

Left out are hosts in quarantine and hosts that one of the rollout's kernels is denied on. An expression that a host
gives no answer to does not select it; a rule that it gives no answer to keeps the kernel from it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from controller.domain.fleet.decided import Denial, Fleet
from controller.domain.fleet.denials import denial_of, denied
from controller.domain.hosts.expressions import expression
from controller.domain.hosts.matching import matching
from controller.domain.hosts.releases import compared
from controller.domain.kernels import Kernel
from controller.domain.planning.selection import HostCandidate, WavePlan, selected
from controller.domain.record.journey import Role
from controller.domain.spec.document import RolloutSpec
from controller.words import are, names_text

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Every enrolled host as the plan is to see it."""

    hosts: tuple[HostCandidate, ...]
    # Sentences about hosts that are left out.
    notes: tuple[str, ...]


def targets(spec: RolloutSpec, hosts: Sequence[HostCandidate]) -> Targets:
    """Apply the spec's expressions."""
    found: Sequence[HostCandidate] = hosts
    meant = [host.subject for host in selected(spec, hosts)]
    notes: list[str] = []
    if spec.selector.where is not None:
        matched = matching(expression(spec.selector.where), meant)
        found = [host if host.name in matched.names else replace(host, selected=False) for host in found]
        meant = [one for one in meant if one.host.name in matched.names]
        notes += undecided_notes(matched.undecided)
    for number, wave in enumerate(spec.waves):
        if wave.where is not None:
            matched = matching(expression(wave.where), meant)
            found = [
                host if host.name in matched.names else replace(host, not_in_waves=host.not_in_waves | {number})
                for host in found
            ]
            notes += [f"Wave {number + 1}: {note}" for note in undecided_notes(matched.undecided)]
    return Targets(hosts=tuple(found), notes=tuple(notes))


def with_quarantine(hosts: Iterable[HostCandidate], fleet: Fleet) -> tuple[HostCandidate, ...]:
    """Leave hosts in quarantine out."""
    return tuple(
        replace(host, barred=f"in quarantine by {quarantine.by}: {quarantine.remark}")
        if (quarantine := fleet.quarantined.get(host.name)) is not None
        else host
        for host in hosts
    )


def with_denials(
    hosts: Iterable[HostCandidate],
    denials: Sequence[Denial],
    kernels: Mapping[str, Kernel],
) -> tuple[HostCandidate, ...]:
    """Leave hosts out that the kernel of their architecture is denied on, by rules that are not about all hosts."""
    limited = [rule for rule in denials if rule.where]
    if not limited:
        return tuple(hosts)
    found = []
    for host in hosts:
        kernel = kernels.get(host.architecture)
        rule = None if kernel is None or host.barred else denial_of(limited, kernel, host.subject)
        found.append(host if rule is None or kernel is None else replace(host, barred=denied(rule, kernel)))
    return tuple(found)


def left_out(hosts: Iterable[HostCandidate]) -> Iterator[str]:
    """Yield a sentence for every reason why hosts that the rollout is meant for are left out."""
    for why, names in _grouped((host.barred, host.name) for host in hosts if host.barred).items():
        yield f"{names_text(sorted(names))} {are(len(names))} left out: {why}."


def of_unknown_platform(hosts: Iterable[HostCandidate]) -> Iterator[str]:
    """Yield a sentence about hosts of which nobody knows whether they are machines or guests."""
    if names := sorted(host.name for host in hosts if host.subject.host.platform == "unknown"):
        verb = "it is a stratum" if len(names) == 1 else "they are strata"
        yield (
            f"Whether {names_text(names)} {are(len(names))} metal, a virtual machine or emulated the agent cannot "
            f'tell, so {verb} of platform "unknown": set platform in its agent.toml.'
        )


def in_plan(plan: WavePlan, hosts: Iterable[HostCandidate]) -> list[HostCandidate]:
    """Return the hosts whose kernel the plan changes."""
    names = {one.host for wave in plan.waves for one in wave.hosts if one.role is not Role.CONTROL}
    return [host for host in hosts if host.name in names]


def downgrades(hosts: Iterable[HostCandidate], kernels: Mapping[str, Kernel]) -> Iterator[str]:
    """Yield a sentence for every step back to an older kernel, or to one of which nobody can tell."""
    facts = (host.subject.host for host in hosts)
    running = _grouped(((one.architecture, one.kernel_release, one.kernel_version), one.name) for one in facts)
    for (architecture, release, version), names in sorted(running.items()):
        kernel = kernels.get(architecture)
        order = 0 if kernel is None else compared(kernel.release, release, kernel.source, version)
        if kernel is None or order in (0, 1):
            continue
        verb = "runs" if len(names) == 1 else "run"
        older = f"{kernel.release} is older" if order else f"whether {kernel.release} is older cannot be told"
        yield (
            f"{names_text(sorted(names))} {verb} {release or 'an unknown kernel'}, and {older}: "
            "spec.allow_downgrade: true consents to that."
        )


def undecided_notes(undecided: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a sentence for every reason why hosts neither match an expression nor do not."""
    for why, names in undecided.items():
        yield f"{names_text(names)} {why if len(names) == 1 else _of_many(why)}: left out."


def _of_many(why: str) -> str:
    return why.replace("has ", "have ", 1).replace("does not tell its", "do not tell their", 1)


def _grouped(pairs: Iterable[tuple[_T, str]]) -> dict[_T, list[str]]:
    found: dict[_T, list[str]] = defaultdict(list)
    for key, name in pairs:
        found[key].append(name)
    return dict(found)
