"""What else changed on hosts between their kernels, as sentences: one a change, with the hosts that it happened on."""

from collections.abc import Iterable

from controller.domain.judging.confounders import differences
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout
from controller.words import names_text

# A report lists so many; more of them are counted.
_MOST = 50


def confounder_lines(rollout: Rollout, attempts: Iterable[Attempt]) -> tuple[str, ...]:
    """Return a sentence for every change beside the kernel, by name; most of a fleet changes alike or not at all."""
    hosts: dict[tuple[str, str, str], list[str]] = {}
    for attempt in attempts:
        for one in differences(rollout, attempt):
            hosts.setdefault((one.name, one.before, one.after), []).append(one.host)
    counts = "does not count" if rollout.policy.confounders == "void" else "counts all the same"
    lines = [
        f"Beside the kernel {name} changed from {_value(before)} to {_value(after)} on {names_text(sorted(names))}; "
        f"what they measured {counts}."
        for (name, before, after), names in sorted(hosts.items())
    ]
    more = len(lines) - _MOST
    return (*lines[:_MOST], *((f"And {more} more changes.",) if more > 0 else ()))


def _value(text: str) -> str:
    return f"“{text}”" if text else "nothing"
