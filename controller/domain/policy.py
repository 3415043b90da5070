"""The numbers of a spec that decide steps: resolved, in seconds, without the document around them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A saving the author of the kernel claims."""

    metric: str
    unit: str
    at_least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the engine may do, how long it waits, and what it does when a verdict is in."""

    max_in_flight: int
    stage_timeout_s: float
    boot_timeout_s: float
    probation_timeout_s: float
    baseline_timeout_s: float
    silence_timeout_s: float
    revert_timeout_s: float
    # How often a leg is measured again after the rig broke.
    infrastructure_retries: int
    # How often a leg is measured again after a run died or timed out; the next one is an outcome.
    died_retries: int
    repetitions: int
    warmups: int
    # One entry per wave.
    bake_s: tuple[float, ...]
    claims: tuple[Claim, ...]
    # "pause" or "revert".
    on_refuted: str
    # "revert" or "hold".
    on_stratum_failure: str
    # Control hosts or crossover hosts are part of the design.
    design: str = "before_after"
