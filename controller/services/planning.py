"""From an operator's spec to a plan: hosts chosen, kernels found, blockers named. Changes nothing."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from controller.domain import kernels as sources
from controller.domain.errors import KernrollError
from controller.domain.kernels import Kernel
from controller.domain.selection import HostCandidate, WavePlan, plan_waves
from controller.domain.spec import KernelSource, RolloutSpec, parse_spec
from controller.services.ports import Kernels
from controller.services.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A plan with everything a start needs."""

    spec: RolloutSpec
    plan: WavePlan
    kernels: Mapping[str, Kernel]
    # Beyond the plan's own.
    blockers: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def all_blockers(self) -> tuple[str, ...]:
        """Every reason why this cannot start."""
        return (*self.plan.blockers, *self.blockers)


async def prepare(spec_yaml: str, file_name: str, world: World, kernels: Kernels) -> Prepared:
    """Return what the spec means for the hosts known now. Raises InvalidInput for a bad spec."""
    spec = parse_spec(spec_yaml, file_name)
    plan = plan_waves(spec, candidates(world), _seed(spec, spec_yaml))
    needed = sorted({planned.architecture for wave in plan.waves for planned in wave.hosts})
    found: dict[str, Kernel] = {}
    blockers: list[str] = []
    for architecture, source in sorted(spec.kernels.items()):
        if architecture not in needed:
            continue
        try:
            found[architecture] = await kernels.resolve(kernel_source(source), architecture)
        except KernrollError as error:
            blockers.append(f"spec.kernels.{architecture}: {error}")
    if world.by_name(spec.name) is not None:
        blockers.append(f"a rollout named {spec.name} exists already; give this one another metadata.name")
    return Prepared(
        spec=spec,
        plan=plan,
        kernels=found,
        blockers=tuple(blockers),
        notes=tuple(_already_there(world, plan, found)),
    )


def candidates(world: World) -> list[HostCandidate]:
    """Return every known host as a plan sees it."""
    return [
        HostCandidate(
            name=host.name,
            stratum=host.stratum,
            architecture=host.architecture,
            labels=host.labels,
            connected=host.connected,
            kernel_release=host.kernel_release,
            rollout=world.rollouts[world.active[host.name]].name if host.name in world.active else "",
        )
        for host in world.hosts.values()
    ]


def kernel_source(source: KernelSource) -> sources.KernelSource:
    """Return where a kernel comes from, without the document around it."""
    if source.debian is not None:
        flavour = "" if source.debian.flavour == "generic" else source.debian.flavour
        return sources.DebianKernel(version=source.debian.version, flavour=flavour, command_line=source.command_line)
    if source.directory is not None:
        return sources.PackageDirectoryKernel(path=source.directory, command_line=source.command_line)
    assert source.image is not None, "a checked spec names one source"
    return sources.ImageKernel(path=source.image.path, modules=source.image.modules, command_line=source.command_line)


def _seed(spec: RolloutSpec, spec_yaml: str) -> str:
    """A seed that is the rollout's own and the same on every re-plan."""
    return hashlib.sha256(f"{spec.name}\n{spec_yaml}".encode()).hexdigest()[:12]


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
