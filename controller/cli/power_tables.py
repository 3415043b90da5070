"""What a fleet can see, and what is known of the noise, on a terminal."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from controller.cli.output import cells, plain_table
from controller.views.models import LedgerView
from controller.views.plan_models import PlannedCellView, PlannedDesignView
from controller.words import count_text, names_text

_NOT_DECIDED = "Before and after alone, without controls, decides nothing."
_CHOSEN = {design: f"This rollout decides by {design}." for design in ("two_arms", "matched_pairs", "abba")}


def power_parts(planned: Sequence[PlannedCellView], chosen: str) -> tuple[RenderableType, ...]:
    """Return what every performance metric of a plan takes under each design, and what the hosts there can see.

    `chosen` is the plan's own design.
    """
    if not planned:
        return ()
    table = plain_table("STRATUM", "METRIC", "MARGIN", "NOISE A HOST", "DESIGN", "NEEDS", "HAS", "FAILS FROM", "SEES")
    for cell in planned:
        name = cell.metric if cell.role == "critical" else f"{cell.metric} ({cell.role.replace('_', ' ')})"
        source = f"{cell.noise_hosts} hosts" if cell.noise_hosts else "prior"
        head = (cell.stratum, name, f"{cell.margin:g} %", f"{cell.noise:.1f} % ({source})")
        for design in cell.designs:
            table.add_row(*head, *cells(*_design(design, cell.hosts)))
            head = ("", "", "", "")
    told: list[RenderableType] = [
        Text.assemble(("Performance: ", "bold"), f"what a margin takes. {_CHOSEN.get(chosen, _NOT_DECIDED)}"),
        table,
    ]
    for runs in sorted({cell.runs for cell in planned if cell.runs < cell.fewest_runs}):
        few = names_text(sorted({cell.metric for cell in planned if cell.runs == runs}))
        needed = planned[0].fewest_runs
        told.append(f"With {count_text(runs, 'run')} a boot nothing can be judged on {few}: a block needs {needed}.")
    told += [
        Text.assemble(("Suspended: ", "bold yellow"), f"{cell.stratum} {cell.metric}: {cell.suspended}.")
        for cell in planned
        if cell.suspended
    ]
    return (*told, "")


def ledger_parts(view: LedgerView) -> tuple[RenderableType, ...]:
    """Return one line a cell."""
    if not view.cells:
        return (
            "Nothing has been measured yet. Every baseline teaches something; `kernroll rollout start FILE --aa` "
            "teaches most.",
        )
    table = plain_table(
        "STRATUM", "METRIC", "BOOTS", "HOSTS", "NOISE A HOST", "FROM", "JUDGED", "FALSE REVERTS", "SUSPENDED"
    )
    for cell in view.cells:
        source = count_text(cell.noise_hosts, "host") if cell.noise_hosts else "prior"
        table.add_row(
            *cells(
                cell.stratum,
                cell.metric,
                str(cell.boots),
                str(cell.hosts),
                f"{cell.noise:.2f} {cell.unit}",
                source,
                str(cell.judgements),
                str(cell.false_reverts),
                cell.suspended or "no",
            )
        )
    return (table,)


def _design(design: PlannedDesignView, hosts: int) -> tuple[str, str, str, str, str]:
    needs = {
        "two_arms": f"{design.blocks_needed} + {design.hosts_needed - design.blocks_needed} hosts",
        "matched_pairs": count_text(design.blocks_needed, "pair"),
    }.get(design.design, count_text(design.blocks_needed, "cycle"))
    sees = f"{design.detectable:.1f} %" if design.detectable else "nothing"
    if design.blocks_there >= design.blocks_needed:
        sees = "the margin"
    first = str(design.first_fail) if design.first_fail else "never"
    return design.design, needs, count_text(hosts, "host"), first, sees
