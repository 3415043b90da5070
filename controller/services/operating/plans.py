"""From an operator's spec to a plan: hosts chosen, kernels found, blockers named. Changes nothing."""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from controller.domain.errors import KernrollError
from controller.domain.fleet.denials import everywhere
from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel
from controller.domain.planning.design import design_notes, needed_comparisons, refusals
from controller.domain.planning.own_disks import DELIVERY, not_installable, not_to_be_risked, without_watchdog
from controller.domain.planning.policy import policy_of
from controller.domain.planning.selection import HostCandidate, WavePlan, hosts_by_stratum, plan_waves, selected
from controller.domain.planning.targeting import (
    downgrades,
    in_plan,
    left_out,
    of_unknown_platform,
    targets,
    with_denials,
    with_quarantine,
)
from controller.domain.record.events import PlannedHost
from controller.domain.record.journey import Role
from controller.domain.record.policy import Policy
from controller.domain.spec.document import RolloutSpec
from controller.domain.spec.margins import margins_of, performance_metrics
from controller.domain.spec.parse import parse_spec
from controller.gate.ledger import Ledger, suspensions
from controller.gate.planning.fleet_power import cell_noise
from controller.gate.verdict import MetricRole
from controller.services.operating.hosts import subject_of
from controller.services.ports import Kernels, Store
from controller.services.state.world import World
from controller.views.plan_models import PlannedCellView
from controller.views.plans.power import planned_cell
from controller.words import duration_text, names_text

_AA_NOTE = (
    "Old against old: every host is measured, reboots into its own kernel and is measured again. The new kernel is "
    "staged and never booted."
)
_AA_NAME_CHARACTERS = 56


