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


class MetricRole(StrEnum):
    """What a metric may do to the decision."""

    CRITICAL = "critical"  # must pass to promote; a failure reverts
    GUARD = "guard"  # a failure holds
    NEGATIVE_CONTROL = "negative_control"  # cannot depend on the kernel: when it moves, the rig moved
    EXPLAIN = "explain"  # told, decides nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One judged metric in one stratum."""

    stratum: str
    # "completion" for the cell that asks whether runs end, "survival" for what hosts and kernel logs showed.
    metric: str
    role: MetricRole = MetricRole.CRITICAL
    verdict: Verdict
    # None for cells that judge no claim.
    claim: ClaimState | None = None
    # For a claim the saving in `unit`, more is better. Otherwise the change for the worse, less is better: in percent,
    # or in `unit` for a metric whose measurement error is known. None when there is none; a bound that so few blocks
    # cannot give is None too.
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    # What the interval is held against: the margin, or what was claimed; None for completion and survival.
    bound: float | None = None
    # Below this a change for the worse does not revert, in percent; None for claims, completion and survival.
    tolerated: float | None = None
    unit: str = ""
    # Blocks with a value (hosts, pairs, cycles), and blocks planned; of two arms the treated hosts, with the control
    # hosts beside them. For survival, hosts that ran the new kernel.
    blocks: int = 0
    controls: int = 0
    planned_blocks: int = 0
    # The look that decided, from 1, and how many were planned.
    look: int = 0
    looks: int = 0
    # Hosts (pairs, cycles) far outside the others.
    sick: tuple[str, ...] = ()
    # Numbers and outcome for people, ready to print.
    sentence: str
