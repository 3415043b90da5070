"""A judgement for people: one line a cell, the sentences behind them, and the reason of the whole."""

from collections.abc import Mapping
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from controller.cli.output import cells, plain_table
from controller.views.gate.forest import SYMBOLS, ForestPanel, ForestRow, ForestView
from controller.views.gate.replayed import ReplayView

_STYLES: Final[Mapping[str, str]] = {
    "PASS": "green",
    "MARGINAL": "yellow",
    "NEED_MORE_DATA": "yellow",
    "INCONCLUSIVE": "yellow",
    "FAIL": "red",
    "FATAL": "bold red",
}


def forest_parts(view: ForestView) -> tuple[RenderableType, ...]:
    """Return the table of every scale, then every sentence, then the decision."""
    parts: list[RenderableType] = []
    for panel in view.panels:
        parts += [_table(panel), ""]
    parts += [
        Text.assemble((f"{row.symbol} ", _STYLES.get(row.verdict, "")), row.sentence)
        for panel in view.panels
        for row in panel.rows
    ]
    parts += [Text.assemble(("Note: ", "bold"), remark) for remark in view.remarks]
    parts += ["", Text(view.sentence, style=_STYLES.get(view.verdict, ""))]
    return tuple(parts)


def replay_parts(view: ReplayView) -> tuple[RenderableType, ...]:
    """Return every judged wave as it was and as it would be, then what came of it."""
    parts: list[RenderableType] = [Text.assemble(("What if: ", "bold"), f"{change}.") for change in view.changes]
    for wave in view.waves:
        parts.append(Text.assemble((f"Wave {wave.number}, recorded: ", "bold"), wave.recorded_sentence))
        if wave.same:
            parts.append("  replayed: the same, to the last digit.")
            continue
        parts.append(Text.assemble(("  replayed: ", "bold"), wave.sentence))
        parts += [
            Text.assemble((f"  {SYMBOLS.get(one.verdict, '?')} ", _STYLES.get(one.verdict, "")), one.sentence)
            for one in wave.verdicts
        ]
    return (*parts, view.sentence)


def _table(panel: ForestPanel) -> RenderableType:
    title = f"{panel.scale.upper()} (LOW … HIGH)" if panel.scale else ""
    table = plain_table(
        "", "STRATUM", "METRIC", "VERDICT", *((title, "AGAINST", "BLOCKS", "LOOK") if title else ("RUNS",))
    )
    for row in panel.rows:
        sign = Text(row.symbol, style=_STYLES.get(row.verdict, ""))
        metric = row.metric if row.role == "critical" else f"{row.metric} ({row.role.replace('_', ' ')})"
        numbers = cells(*_numbers(row)) if title else cells(row.blocks)
        table.add_row(sign, *cells(row.stratum, metric, row.claim.upper() or row.verdict), *numbers)
    return table


def _numbers(row: ForestRow) -> tuple[str, str, str, str]:
    low = "−∞" if row.low is None else f"{row.low:.2f}"
    high = "∞" if row.high is None else f"{row.high:.2f}"
    interval = "" if row.estimate is None else f"{row.estimate:+.2f} ({low} … {high})"
    against = next((f"{line.kind} {line.value:g}" for line in reversed(row.lines) if line.kind != "zero"), "")
    blocks = f"{row.blocks} of {row.planned_blocks}" if row.planned_blocks else str(row.blocks)
    return interval, against, blocks, f"{row.look} of {row.looks}" if row.looks else ""
