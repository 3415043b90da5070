"""The memory of kernels that evidence spoke against: denied until a person clears them.

It is read from the rollouts' own events, so that no crash can come between a revert and its memory.
"""

from collections.abc import Mapping
from dataclasses import replace

from controller.domain.fleet.decided import Denial
from controller.domain.hosts.strata import Stratum, read_stratum
from controller.domain.judging.waves import failed_strata
from controller.domain.record.checks import Outcome
from controller.domain.record.control import (
    StratumHeld,
)
from controller.domain.record.events import (
    RevertStarted,
    RolloutEvent,
)
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout

# Who denies what nobody asked to deny.
CONTROLLER = "controller"


def condemned(rollout: Rollout, attempts: Mapping[str, Attempt], event: RolloutEvent) -> tuple[Denial, ...]:
    """Return the rules that follow from a rollout's event, with the rollout as it is after it.

    A revert that evidence caused condemns the kernel of the architecture that the evidence is of; a stratum that is
    held condemns it on that stratum's hosts. What an operator reverts is not condemned, nor what goes back because a
    check was not answered in time.
    """
    if rollout.policy.aa:
        return ()
    if isinstance(event, RevertStarted) and event.by == CONTROLLER and not _unanswered(rollout, event):
        reason = f"rollout {rollout.name} reverted it: {event.reason}"
        return tuple(
            _denial(rollout, architecture, where="", reason=reason, at=event.at)
            for architecture in sorted(_architectures(rollout, attempts, event.host))
        )
    if isinstance(event, StratumHeld):
        reason = f"rollout {rollout.name} took it back from {event.stratum}: {event.reason}"
        return (_limited(rollout, _stratum(rollout, event.stratum), reason=reason, at=event.at),)
    # Nothing else says that the kernel is bad.
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
    return {read_stratum(stratum).architecture for stratum in failed} or set(rollout.kernels)


def _denial(rollout: Rollout, architecture: str, *, where: str, reason: str, at: float) -> Denial:
    kernel = rollout.kernels[architecture].digest
    return Denial(kernel=kernel, where=where, reason=reason, at=at, by=CONTROLLER, rollout=rollout.name)


def _limited(rollout: Rollout, stratum: Stratum, *, reason: str, at: float) -> Denial:
    denial = _denial(rollout, stratum.architecture, where=stratum.where(), reason=reason, at=at)
    return replace(denial, formerly=stratum.former_where())


def _stratum(rollout: Rollout, text: str) -> Stratum:
    """Return the stratum of a text of this rollout's plan."""
    keys = rollout.policy.strata_labels
    if keys is None:
        # Planned before they were kept. Where labels begin and end cannot be told unless there is one and a plain one;
        # else the whole platform is denied: too much is the safe side.
        guessed = read_stratum(text)
        return guessed if text.count("/") <= 2 and text.count("=") <= 1 else replace(guessed, labels=())
    return read_stratum(text, keys)
