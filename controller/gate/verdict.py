"""The words of a judgement: verdicts, the state of a claim, and one judged cell."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Verdict(IntEnum):
    """What is known of one metric in one stratum, the better the smaller. Only PASS and MARGINAL may promote."""

    PASS = 0
    MARGINAL = 1  # a real difference for the worse, within what was declared tolerable
    NEED_MORE_DATA = 2  # runs are missing and may still come
    INCONCLUSIVE = 3  # all runs are in, and they do not decide
    FAIL = 4
    FATAL = 5  # the kernel broke: a fatal kernel-log line, or a host that did not come back


class ClaimState(StrEnum):
    """What the interval says about a claimed saving."""

    CONFIRMED = "confirmed"  # the whole interval is at or above the claim
    REFUTED = "refuted"  # the whole interval is below the claim
    OPEN = "open"  # the interval contains the claim, or there is nothing to build one from


class Action(StrEnum):
    """What the judgement asks of the rollout."""

    PROMOTE = "promote"
    HOLD = "hold"
    REVERT = "revert"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellVerdict:
    """One metric in one stratum."""

    stratum: str
    # "survival" for the cell that judges whether hosts and kernel lived.
    metric: str
    verdict: Verdict
    # None for cells that judge no claim.
    claim: ClaimState | None = None
    # The saving, in `unit`, with its interval. None when there is nothing to estimate from.
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    # What was claimed.
    bound: float | None = None
    # Hosts that the estimate rests on; for survival, hosts that ran the new kernel.
    hosts: int
    unit: str = ""
    # Numbers and outcome for people, ready to print.
    sentence: str
