"""What a rollout would do, before anything is done."""

from collections.abc import Iterable, Mapping

from controller.domain.kernels import Kernel
from controller.domain.planning.design import calendars
from controller.domain.planning.selection import WavePlan
from controller.domain.spec.document import Claim, RolloutSpec
from controller.gate.trial.model import Calendar
from controller.views.plan_models import (
    PlannedCellView,
    PlannedClaimView,
    PlannedComparisonView,
    PlannedMemberView,
    PlannedWaveView,
    PlanView,
)
from controller.views.rollouts.checks import planned_checks
from controller.views.rollouts.status import kernel_views
from controller.words import count_text

# What a block is called, and what stands beside it.
_BLOCKS = {
    "two_arms": ("treated host", " and as many control hosts"),
    "matched_pairs": ("pair", ""),
    "abba": ("cycle", ""),
}
_REFUTED = {"pause": "pauses the rollout", "revert": "reverts the rollout"}


def plan_view(
    spec: RolloutSpec,
    plan: WavePlan,
    kernels: Mapping[str, Kernel],
    *,
    blockers: Iterable[str] = (),
    notes: Iterable[str] = (),
    cells: Iterable[PlannedCellView] = (),
    pace: Iterable[str] = (),
    aa: bool = False,
) -> PlanView:
    """Return the plan; `blockers` and `notes` are sentences added to those of the waves, such as a missing kernel."""
    return PlanView(
        name=spec.name,
        aa=aa,
        cells=tuple(cells),
        checks=() if aa else planned_checks([one.check for one in spec.checks]),
        pace=tuple(pace),
        waves=tuple(
            PlannedWaveView(
                number=wave.number,
                hosts=tuple(planned.host for planned in wave.hosts),
                bake_s=wave.bake_s,
                compared=tuple(
                    PlannedMemberView(host=one.host, role=one.role.value, pair=one.pair, cycles=one.cycles)
                    for one in wave.hosts
                    if one.compared
                ),
            )
            for wave in plan.waves
        ),
        kernels=kernel_views(kernels),
        claims=() if aa else tuple(_claim(claim) for claim in spec.claims),
        blockers=(*plan.blockers, *blockers),
        notes=(*plan.notes, *notes),
        seed=plan.seed,
        host_count=sum(len(wave.hosts) for wave in plan.waves),
        design="before_after" if aa else spec.design,
        comparisons=tuple(_comparison(spec, one) for one in _calendars(spec, plan)),
    )


def _calendars(spec: RolloutSpec, plan: WavePlan) -> tuple[Calendar, ...]:
    return calendars(spec.design, [wave.hosts for wave in plan.waves], {})


def _comparison(spec: RolloutSpec, calendar: Calendar) -> PlannedComparisonView:
    blocks, wave = calendar.blocks[-1], int(calendar.until[-1]) + 1
    one, beside = _BLOCKS[spec.design]
    looks = ", ".join(map(str, calendar.blocks[:-1]))
    looked = f"looks at {looks} and {blocks}" if looks else f"one look, at {blocks}"
    return PlannedComparisonView(
        stratum=calendar.stratum,
        blocks=blocks,
        controls=calendar.controls[-1] if calendar.controls else 0,
        looks=calendar.blocks,
        decided_after=wave,
        sentence=f"{calendar.stratum}: {count_text(blocks, one)}{beside}; {looked}, decided after wave {wave}.",
    )


def _claim(claim: Claim) -> PlannedClaimView:
    sentence = (
        f"{claim.metric} must fall by at least {claim.saves_at_least:g} {claim.unit} on every stratum, with "
        f"{claim.confidence * 100:.6g} % confidence; "
        f"a refuted claim {_REFUTED[claim.on_refuted]}, an open one pauses it."
    )
    return PlannedClaimView(metric=claim.metric, unit=claim.unit, at_least=claim.saves_at_least, sentence=sentence)
