"""What a rollout's design takes and can see: comparisons the margins ask for, when they are looked at, refusals."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count

from controller.domain.planning.selection import WavePlan
from controller.domain.record.events import PlannedHost
from controller.domain.record.journey import Role
from controller.domain.spec.document import RolloutSpec
from controller.domain.spec.margins import GATE_DESIGNS, contrast_sigma, margins_of, performance_metrics
from controller.gate.ledger import Ledger
from controller.gate.planning.power import detectable, first_fail, plan_cell
from controller.gate.priors import Prior
from controller.gate.statistics.cells import CellPlan, Method
from controller.gate.statistics.contrasts import log_margin
from controller.gate.trial.model import Calendar
from controller.gate.verdict import MetricRole

# What one comparison is called, and several.
_COMPARISONS = {
    "two_arms": ("control host", "control hosts"),
    "matched_pairs": ("pair", "pairs"),
    "abba": ("host", "hosts"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """A metric that the design must decide, with what is known of its noise."""

    prior: Prior
    # Log units; the deviation is that of one contrast.
    margin: float
    sigma: float
    # Cells that share the error of a false revert with it, itself included.
    share: int


def needed_comparisons(spec: RolloutSpec, strata: Iterable[str], ledger: Ledger) -> Mapping[str, int]:
    """Return how many comparisons every stratum's margins take, by what is known of the noise."""
    if spec.design == "before_after":
        return {}
    names = sorted(strata)
    return {
        stratum: max(
            math.ceil(_plan(spec, cell).n_max / _cycles(spec)) for cell in _cells(spec, stratum, names, ledger)
        )
        for stratum in names
    }


def calendars(
    design: str, waves: Sequence[Sequence[PlannedHost]], sigmas: Mapping[str, Mapping[str, float]]
) -> tuple[Calendar, ...]:
    """Return when every stratum is looked at: at the end of each wave (its number from 0) with hosts to compare."""
    blocks: dict[str, dict[int, int]] = defaultdict(dict)
    controls: dict[str, dict[int, int]] = defaultdict(dict)
    for wave, hosts in enumerate(waves):
        for host in hosts:
            if not host.compared:
                continue
            of = controls if host.role is Role.CONTROL else blocks
            of[host.stratum][wave] = of[host.stratum].get(wave, 0) + host.cycles
    return tuple(
        Calendar(
            stratum=stratum,
            until=tuple(map(float, own)),
            blocks=tuple(accumulate(own.values())),
            controls=tuple(accumulate(controls[stratum].values())) if design == "two_arms" else (),
            sigmas=tuple(sorted(sigmas.get(stratum, {}).items())),
        )
        for stratum, own in sorted(blocks.items())
    )


def refusals(spec: RolloutSpec, plan: WavePlan, ledger: Ledger) -> Iterator[str]:
    """Yield why the design can decide nothing on some strata: such a rollout would only ever pause."""
    for stratum, own in sorted(plan.comparisons.items()):
        blocks = own.comparisons * _cycles(spec)
        for cell in _cells(spec, stratum, plan.strata, ledger):
            fewest = _fewest(spec, cell)
            if blocks >= fewest or _steady(spec, cell, blocks):
                continue
            room = f" up to wave {spec.verdict_by_wave}" if spec.verdict_by_wave else ""
            yield (
                f"{stratum}: {_told(spec, own.comparisons)}{room} can never decide {cell.prior.name}, which takes "
                f"{_told(spec, math.ceil(fewest / _cycles(spec)))}. {_way_out(spec)}"
            )
            break


def design_notes(spec: RolloutSpec, plan: WavePlan, ledger: Ledger) -> Iterator[str]:
    """Yield what an operator should know of the design before anything reboots."""
    staying = 0
    for stratum, own in sorted(plan.comparisons.items()):
        staying += 0 if spec.design == "abba" else own.comparisons
        if own.missing:
            room = f" up to wave {spec.verdict_by_wave}" if spec.verdict_by_wave else ""
            asked = _told(spec, own.missing)
            yield f"{stratum}: {asked} were asked for, and there is room for {own.comparisons}{room}."
        for cell in _cells(spec, stratum, plan.strata, ledger):
            blocks = own.comparisons * _cycles(spec)
            # Fewer are refused, or decided by their steadiness.
            if _fewest(spec, cell) <= blocks < _plan(spec, cell).n_max:
                made = _plan(spec, cell, blocks)
                yield (
                    f"{stratum}: {_told(spec, own.comparisons)} can decide {cell.prior.name} on a margin of "
                    f"{math.expm1(detectable(made)) * 100:.2g} % at best, not on {math.expm1(cell.margin) * 100:g} %."
                )
        if own.comparisons and not any(own.waves[own.decided_after :]):
            yield (
                f"{stratum} is decided after wave {own.decided_after}, its last: by then every host that is to change "
                "kernel has changed it. A smaller share before it, or verdict_by_wave, decides earlier."
            )
    if staying:
        yield (
            f"{staying} control host{'' if staying == 1 else 's'} stay{'s' if staying == 1 else ''} on the old kernel; "
            "roll the new one out to them afterwards."
        )


def _cells(spec: RolloutSpec, stratum: str, strata: Iterable[str], ledger: Ledger) -> list[_Cell]:
    """Return the metrics that must be decided: the critical ones; without any, the guards, each for itself."""
    metrics = performance_metrics(spec)
    margins = margins_of(spec)
    critical = [prior for prior in metrics if prior.role is MetricRole.CRITICAL]
    share = len(list(strata)) * (1 + len(critical)) if critical else 1
    deciding = critical or [prior for prior in metrics if prior.role is MetricRole.GUARD] or list(metrics)
    return [
        _Cell(
            prior=prior,
            margin=log_margin(margins[prior.name]),
            sigma=contrast_sigma(spec.design, spec.workloads, stratum, prior, ledger),
            share=share,
        )
        for prior in deciding
    ]


def _plan(spec: RolloutSpec, cell: _Cell, budget: int | None = None) -> CellPlan:
    return plan_cell(GATE_DESIGNS[spec.design], margin=cell.margin, sigma=cell.sigma, cells=cell.share, budget=budget)


def _steady(spec: RolloutSpec, cell: _Cell, blocks: int) -> bool:
    """Whether so few blocks decide all the same, because the metric is steady."""
    return blocks > 0 and _plan(spec, cell, blocks).method is Method.T_SEQUENCE


def _fewest(spec: RolloutSpec, cell: _Cell) -> int:
    """Return the fewest blocks on which ranks can fail a kernel."""
    revert = _plan(spec, cell).revert
    arms = 2 if spec.design == "two_arms" else 1
    return next(blocks for blocks in count(1) if first_fail((blocks,) * arms, revert) is not None)


def _cycles(spec: RolloutSpec) -> int:
    return spec.abba.cycles if spec.design == "abba" else 1


def _told(spec: RolloutSpec, comparisons: int) -> str:
    one, several = _COMPARISONS[spec.design]
    cycles = f" with {_cycles(spec)} cycles" if spec.design == "abba" else ""
    return f"{comparisons} {one if comparisons == 1 else several}{cycles}"


def _way_out(spec: RolloutSpec) -> str:
    more = "more cycles" if spec.design == "abba" else "design: abba, which compares a host with itself"
    return f"Take more hosts of this stratum, {more}, or design: before_after, which decides nothing about performance."
