"""What was compared under a design: change, bounds, how many of what, and who stood outside."""

from collections.abc import Iterator

from controller.views.models import VerdictView
from controller.views.report.blocks import Block, Bullets, Heading, Paragraph, Table
from controller.views.report.model import Report
from controller.words import names_text, number_text, signed_text

_BLOCKS = {
    "two_arms": ("treated host", "treated hosts"),
    "matched_pairs": ("pair", "pairs"),
    "abba": ("cycle", "cycles"),
}
# Cells that compare no metric.
_NO_METRIC = ("survival", "completion")


def compared(report: Report) -> Iterator[Block]:
    """Yield a table a stratum with every compared metric; nothing without a design."""
    cells = compared_cells(report)
    for stratum in sorted({cell.stratum for cell in cells}):
        yield Heading(2, f"{by_design(report)}, {stratum}")
        rows = [
            (cell.metric, _change(cell), f"{cell.hosts}{_beside(cell)}", cell.verdict)
            for cell in cells
            if cell.stratum == stratum
        ]
        number = "Hosts" if report.design == "two_arms" else _BLOCKS[report.design][1].capitalize()
        yield Table(titles=("Metric", "Worse by, % (bounds)", number, "Verdict"), rows=tuple(rows))
    outside = [f"{cell.stratum} {cell.metric}: {names_text(cell.outliers)}." for cell in cells if cell.outliers]
    if outside:
        yield Paragraph("Far outside the others:")
        yield Bullets(tuple(outside))
    if left_out := left_out_text(report):
        yield Paragraph(left_out)
    if cells and report.remarks:
        yield Bullets(report.remarks)


def by_design(report: Report) -> str:
    """Return how it was compared, for example "Compared by matched pairs"."""
    return f"Compared by {report.design.replace('_', ' ')}"


def left_out_text(report: Report) -> str:
    """Return who was left out and why; empty for nobody."""
    if not report.quarantined:
        return ""
    return f"Left out, far outside the others both times they were measured: {names_text(report.quarantined)}."


def compared_cells(report: Report) -> list[VerdictView]:
    """Return the cells of a design that compare a metric, by stratum and metric."""
    if report.design not in _BLOCKS:
        return []
    return [one for one in report.verdicts if one.role != "told" and not one.claim and one.metric not in _NO_METRIC]


def counted(report: Report, cell: VerdictView) -> str:
    """Return how many of what were compared, for example "14 pairs"."""
    one, several = _BLOCKS[report.design]
    beside = f" and {cell.controls} control hosts" if cell.controls else ""
    return f"{cell.hosts} {one if cell.hosts == 1 else several}{beside}"


def change_text(cell: VerdictView) -> str:
    """Return the change with its bounds in words, for a sentence."""
    if cell.interval is None:
        return "no bounds yet"
    up, down = ("higher", "lower") if cell.role == "negative_control" else ("worse", "better")
    low, high = signed_text(cell.interval.low, 2), signed_text(cell.interval.high, 2)
    estimate = cell.interval.estimate
    side = up if estimate >= 0 else down
    return f"{number_text(abs(estimate), 2)} % {side} (bounds {low} … {high} %, + is {up})"


def _beside(cell: VerdictView) -> str:
    return f" + {cell.controls}" if cell.controls else ""


def _change(cell: VerdictView) -> str:
    if cell.interval is None:
        return "-"
    estimate, low, high = (
        signed_text(value, 2) for value in (cell.interval.estimate, cell.interval.low, cell.interval.high)
    )
    return f"{estimate} ({low} … {high})"