# Hosts -> those of them that have no management controller.
WithoutPower = Callable[[Sequence[str]], Awaitable[tuple[str, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A plan with everything a start needs."""

    spec: RolloutSpec
    plan: WavePlan
    kernels: Mapping[str, Kernel]
    # Beyond the plan's own.
    blockers: tuple[str, ...]
    notes: tuple[str, ...]
    # What is known of the strata's noise.
    ledger: Ledger
    # Old against old: every host keeps its kernel.
    aa: bool

    @property
    def policy(self) -> Policy:
        """What the engine is to do with it."""
        return policy_of(
            self.spec,
            tuple(wave.bake_s for wave in self.plan.waves),
            waves=tuple(wave.policy for wave in self.plan.waves),
            aa=self.aa,
            ledger=self.ledger,
            strata=sorted(self.plan.strata),
        )

    @property
    def all_blockers(self) -> tuple[str, ...]:
        """Every reason why this cannot start."""
        return (*self.plan.blockers, *self.blockers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a plan is made from, beside the spec."""

    world: World
    kernels: Kernels
    store: Store
    # The name of the delivery that reaches a host, empty when none does; None: there is one, for all hosts.
    delivery_of: Callable[[Host], str] | None
    # The name of the place that a host has to be taken out of first, empty when there is none.
    place_of: Callable[[Host], str]
    # Those of some hosts that have no management controller.
    without_power: WithoutPower


async def prepare(spec_yaml: str, file_name: str, known: Known, *, aa: bool = False) -> Prepared:
    """Return what the spec means for the hosts known now. Raises InvalidInput for a bad spec.

    With `aa` every host is a control host: it keeps its kernel, and the rollout has a name of its own.
    """
    world = known.world
    spec = parse_spec(spec_yaml, file_name)
    seed = _seed(spec, spec_yaml)
    if aa:
        # Nothing is compared with another kernel, so nobody is taken for it.
        spec = spec.named(_aa_name(spec.name, world), design="before_after")
    way = known.delivery_of or (lambda _host: "")
    enrolled = [
        HostCandidate(subject=subject_of(world, host), delivered_by=way(host), place=known.place_of(host))
        for host in world.hosts.values()
    ]
    aim = targets(spec, with_quarantine(enrolled, world.fleet))
    hosts = aim.hosts
    ledger = await known.store.ledger(sorted(hosts_by_stratum(spec, hosts)))
    plan = _planned(spec, hosts, seed, ledger)
    if aa:
        plan = _keeping_kernels(plan)
    needed = sorted({planned.architecture for wave in plan.waves for planned in wave.hosts})
    found: dict[str, Kernel] = {}
    blockers: list[str] = []
    hanging: tuple[str, ...] = ()
    for architecture, entry in sorted(spec.kernels.items()):
        if architecture not in needed:
            continue
        try:
            found[architecture] = await known.kernels.resolve(entry.source, architecture)
        except KernrollError as error:
            blockers.append(f"spec.kernels.{architecture}: {error}")
    if not aa:
        # Which kernels are denied is known once they are found; hosts that they are denied on leave the plan again.
        hosts = with_denials(hosts, world.fleet.denials, found)
        plan = plan if hosts == aim.hosts else _planned(spec, hosts, seed, ledger)
        blockers += everywhere(world.fleet.denials, found.values())
        blockers += () if spec.allow_downgrade else downgrades(in_plan(plan, hosts), found)
        blockers += refusals(spec, plan, ledger)
    if known.delivery_of is not None:
        planned = [one for wave in plan.waves for one in wave.hosts]
        blockers += unreached(planned)
        own_disks = [world.hosts[one.host] for one in planned if one.delivered_by == DELIVERY]
        blockers += not_to_be_risked(own_disks)
        if spec.limits.watchdog != "ignored":
            hanging = tuple(without_watchdog(own_disks))
        blockers += hanging if spec.limits.watchdog == "required" else ()
        blockers += () if aa else not_installable(own_disks, found)
    if world.by_name(spec.name) is not None:
        blockers.append(f"a rollout named {spec.name} exists already; give this one another metadata.name")
    return Prepared(
        spec=spec,
        plan=plan,
        kernels=found,
        blockers=tuple(blockers),
        notes=(
            *((_AA_NOTE,) if aa else _already_there(world, plan, found)),
            *left_out(selected(spec, hosts)),
            *aim.notes,
            *(f"A hang may not end by itself on {one}" for one in hanging if spec.limits.watchdog == "wanted"),
            *of_unknown_platform(selected(spec, hosts)),
            *_long_measurements(spec),
            *await _without_power(spec, plan, known),
            *design_notes(spec, plan, ledger),
        ),
        ledger=ledger,
        aa=aa,
    )


def _planned(spec: RolloutSpec, hosts: Sequence[HostCandidate], seed: str, ledger: Ledger) -> WavePlan:
    return plan_waves(spec, hosts, seed, needed_comparisons(spec, hosts_by_stratum(spec, hosts), ledger))


def unreached(planned: Iterable[PlannedHost]) -> Iterator[str]:
    """Yield a sentence about hosts that no delivery can bring a kernel to."""
    if names := sorted(one.host for one in planned if not one.delivered_by):
        yield (
            f"No delivery of this controller reaches {names_text(names)}, so no kernel could be brought there or taken "
            "back. Hosts that start from their own disk need kernroll-boot (`kernroll hosts enroll`) and a controller "
            "with --inventory; `kernroll lab status` lists the virtual machines that it serves."
        )


def planned_cells(prepared: Prepared) -> tuple[PlannedCellView, ...]:
    """Return what the fleet can see of every performance metric, by stratum and metric."""
    metrics, margins = (
        performance_metrics(prepared.spec),
        margins_of(prepared.spec),
    )
    strata = prepared.plan.strata
    # Completion is a critical cell of every stratum too.
    critical = len(strata) * (1 + sum(prior.role is MetricRole.CRITICAL for prior in metrics))
    why = suspensions(prepared.ledger.judgements)
    workloads = prepared.spec.workloads.given
    return tuple(
        planned_cell(
            stratum,
            prior,
            margin=margins[prior.name],
            noise=cell_noise(prepared.ledger, stratum, prior, workloads[prior.workload].repetitions),
            hosts=(hosts, prepared.spec.abba.cycles if prepared.spec.design == "abba" else 1),
            runs=workloads[prior.workload].repetitions,
            cells=max(1, critical),
            suspended=why.get((stratum, prior.name), ""),
        )
        for stratum, hosts in sorted(strata.items())
        for prior in metrics
    )


def _aa_name(name: str, world: World) -> str:
    """Return the first free name for an old-vs-old rollout of a spec: NAME-aa, NAME-aa-2, …"""
    taken = {rollout.name for rollout in world.rollouts.values()}
    # A name has at most 63 characters.
    base = f"{name[:_AA_NAME_CHARACTERS].rstrip('-')}-aa"
    return next(one for number in count(1) if (one := base if number == 1 else f"{base}-{number}") not in taken)


def _keeping_kernels(plan: WavePlan) -> WavePlan:
    waves = tuple(
        replace(wave, hosts=tuple(replace(host, role=Role.CONTROL) for host in wave.hosts)) for wave in plan.waves
    )
    return replace(plan, waves=waves)


def _seed(spec: RolloutSpec, spec_yaml: str) -> str:
    """A seed that is the rollout's own and the same on every re-plan."""
    return hashlib.sha256(f"{spec.name}\n{spec_yaml}".encode()).hexdigest()[:12]


def _long_measurements(spec: RolloutSpec) -> Iterator[str]:
    """Tell when the workloads may together take longer than a measurement may."""
    allowed_s = sum(workload.timeout_s for workload in spec.workloads.given.values())
    told = f"The workloads may take {duration_text(allowed_s)} together, and a measurement under the"
    if allowed_s > spec.limits.baseline_timeout_s:
        limit = duration_text(spec.limits.baseline_timeout_s)
        yield f"{told} old kernel {limit} (limits.baseline_timeout): a host that needs longer is left out."
    if allowed_s > spec.limits.probation_timeout_s:
        limit = duration_text(spec.limits.probation_timeout_s)
        yield f"{told} new one {limit} (limits.probation_timeout): a host that needs longer is returned."


async def _without_power(spec: RolloutSpec, plan: WavePlan, known: Known) -> list[str]:
    """Tell of hosts whose power could not be cut although the spec would have it so; they are rolled all the same."""
    if spec.limits.power_cycle == "never":
        return []
    try:
        names = await known.without_power([planned.host for wave in plan.waves for planned in wave.hosts])
    except KernrollError as error:
        return [f"limits.power_cycle: whose power can be cut is not known now: {error}"]
    if not names:
        return []
    return [
        f"limits.power_cycle: {names_text(sorted(names))} {'has' if len(names) == 1 else 'have'} no kernroll_power in "
        "the controller's inventory: one that neither boots nor falls back stays lost"
    ]


def _already_there(world: World, plan: WavePlan, found: Mapping[str, Kernel]) -> list[str]:
    running = [
        planned.host
        for wave in plan.waves
        for planned in wave.hosts
        if planned.architecture in found
        and world.hosts[planned.host].kernel_release == found[planned.architecture].release
    ]
    if not running:
        return []
    names = ", ".join(sorted(running)[:5])
    return [
        f"{len(running)} hosts run a kernel of the new release already ({names}): they are measured and booted again"
    ]
