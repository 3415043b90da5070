"""How much the workloads' figures scatter on this machine: `make noise`, resumable, with progress.

Every cell is one `kernroll-agent run` command with one warm-up and a few runs, repeated until the cell has as many runs
as wanted. Each JSON is kept, so that an interrupted measurement goes on where it stopped and a finished one is
only written down again. The cells take turns: a slow drift of the machine then reaches all of them alike.
"""

import argparse
import fcntl
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.gate.cells import Design
from controller.gate.power import contrast_sigma, plan_cell

# What the cover letter found, and whether it could be seen here.
EFFECT = 0.018
# The gate takes the median of so many runs on each kernel of a host.
RUNS_A_BLOCK = 4
COMMAND_TIMEOUT_S = 4 * 3600
BEGIN, END = "<!-- make noise: begin -->", "<!-- make noise: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One workload as it is run here."""

    name: str
    arguments: tuple[str, ...]
    # What the table shows of it.
    metrics: tuple[str, ...]
    # Measured runs of one command: few where a run takes minutes, so that an interruption loses little.
    chunk: int = 4

    @property
    def command(self) -> str:
        """Return the command as a person would type it."""
        return " ".join(("kernroll-agent", "run", *self.arguments, "--warmups", "1", "--runs", str(self.chunk)))


