"""The hosts of a simulated world: as many as asked for, made so that the rollout's selector takes them."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, assert_never

from controller.domain import kernels as sources
from controller.domain.errors import NotFound
from controller.domain.hosts.facts import is_fact
from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel
from controller.domain.spec.document import Expected, RolloutSpec
from controller.sim.faults.document import Group

# Facts are not labels: a selector names them without a host having to carry them.
_USUAL_OLD: Final = "7.0.13"
_USUAL_NEW: Final = "7.1.13"
_GIB: Final = 2**30


def groups_of(spec: RolloutSpec, given: Sequence[Group]) -> tuple[Group, ...]:
    """Return the fleet's groups; without any, virtual machines of every architecture in equal parts."""
    if given:
        return tuple(given)
    allowed = spec.selector.match.get("architecture", ())
    platforms = spec.selector.match.get("platform", ("vm",))
    names = [name for name in sorted(spec.kernels) if not allowed or name in allowed]
    return tuple(
        Group.model_construct(architecture=name, platform=platforms[0], share=1 / len(names), labels={}, spread={})
        for name in names
    )


def hosts_of(spec: RolloutSpec, groups: Sequence[Group], count: int) -> tuple[Host, ...]:
    """Return `count` hosts, shared among the groups, with the labels and the kernel that the spec asks for."""
    hosts = []
    names = _names(spec, count)
    for number, group in enumerate(_spread(groups, count)):
        labels = {key: values[0] for key, values in spec.selector.match.items() if not is_fact(key)}
        labels |= {key: f"{key}-{number % 3}" for key in spec.strata.labels if key not in labels}
        labels |= {key: f"{key}-{number % values + 1}" for key, values in group.spread.items()}
        labels |= group.labels
        hosts.append(
            Host(
                name=next(names),
                architecture=group.architecture,
                platform=group.platform,
                page_size_bytes=4096,
                memory_bytes=2 * _GIB,
                cpu_count=2,
                kernel_release=old_release(spec.expected.get(group.architecture), group.architecture),
                kernel_version="#1 SMP",
                boot_id="",
                labels=labels,
            )
        )
    return tuple(hosts)


def _names(spec: RolloutSpec, count: int) -> Iterator[str]:
    yield from spec.selector.hosts[:count]
    yield from (f"host-{number:05d}" for number in range(1, count + 1))


def _spread(groups: Sequence[Group], count: int) -> Iterator[Group]:
    """Deal the hosts out so that any first part of them has the shares of the whole."""
    dealt = [0.0] * len(groups)
    for number in range(1, count + 1):
        behind = max(range(len(groups)), key=lambda index: groups[index].share * number - dealt[index])
        dealt[behind] += 1
        yield groups[behind]


def old_release(expected: Expected | None, architecture: str) -> str:
    """Return what a host runs before the rollout: something that the spec's `from` accepts."""
    if expected is None:
        return f"{_USUAL_OLD}-{architecture}"
    if expected.version is not None:
        return f"{expected.version}-{architecture}"
    assert expected.release is not None, "a checked spec names one of the two"
    plain = expected.release.replace("*", "-sim").replace("?", "0")
    # A pattern with a character class is its own best example only by chance; the plan's blocker will say so.
    return plain if fnmatch.fnmatchcase(plain, expected.release) else expected.release


def old_kernel(host: Host) -> Kernel:
    """Return the kernel that a host runs before the rollout."""
    return Kernel(
        digest=f"old-{host.architecture}",
        release=host.kernel_release,
        architecture=host.architecture,
        source="simulated",
    )


class SimulatedKernels:
    """A kernel store that finds every kernel a spec names."""

    def __init__(self) -> None:
        self._found: dict[str, Kernel] = {}

    async def resolve(self, source: sources.KernelSource, architecture: str) -> Kernel:
        """See Kernels."""
        match source:
            case sources.DebianKernel(version=version):
                release = f"{version}-{architecture}"
            case sources.PackageDirectoryKernel() | sources.ImageKernel():
                # Nobody looks into the file; a later version than what hosts run, named after where it comes from.
                release = f"{_USUAL_NEW}-{source.path.rstrip('/').rpartition('/')[2]}-{architecture}"
            case _:
                assert_never(source)
        kernel = Kernel(
            digest=f"new-{architecture}", release=f"{release}-new", architecture=architecture, source="simulated"
        )
        self._found[kernel.digest] = kernel
        return kernel

    async def load(self, digest: str) -> Kernel:
        """See Kernels."""
        if digest not in self._found:
            raise NotFound(f"no kernel {digest}")
        return self._found[digest]


def by_stratum(hosts: Sequence[Host]) -> Mapping[str, int]:
    """Return how many hosts each stratum has, by name."""
    found: dict[str, int] = {}
    for host in hosts:
        found[host.stratum] = found.get(host.stratum, 0) + 1
    return dict(sorted(found.items()))
