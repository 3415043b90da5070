"""The numbers of a spec that decide steps: resolved, in seconds, without the document around them."""

from dataclasses import dataclass

from controller.domain.spec import RolloutSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A saving the author of the kernel claims."""

    metric: str
    unit: str
    at_least: float
    # Two-sided confidence of the interval.
    confidence: float = 0.99
    # Whether the report multiplies the saving by the fleet's swap.
    extrapolate: bool = True
    # "pause" or "revert".
    on_refuted: str = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapMountTask:
    """What to mount: exactly one of the two."""

    # An existing block device; empty when a RAM disk is used.
    block_device: str = ""
    # The size of a brd RAM disk made for the run; 0 when a block device is used.
    brd_size_bytes: int = 0


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
    # All runs of one leg together.
    workload_timeout_s: float
    task: SwapMountTask
    repetitions: int
    warmups: int
    # One entry per wave.
    bake_s: tuple[float, ...]
    claims: tuple[Claim, ...]
    # "revert" or "hold".
    on_stratum_failure: str


def policy_of(spec: RolloutSpec, bake_s: tuple[float, ...]) -> Policy:
    """Return the policy that a checked spec describes; `bake_s` has one entry per planned wave."""
    workload = spec.workloads.swap_mount
    assert workload is not None, "a checked spec has a workload"
    device = workload.device
    limits = spec.limits
    return Policy(
        max_in_flight=limits.max_in_flight,
        stage_timeout_s=limits.stage_timeout_s,
        boot_timeout_s=limits.boot_timeout_s,
        probation_timeout_s=limits.probation_timeout_s,
        baseline_timeout_s=limits.baseline_timeout_s,
        silence_timeout_s=limits.heartbeat_timeout_s,
        revert_timeout_s=limits.revert_timeout_s,
        infrastructure_retries=limits.infrastructure_retries,
        died_retries=limits.died_retries,
        workload_timeout_s=workload.timeout_s,
        task=SwapMountTask(block_device=device.block_device or "", brd_size_bytes=device.brd_size or 0),
        repetitions=workload.repetitions,
        warmups=workload.warmups,
        bake_s=bake_s,
        claims=tuple(
            Claim(
                metric=claim.metric,
                unit=claim.unit,
                at_least=claim.saves_at_least,
                confidence=claim.confidence,
                extrapolate=claim.extrapolate == "swap_size",
                on_refuted=claim.on_refuted,
            )
            for claim in spec.claims
        ),
        on_stratum_failure=spec.on_stratum_failure,
    )
