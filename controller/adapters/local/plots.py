"""Pictures of view models by matplotlib, without a display: SVG and PNG files, the same bytes for the same view."""

import io
import math
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from controller.adapters.local.named_files import shown, write_file
from controller.domain.errors import InvalidInput, Permanent
from controller.views.gate.forest import ForestPanel, ForestRow, ForestView

FORMATS: Final = (".svg", ".png")
MAX_ROWS: Final = 400
# Inches.
_WIDTH: Final = 11.0
_ROW_HEIGHT: Final = 0.34
_DPI: Final = 120
# Colours that differ for the colour-blind too; word and symbol say the same.
_COLOURS: Final = {
    "PASS": "#1a7f37",
    "MARGINAL": "#8a6d00",
    "NEED_MORE_DATA": "#57606a",
    "INCONCLUSIVE": "#57606a",
    "FAIL": "#b3261e",
    "FATAL": "#7a0010",
}
_LINE_STYLES: Final = {"zero": "-", "tolerated": ":", "margin": "--", "claim": "-."}
_LINE_WORDS: Final = {
    "zero": "no change",
    "tolerated": "κΔ: a revert needs more",
    "margin": "margin Δ",
    "claim": "claimed",
}
# How far a scale reaches beyond what is drawn.
_PADDING: Final = 0.08


def write_forest(view: ForestView, path: Path) -> None:
    """Write the forest to an .svg or .png file, whole or not at all. Raises InvalidInput or Permanent."""
    if path.suffix.lower() not in FORMATS:
        raise InvalidInput(f"{shown(path)}: must end in {' or '.join(FORMATS)}")
    write_file(path, draw_forest(view, path.suffix.lower()[1:]))


def draw_forest(view: ForestView, kind: str) -> bytes:
    """Return the picture as "svg" or "png"."""
    rows = sum(len(panel.rows) for panel in view.panels)
    if rows > MAX_ROWS:
        raise Permanent(f"{rows} cells are more than a picture can show (at most {MAX_ROWS})")
    panels = [panel for panel in view.panels if panel.scale]
    textual = [row for panel in view.panels if not panel.scale for row in panel.rows]
    heights = [len(panel.rows) + 2.2 for panel in panels] + ([len(textual) + 0.6] if textual else [])
    target = io.BytesIO()
    # Text stays text in an SVG, no dollar sign in a name is a formula, and no identifier depends on the moment.
    with mpl.rc_context(
        {
            "svg.hashsalt": "kernroll",
            "svg.fonttype": "none",
            "text.parse_math": False,
            "font.family": "DejaVu Sans",
            "font.size": 9,
        }
    ):
        figure = Figure(figsize=(_WIDTH, 1.0 + _ROW_HEIGHT * sum(heights or [1.0])), layout="constrained")
        figure.suptitle(f"{view.title}: {view.verdict}", fontsize=12, fontweight="bold", x=0.01, ha="left")
        if heights:
            axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
            for panel, drawn in zip(panels, axes, strict=False):
                _draw_panel(drawn, panel)
            if textual:
                _draw_text(axes[-1], textual)
        # Without a date and with fixed identifiers, the same view gives the same bytes.
        metadata = {"Date": None, "Creator": "kernroll"} if kind == "svg" else {"Software": "kernroll"}
        figure.savefig(target, format=kind, dpi=_DPI, metadata=metadata)
    content = target.getvalue()
    # The renderer leaves blanks at the ends of its lines, which no diff should show.
    return b"".join(line.rstrip() + b"\n" for line in content.splitlines()) if kind == "svg" else content


def _draw_panel(axes: Axes, panel: ForestPanel) -> None:
    low, high = _reach(panel)
    axes.set_xlim(low, high)
    axes.set_ylim(len(panel.rows) - 0.4, -0.6)
    axes.set_yticks(range(len(panel.rows)), [_label(row) for row in panel.rows])
    axes.tick_params(axis="y", length=0)
    better = "right" if panel.more_is_better else "left"
    axes.set_xlabel(f"{panel.scale}  ({better} is better)")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    kinds = dict.fromkeys(line.kind for row in panel.rows for line in row.lines)
    for at, row in enumerate(panel.rows):
        _draw_row(axes, row, at, (low, high))
    handles = [
        axes.plot([], [], color="black", linestyle=_LINE_STYLES[kind], linewidth=1, label=_LINE_WORDS[kind])[0]
        for kind in _LINE_STYLES
        if kind in kinds
    ]
    if handles:
        axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, fontsize=8)


def _draw_row(axes: Axes, row: ForestRow, at: int, reach: tuple[float, float]) -> None:
    colour = _COLOURS.get(row.verdict, "black")
    for line in row.lines:
        width = 0.8 if line.kind == "zero" else 1.2
        axes.plot([line.value] * 2, [at - 0.45, at + 0.45], color="black", lw=width, ls=_LINE_STYLES[line.kind])
    if row.estimate is not None:
        # An arrow says that so few blocks cannot bound this side.
        start = reach[0] if row.low is None else row.low
        end = reach[1] if row.high is None else row.high
        axes.plot([start, end], [at, at], color=colour, lw=2.2, solid_capstyle="butt")
        for value, bound, marker in ((start, row.low, "<"), (end, row.high, ">")):
            axes.plot([value], [at], color=colour, marker="|" if bound is not None else marker, ms=9, clip_on=False)
        axes.plot([row.estimate], [at], color=colour, marker="o", ms=6)
    axes.annotate(
        _verdict_text(row), (1.01, at), xycoords=("axes fraction", "data"), va="center", color=colour, fontweight="bold"
    )


def _draw_text(axes: Axes, rows: list[ForestRow]) -> None:
    """List the rows that have no scale: they lived, or they did not."""
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for at, row in enumerate(rows):
        axes.annotate(
            _verdict_text(row),
            (1.01, at),
            xycoords=("axes fraction", "data"),
            va="center",
            color=_COLOURS.get(row.verdict, "black"),
            fontweight="bold",
        )
        axes.annotate(_short(row), (0.0, at), va="center", fontsize=8)


def _label(row: ForestRow) -> str:
    role = "" if row.role == "critical" else f" ({row.role.replace('_', ' ')})"
    return f"{row.stratum}  {row.metric}{role}"


def _verdict_text(row: ForestRow) -> str:
    return f"{row.symbol} {row.verdict}" + (f", {row.claim}" if row.claim else "")


def _short(row: ForestRow) -> str:
    """Return the sentence without what label and verdict say already."""
    text = row.sentence.removeprefix(f"{row.stratum} {row.metric}: ").removesuffix(f" {row.verdict}.")
    return text if len(text) <= 110 else text[:107] + "…"


def _reach(panel: ForestPanel) -> tuple[float, float]:
    """Return the ends of the scale: everything that is finite, with some air."""
    values = [line.value for row in panel.rows for line in row.lines]
    for row in panel.rows:
        values += [value for value in (row.low, row.estimate, row.high) if value is not None and math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    air = (high - low or abs(high) or 1.0) * _PADDING
    return low - air, high + air
