"""The memory of kernels that evidence spoke against: denied until a person clears them.

It is read from the rollouts' own events, so that no crash can come between a revert and its memory.
"""

from collections.abc import Mapping

from controller.domain.attempt import Attempt
from controller.domain.checks import Outcome
from controller.domain.control_events import StratumHeld
from controller.domain.events import Event, RevertStarted
from controller.domain.fleet import Denial
from controller.domain.judgement import failed_strata
from controller.domain.rollout import Rollout

# Who denies what nobody asked to deny.
CONTROLLER = "controller"


def condemned(rollout: Rollout, attempts: Mapping[str, Attempt], event: Event) -> tuple[Denial, ...]:
    """Return the rules that follow from a rollout's event, with the rollout as it is after it.

    A revert that evidence caused condemns the kernel of the architecture that the evidence is of; a stratum that is
    held condemns it on that stratum's hosts. What an operator reverts is not condemned, nor what goes back because a
    check was not answered in time.
    """
    if rollout.policy.aa:
        return ()
    match event:
        case RevertStarted() if event.by == CONTROLLER and not _unanswered(rollout, event):
            reason = f"rollout {rollout.name} reverted it: {event.reason}"
            return tuple(
                _denial(rollout, architecture, where="", reason=reason, at=event.at)
                for architecture in sorted(_architectures(rollout, attempts, event.host))
            )
        case StratumHeld():
            reason = f"rollout {rollout.name} took it back from {event.stratum}: {event.reason}"
            architecture = event.stratum.partition("/")[0]
            return (_denial(rollout, architecture, where=_where(event.stratum), reason=reason, at=event.at),)
        case _:
            return ()


def _unanswered(rollout: Rollout, event: RevertStarted) -> bool:
    """Whether hosts go back after a good verdict and no check has failed: nothing was seen of the kernel then."""
    if event.host or not rollout.passed or rollout.asking is None:
        return False
    failing = {check.name for check in rollout.policy.checks if check.on_fail == "revert" and not check.dry_run}
    return not any(one.check in failing and one.outcome is Outcome.FAIL for one in rollout.asking.results)


def _architectures(rollout: Rollout, attempts: Mapping[str, Attempt], host: str) -> set[str]:
    if host in attempts:
        return {attempts[host].architecture}
    failed = failed_strata(rollout, rollout.judged[-1]) if rollout.judged else {}
    return {stratum.partition("/")[0] for stratum in failed} or set(rollout.kernels)


def _denial(rollout: Rollout, architecture: str, *, where: str, reason: str, at: float) -> Denial:
    kernel = rollout.kernels[architecture].digest
    return Denial(kernel=kernel, where=where, reason=reason, at=at, by=CONTROLLER, rollout=rollout.name)


def _where(stratum: str) -> str:
    """Return the expression that the hosts of "arm64/vm/zone=a" match; a missing label is "?" in a stratum."""
    architecture, platform, *labels = stratum.split("/")
    conditions = [f'stratum == "{architecture}/{platform}"']
    for label in labels:
        key, _, value = label.partition("=")
        conditions.append(
            f'!("{key}" in labels)' if value == "?" else f'"{key}" in labels && labels["{key}"] == {_quoted(value)}'
        )
    return " && ".join(conditions)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
