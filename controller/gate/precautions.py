"""What is done about hosts before any error is spent: re-measure a sick one, stop a wave that is a catastrophe.

Neither is a verdict. A pause costs time and no error, so it needs no boundary; a quarantine takes a host out of what
the next look may rest on, by name, and only after it has been measured twice.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

# A change of ten margins is no matter of statistics when two hosts have it.
CATASTROPHE_MARGINS: Final = 10.0
CATASTROPHE_HOSTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SickList:
    """What is to be done about the hosts that `outliers` named, by name."""

    # Named for the first time: to be measured again, once.
    rerun: tuple[str, ...]
    # Named again after that: to be left out and shown.
    quarantined: tuple[str, ...]


def sick_list(named: Iterable[str], measured_again: Iterable[str]) -> SickList:
    """Return what to do about the hosts that are named now, given those whose second measurement is in."""
    sick, again = set(named), set(measured_again)
    return SickList(rerun=tuple(sorted(sick - again)), quarantined=tuple(sorted(sick & again)))


def is_far_worse(change: float, margin: float) -> bool:
    """Whether one host is worse by more than ten margins (log units); a missing change (NaN) is not."""
    return not math.isnan(change) and change > CATASTROPHE_MARGINS * margin


def catastrophe(changes: Mapping[str, float], margin: float) -> tuple[str, ...]:
    """Return the hosts of a stratum that are worse by more than ten margins (log units), if there are two or more.

    A host whose runs all timed out (+inf) is one of them; a missing change (NaN) is not.
    """
    assert margin > 0, "a margin is positive"
    beyond = sorted(host for host, change in changes.items() if is_far_worse(change, margin))
    return tuple(beyond) if len(beyond) >= CATASTROPHE_HOSTS else ()