_VALKEY = ("valkey_get", "--preset", "series-arm64-zram", "--memory-limit", "1536M")
CELLS = (
    Cell(
        name="kernel_build",
        arguments=(
            *("kernel_build", "--preset", "series-arm64-zram", "--jobs", "2"),
            *("--zram-size", "1G", "--memory-limit", "96M"),
        ),
        metrics=tuple(f"kernel_build.{each}" for each in ("system_time", "user_time", "elapsed", "swapped_out")),
        chunk=2,
    ),
    Cell(
        name="valkey_get",
        arguments=_VALKEY,
        metrics=("valkey.get_rate", "valkey.p50", "valkey.p99", "valkey.swapped_in"),
    ),
    Cell(
        name="valkey_get_bgsave",
        arguments=(*_VALKEY, "--bgsave"),
        metrics=("valkey.get_rate_bgsave", "valkey.p50_bgsave", "valkey.p99_bgsave", "valkey.swapped_in_bgsave"),
    ),
    Cell(
        name="anon_sweep",
        arguments=("anon_sweep", "--preset", "small"),
        metrics=("anonymous_sweep.throughput", "anonymous_sweep.populate", "anonymous_sweep.swapped_in"),
        chunk=8,
    ),
    Cell(
        name="swap_fill",
        arguments=("swap_fill", "--preset", "small", "--settle-tolerance", "4M"),
        metrics=("swap_fill.cost", "swap_fill.static_cost", "swap_fill.dynamic_cost", "swapoff.time"),
    ),
    Cell(
        name="stress_ng",
        arguments=("stress_ng", "--preset", "small"),
        metrics=("stress.bogo_rate", "stress.swap_bogo_rate", "stress.swapped_out"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    metric: str
    unit: str
    values: tuple[float, ...]

    @property
    def cv(self) -> float:
        """Return the standard deviation as a share of the mean."""
        return statistics.stdev(self.values) / statistics.fmean(self.values)

    @property
    def pairs_for_effect(self) -> int:
        """Return the matched host pairs that decide on the effect, each with the median of four runs a kernel.

        The scatter between boots and between hosts is not known here and comes on top.
        """
        run_sd = statistics.stdev(math.log(value) for value in self.values)
        sigma = contrast_sigma(Design.PAIRS, run_sd=max(run_sd, 1e-6), runs=RUNS_A_BLOCK)
        return plan_cell(Design.PAIRS, margin=math.log1p(EFFECT), sigma=sigma).n_max


def kept(results: Path, cell: Cell) -> list[dict[str, Any]]:
    """Return the good runs of the cell's finished commands, warm-ups left out."""
    runs = []
    for path in sorted(results.glob(f"{cell.name}-*.json")):
        document = json.loads(path.read_bytes() or b"{}")
        if document.get("outcome", {}).get("status") == "completed":
            runs += [run for run in document["runs"] if run["status"] == "ok" and not run["warmup"]]
    return runs


def rows(runs: Sequence[dict[str, Any]], metrics: Sequence[str]) -> Iterator[Row]:
    """Yield a row for every metric with at least two values."""
    for metric in metrics:
        samples = [sample for run in runs for sample in run["samples"] if sample["metric"] == metric]
        if len(samples) > 1:
            yield Row(metric=metric, unit=samples[0]["unit"], values=tuple(sample["value"] for sample in samples))


def table(results: Path) -> str:
    """Return the Markdown table of everything measured, with the commands that made it."""
    lines = [
        "| Metric | Unit | Mean | Median | SD | CV | n | Host pairs that see 1.8 % |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    commands = []
    kernels = set()
    for cell in CELLS:
        runs = kept(results, cell)
        kernels |= {run["kernel_release"] for run in runs}
        for row in rows(runs, cell.metrics):
            numbers = (statistics.fmean(row.values), statistics.median(row.values), statistics.stdev(row.values))
            told = " | ".join(shown(number) for number in numbers)
            lines.append(
                f"| `{row.metric}` | {row.unit} | {told} | {row.cv:.1%} | {len(row.values)} | {row.pairs_for_effect} |"
            )
        if runs:
            commands.append(cell.command)
    where = f"Linux {', '.join(sorted(kernels))}, {os.cpu_count()} processors."
    return "\n".join((where, "", *lines, "", "```", *commands, "```"))


def shown(number: float) -> str:
    """Return a number with four significant digits and no exponent."""
    if number >= 1000:
        return f"{number:.0f}"
    digits = 3 - math.floor(math.log10(abs(number))) if number else 0
    return f"{number:.{max(0, digits)}f}"


@contextmanager
def lone(lock: Path | None) -> Iterator[None]:
    """Hold the lock that machines with several users of their swap agree on."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(cell: Cell, results: Path, *, lock: Path | None) -> None:
    """Run the cell's command once and keep what it prints. Raises SystemExit when it does not complete."""
    number = 1 + len(list(results.glob(f"{cell.name}-*.json")))
    arguments = cell.command.split()[1:]
    command = [
        sys.executable,
        "-m",
        "agent.main",
        *arguments,
        "--output",
        "json",
        "--state-dir",
        str(results / "state"),
    ]
    with lone(lock):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if ended.returncode:
        raise SystemExit(f"{cell.command}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}")
    path = results / f"{cell.name}-{number}.json"
    path.with_suffix(".new").write_text(ended.stdout)
    path.with_suffix(".new").rename(path)


def measure(results: Path, *, wanted: int, lock: Path | None, only: Sequence[str]) -> None:
    """Run cells in turn until each has the wanted number of runs."""
    took_s: dict[str, float] = {}
    while True:
        lacking = {cell: wanted - len(kept(results, cell)) for cell in CELLS if not only or cell.name in only}
        lacking = {cell: number for cell, number in lacking.items() if number > 0}
        if not lacking:
            return
        cell = max(lacking, key=lambda each: lacking[each])
        commands = {each: math.ceil(number / each.chunk) for each, number in lacking.items()}
        known = [took_s.get(each.name) for each in commands]
        left_s = sum(commands[each] * took_s.get(each.name, 0.0) for each in commands)
        estimate = "" if None in known else f", about {left_s / 60:.0f} min left"
        print(f"{time.strftime('%H:%M')} {cell.name}: {sum(commands.values())} commands to go{estimate}", flush=True)
        begun = time.monotonic()
        run(cell, results, lock=lock)
        took_s[cell.name] = time.monotonic() - begun


def write(page: Path, text: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Put the table between the page's two marks."""
    before, begin, rest = page.read_text().partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"{page} lacks the lines {marks[0]} and {marks[1]}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    """Measure what is missing, then print or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("build/noise"), help="where the commands' JSON is kept")
    parser.add_argument("--runs", type=int, default=8, help="measured runs a cell (default 8)")
    parser.add_argument("--only", nargs="*", default=(), choices=[cell.name for cell in CELLS], help="these cells")
    parser.add_argument("--lock", type=Path, help="hold this lock around every command")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the table into this page")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    measure(options.results, wanted=options.runs, lock=options.lock, only=options.only)
    text = table(options.results)
    print(text)
    if options.write:
        write(options.write, text)


if __name__ == "__main__":
    main()
