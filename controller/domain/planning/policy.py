"""The policy that a spec describes, with what the ledger knows by now."""

from collections.abc import Iterable, Mapping

from controller.domain.record.policy import LONGEST_WAVE_S, Claim, PlaceBound, Policy, SuspendedCell, Task, WavePolicy
from controller.domain.spec.document import Limits, RolloutSpec
from controller.domain.spec.margins import contrast_sigmas, margins_of
from controller.gate.ledger import Ledger, differences, learn, old_against_old, suspensions
from controller.gate.metrics import METRICS
from controller.gate.planning.fleet_power import cell_boots

_FLEET = "fleet"
# What holds where the operator bounds nothing.
_CAUTIOUS_FLEET = PlaceBound(key=_FLEET, share=0.02)
_ONE_A_ZONE = PlaceBound(key="zone", count=1)


def policy_of(
    spec: RolloutSpec,
    bake_s: tuple[float, ...],
    *,
    waves: tuple[WavePolicy, ...] | None = None,
    aa: bool = False,
    ledger: Ledger | None = None,
    strata: Iterable[str] = (),
) -> Policy:
    """Return the policy that a checked spec describes, with what the ledger knows of the strata.

    `bake_s` and `waves` have one entry per planned wave. With `aa` nothing is claimed, because nothing changes.
    """
    limits = spec.limits
    known = ledger or Ledger()
    return Policy(
        max_in_flight=limits.max_in_flight,
        max_unavailable=_bounds(limits),
        error_budget_hosts=limits.error_budget.hosts,
        error_budget_share=limits.error_budget.share,
        approval_timeout_s=limits.approval_timeout_s,
        windows=tuple(one.window for one in spec.windows),
        revert_slo_s=None if spec.drill is None or aa else spec.drill.revert_slo_s,
        waves=tuple(WavePolicy(max_duration_s=LONGEST_WAVE_S) for _ in bake_s) if waves is None else waves,
        stage_timeout_s=limits.stage_timeout_s,
        boot_timeout_s=limits.boot_timeout_s,
        probation_timeout_s=limits.probation_timeout_s,
        baseline_timeout_s=limits.baseline_timeout_s,
        silence_timeout_s=limits.heartbeat_timeout_s,
        revert_timeout_s=limits.revert_timeout_s,
        power_cycles=1 if limits.power_cycle == "once" else 0,
        require_watchdog=limits.watchdog == "required",
        infrastructure_retries=limits.infrastructure_retries,
        died_retries=limits.died_retries,
        tasks=tuple(
            Task(
                workload=name,
                preset=getattr(workload, "preset", None) or "",
                parameters=workload.parameters,
                repetitions=workload.repetitions,
                warmups=workload.warmups,
                timeout_s=workload.timeout_s,
            )
            for name, workload in spec.workloads.given.items()
        ),
        bake_s=bake_s,
        claims=() if aa else _claims(spec),
        on_stratum_failure=spec.on_stratum_failure,
        design="before_after" if aa else spec.design,
        contrast_sigmas=contrast_sigmas("before_after" if aa else spec.design, spec.workloads, set(strata), known),
        # Old against old changes nothing that others could notice.
        checks=() if aa else tuple(one.check for one in spec.checks),
        confounders=spec.confounders,
        strata_labels=spec.strata.labels,
        known_lines=tuple(one.known_line for one in spec.known_lines),
        accept_missing_logs=spec.accept_missing_logs or "",
        aa=aa,
        margins=margins_of(spec),
        suspended=tuple(
            SuspendedCell(stratum=stratum, metric=metric, why=why)
            for (stratum, metric), why in suspensions(known.judgements).items()
        ),
        sigma_host={
            name: found for name in sorted(METRICS) if (found := _learned_sigma_host(known, sorted(set(strata)), name))
        },
    )


def _bounds(limits: Limits) -> tuple[PlaceBound, ...]:
    """Return the disruption budget: as given, and a cautious one where nothing else bounds the fleet."""
    given = limits.max_unavailable
    bounds = [] if given is not None else [_ONE_A_ZONE]
    for key, value in (given or {}).items():
        if isinstance(value, int):
            bounds.append(PlaceBound(key=key, count=value))
        else:
            bounds.append(PlaceBound(key=key, share=value))
    if limits.max_in_flight is None and _FLEET not in (given or {}):
        bounds.insert(0, _CAUTIOUS_FLEET)
    return tuple(bounds)


def _claims(spec: RolloutSpec) -> tuple[Claim, ...]:
    return tuple(
        Claim(
            metric=claim.metric,
            unit=claim.unit,
            at_least=claim.saves_at_least,
            confidence=claim.confidence,
            extrapolate=claim.extrapolate == "swap_size",
            on_refuted=claim.on_refuted,
        )
        for claim in spec.claims
    )


def _learned_sigma_host(ledger: Ledger, strata: Iterable[str], metric: str) -> Mapping[str, float]:
    """Return the strata where enough hosts were seen. A reboot's change holds the runs' own error too: it is wide."""
    found = {}
    for stratum in strata:
        changes = differences(old_against_old(cell_boots(ledger, stratum, metric)))
        noise = learn(changes, METRICS[metric].sigma_host)
        if noise.hosts:
            found[stratum] = noise.sigma
    return found
