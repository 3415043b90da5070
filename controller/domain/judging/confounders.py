"""What changed on a host between its kernels beside the kernel: another cause that its measurements may have.

Every workload's first run of a boot brings the environment along, a JSON document that the agent wrote. Compared is
what both boots tell of; what a kernel does not show is no difference, because the kernel itself may have added it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.domain.bounds import digits
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout

_COMMAND_LINE = "kernel_command_line"
_MEMORY = "memory_bytes"
# Kernels keep unequal parts of the memory for themselves.
_SAME_MEMORY = 0.02
# Which image is booted says which kernel it is.
_OF_THE_BOOT = ("BOOT_IMAGE=", "initrd=", "root=")
# A value is told up to here.
_LONGEST = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as it was under the baseline."""

    host: str
    # For example "vm.swappiness".
    name: str
    # Empty for a command line that only gained or lost words.
    before: str
    after: str


def differences(rollout: Rollout, attempt: Attempt) -> tuple[Difference, ...]:
    """Return what differs between the host's baseline and its later boots, by name; each once."""
    kernel = rollout.kernels.get(attempt.architecture)
    ours = kernel.command_line.split() if kernel is not None else []
    found: dict[str, Difference] = {}
    for before, after in _pairs(attempt):
        for name in sorted(before.keys() & after.keys() - found.keys()):
            told = _differs(name, before[name], after[name], ours)
            if told is not None:
                was, now = (text[:_LONGEST] for text in told)
                found[name] = Difference(host=attempt.host, name=name, before=was, after=now)
    return tuple(found[name] for name in sorted(found))


def _pairs(attempt: Attempt) -> Iterator[tuple[Mapping[str, str], Mapping[str, str]]]:
    """Yield the environments of the same workload under the baseline and under each later boot."""
    baseline: dict[str, Mapping[str, str]] = {}
    for run in attempt.runs:
        if not run.environment:
            continue
        here: Mapping[str, str] = json.loads(run.environment)
        if run.leg == 0:
            # The newest command counts: it was made because the one before could not.
            baseline[run.workload] = here
        elif run.workload in baseline:
            yield baseline[run.workload], here


def _differs(name: str, before: str, after: str, ours: list[str]) -> tuple[str, str] | None:
    if name == _COMMAND_LINE:
        old, new = _words(before, ours), _words(after, ours)
        gone, come = [word for word in old if word not in new], [word for word in new if word not in old]
        return (" ".join(gone), " ".join(come)) if gone or come else None
    old_bytes, new_bytes = digits(before), digits(after)
    if name == _MEMORY and old_bytes is not None and new_bytes is not None:
        return None if abs(new_bytes - old_bytes) <= _SAME_MEMORY * old_bytes else (before, after)
    return None if before == after else (before, after)


def _words(line: str, ours: list[str]) -> list[str]:
    """Return a command line without what says which kernel is booted and what the rollout itself appends."""
    return [word for word in line.split() if not word.startswith(_OF_THE_BOOT) and word not in ours]


def voided(rollout: Rollout, attempts: Iterable[Attempt]) -> Mapping[str, str]:
    """Return the hosts whose measurements do not count, and why; none unless the rollout file says `void`.

    Where nothing is on record nobody knows what changed, and that is no better.
    """
    if rollout.policy.confounders != "void":
        return {}
    return {one.host: why for one in attempts if (why := _why(rollout, one))}


def _why(rollout: Rollout, attempt: Attempt) -> str:
    found = differences(rollout, attempt)
    if found:
        return f"beside the kernel {_named(found)} changed between its boots"
    legs = {run.leg for run in attempt.runs}
    told = {run.leg for run in attempt.runs if run.environment}
    return "" if len(legs) < 2 or legs == told else "its environment is not on record under both kernels"


def _named(found: tuple[Difference, ...]) -> str:
    shown = [f"{one.name} ({one.before or 'nothing'} → {one.after or 'nothing'})" for one in found[:3]]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(shown) + more
