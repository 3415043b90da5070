"""What the gate said of a wave, as it is recorded: enough to tell it again without judging it again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCell:
    """One cell of a verdict, as the gate gave it."""

    stratum: str
    metric: str
    verdict: str
    claim: str
    sentence: str
    unit: str
    hosts: int
    # None when there was nothing to estimate from.
    low: float | None
    estimate: float | None
    high: float | None
    bound: float | None
    # "critical" decides; a failing "guard" or a moving "negative_control" holds; "told" decides nothing: what a rollout
    # without a design shows, or old against old.
    role: str = "critical"
    # Of two arms the control hosts beside `hosts`; the look that decided, from 1, of how many.
    controls: int = 0
    look: int = 0
    looks: int = 0
    # Hosts (pairs, cycles) far outside the others.
    outliers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedStratum:
    """What one stratum's cells ask for."""

    stratum: str
    # "promote", "hold" or "revert".
    decision: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveJudged:
    at: float
    wave: int
    # "promote", "hold" or "revert"; "measure_again" when hosts are measured once more before anything is decided.
    decision: str
    sentence: str
    cells: tuple[JudgedCell, ...]
    # Empty in logs from before this was kept.
    strata: tuple[JudgedStratum, ...] = ()
    # Hosts far outside the others: to be measured once more, and left out because that changed nothing.
    measure_again: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    # Observations that decide nothing.
    remarks: tuple[str, ...] = ()
