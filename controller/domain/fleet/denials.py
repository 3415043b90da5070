"""Which kernels must not reach which hosts. A rule that a host gives no answer to keeps the kernel from it."""

from collections.abc import Iterable, Iterator, Sequence

from controller.domain.errors import InvalidInput
from controller.domain.fleet.decided import Denial, Fleet
from controller.domain.hosts.expressions import recorded
from controller.domain.hosts.facts import Subject
from controller.domain.hosts.host import Host
from controller.domain.hosts.matching import decide
from controller.domain.hosts.release_patterns import pattern_problem
from controller.domain.kernels import Kernel
from controller.domain.printable import printable


def check_kernel(kernel: str) -> None:
    """Raise InvalidInput for what can name no kernel: such a rule would keep nothing from anybody."""
    told = f"kernel {printable(kernel, 128)!r}"
    if problem := pattern_problem(kernel):
        raise InvalidInput(
            f"{told}: must be a digest, 12 digits or more of one, a version, or a pattern over `uname -r`: {problem}"
        )
    if not kernel.strip("*?"):
        raise InvalidInput(f"{told}: would deny every kernel; `kernroll fleet freeze` stops all rollouts")


def denial_of(denials: Sequence[Denial], kernel: Kernel, subject: Subject) -> Denial | None:
    """Return the rule that keeps the kernel from this host, the oldest if there are several; None when none does."""
    for rule in denials:
        if rule.meets(kernel) and (not rule.where or decide(recorded(rule.where), subject) is not False):
            return rule
    return None


def everywhere(denials: Sequence[Denial], kernels: Iterable[Kernel]) -> Iterator[str]:
    """Yield a sentence for every kernel that is denied on all hosts."""
    for kernel in kernels:
        rule = next((one for one in denials if not one.where and one.meets(kernel)), None)
        if rule is not None:
            yield f"{denied(rule, kernel)}; `kernroll hosts allow {rule.kernel}` takes that back."


def denied(rule: Denial, kernel: Kernel) -> str:
    """Return a sentence without a full stop that tells who denied the kernel, and why."""
    where = f" where {rule.where}" if rule.where else ""
    return f"{kernel.release} is denied{where} by {rule.by}: {rule.reason}"


def subject(host: Host, fleet: Fleet, *, rollout: str = "", step: str = "") -> Subject:
    """Return a host as expressions see it, with its labels as they hold."""
    quarantined = host.name in fleet.quarantined
    return Subject(host=host, labels=fleet.labels_of(host), quarantined=quarantined, rollout=rollout, step=step)
