"""The tables of `make noise`: one line for each metric of each cell, and the page that they are written into."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.gate.planning.power import LARGEST, contrast_sigma, plan_cell
from controller.gate.statistics.cells import Design

# What the cover letter found, and whether it could be seen here.
EFFECT = 0.018
# The gate takes the median of so many runs on each kernel of a host.
RUNS_A_BLOCK = 4
# Values below which a number of hosts would be made of nothing: a standard deviation of two is off by a factor easily.
FEWEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The values of one metric of one cell, boot by boot."""

    metric: str
    unit: str
    boots: tuple[tuple[float, ...], ...]

    @property
    def values(self) -> tuple[float, ...]:
        """Return the values of all boots."""
        return tuple(value for boot in self.boots for value in boot)

    @property
    def cv(self) -> float:
        """Return the standard deviation as a share of the mean; 0 for a metric that stayed at 0."""
        return statistics.stdev(self.values) / (statistics.fmean(self.values) or 1.0)

    @property
    def pairs_for_effect(self) -> int | None:
        """Return the matched host pairs that decide on the effect, each with the median of four runs a kernel.

        None where a share of the value means nothing (a value is 0 or less), and where a standard deviation of so few
        values does not either. Scatter between hosts comes on top, and where there was but one boot that between boots.
        """
        if min(self.values) <= 0 or len(self.values) < FEWEST:
            return None
        run_sd, boot_sd = self._parts([[math.log(value) for value in boot] for boot in self.boots])
        sigma = contrast_sigma(Design.PAIRS, run_sd=max(run_sd, 1e-6), runs=RUNS_A_BLOCK, boot_sd=boot_sd)
        return plan_cell(Design.PAIRS, margin=math.log1p(EFFECT), sigma=sigma).n_max

    @staticmethod
    def _parts(boots: Sequence[Sequence[float]]) -> tuple[float, float]:
        """Return the standard deviations within and between boots: the classic one-way analysis of variance."""
        several = [boot for boot in boots if len(boot) > 1]
        if not several:
            # Not to be told apart: all of it is between runs, which the median of four makes smaller.
            return statistics.stdev(value for boot in boots for value in boot), 0.0
        freedom = sum(len(boot) - 1 for boot in several)
        within = sum(statistics.variance(boot) * (len(boot) - 1) for boot in several) / freedom
        if len(boots) < 2:
            return math.sqrt(within), 0.0
        runs = sum(map(len, boots)) / len(boots)
        between = statistics.variance([statistics.fmean(boot) for boot in boots]) - within / runs
        return math.sqrt(within), math.sqrt(max(0.0, between))

    def cells(self) -> str:
        """Return mean, median, SD, CV, n and the pairs as cells of a Markdown table."""
        numbers = (statistics.fmean(self.values), statistics.median(self.values), statistics.stdev(self.values))
        told = " | ".join(shown(number) for number in numbers)
        return f"{told} | {self.cv:.1%} | {len(self.values)} | {_pairs(self.pairs_for_effect)}"


HEADINGS = "Mean | Median | SD | CV | n | Host pairs that see 1.8 %"
RULES = "--:|--:|--:|--:|--:|--:"


def _pairs(number: int | None) -> str:
    if number is None:
        return ""
    return f"more than {LARGEST}" if number >= LARGEST else str(number)


def shown(number: float) -> str:
    """Return a number with four significant digits and no exponent."""
    if abs(number) >= 1000:
        return f"{number:.0f}"
    digits = 3 - math.floor(math.log10(abs(number))) if number else 0
    return f"{number:.{max(0, digits)}f}"


def write(page: Path, text: str, marks: tuple[str, str]) -> None:
    """Put the table between the page's two marks."""
    before, begin, rest = page.read_text().partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"{page} lacks the lines {marks[0]} and {marks[1]}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
