"""What speaks against giving kernels to hosts that start from their own disk; said when a plan is made."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel
from controller.words import names_text

# The delivery that serves such hosts, as plans name it.
DELIVERY: Final = "ansible"


_Reasons = dict[tuple[str, str], list[str]]


def not_to_be_risked(hosts: Iterable[Host]) -> Iterator[str]:
    """Yield a sentence for each thing that keeps hosts from coming back by themselves, with its remedy."""
    by_reason: _Reasons = defaultdict(list)
    for host in hosts:
        if host.boot is None:
            by_reason["it no longer tells what it boots by", "see that kernroll-boot is installed there"].append(
                host.name
            )
            continue
        for refusal in host.boot.refusals:
            by_reason[refusal.cause, refusal.remedy].append(host.name)
        if not host.boot.refusals and host.boot.proven_at is None:
            remedy = "prove it with `kernroll hosts rehearse -i INVENTORY NAME`"
            by_reason["nobody has seen yet that it comes back by itself", remedy].append(host.name)
    yield from _sentences(by_reason)


def without_watchdog(hosts: Iterable[Host]) -> Iterator[str]:
    """Yield a sentence for each thing that is missing for a hang to end by itself, with its remedy."""
    by_reason: _Reasons = defaultdict(list)
    for host in hosts:
        if host.boot is None:
            # Which speaks against it already.
            continue
        if host.boot.watchdog is None:
            remedy = "bring a newer kernroll-boot there with `kernroll hosts enroll`"
            by_reason["it does not tell whether a watchdog would end a hang", remedy].append(host.name)
            continue
        for gap in host.boot.watchdog.gaps:
            by_reason[gap.cause, gap.remedy].append(host.name)
    yield from _sentences(by_reason)


def _sentences(by_reason: _Reasons) -> Iterator[str]:
    for (cause, remedy), names in by_reason.items():
        yield f"{names_text(sorted(names))}: {cause}. {remedy[:1].upper()}{remedy[1:]}."


def not_installable(hosts: Iterable[Host], kernels: Mapping[str, Kernel]) -> Iterator[str]:
    """Yield a sentence for each kernel that cannot be installed on the hosts of its architecture."""
    by_architecture: dict[str, list[str]] = defaultdict(list)
    by_kind: dict[tuple[str, str], list[str]] = defaultdict(list)
    for host in hosts:
        by_architecture[host.architecture].append(host.name)
        by_kind[host.architecture, host.boot.packages if host.boot else ""].append(host.name)
    for architecture, kernel in sorted(kernels.items()):
        names = sorted(by_architecture.get(architecture, ()))
        if names and not kernel.packages:
            yield (
                f"spec.kernels.{architecture}: {kernel.release} has no complete set of packages, and "
                f"{names_text(names)} can only be given a kernel that way: name a version that the mirror has in full, "
                "or a directory of packages."
            )
        elif names and kernel.command_line:
            yield (
                f"spec.kernels.{architecture}: command_line cannot be given to {names_text(names)}, which start from "
                "their own disk with a command line of their own: set it there and leave it out here."
            )
        yield from _of_another_kind(architecture, kernel, by_kind)


def _of_another_kind(architecture: str, kernel: Kernel, by_kind: Mapping[tuple[str, str], list[str]]) -> Iterator[str]:
    """Yield a sentence for hosts whose package manager takes no packages of the kernel's kind, where they tell it."""
    for (of, kind), names in sorted(by_kind.items()):
        if of == architecture and kind and kernel.package_kind and kind != kernel.package_kind:
            yield (
                f"spec.kernels.{architecture}: {kernel.release} is in {kernel.package_kind} packages, and "
                f"{names_text(sorted(names))} can only be given {kind} packages: give them a rollout of their own with "
                f"a directory of .{kind} packages, or leave them out."
            )
