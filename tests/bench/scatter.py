"""How much the workloads' figures scatter, on this machine and in guests of the lab: `make noise`, resumable.

On this machine every cell is one `kernroll-agent run` command with one warm-up and a few runs, repeated until the cell
has as many runs as wanted. Each JSON is kept, so that an interrupted measurement goes on where it stopped and a
finished one is only written down again. The cells take turns: a slow drift of the machine then reaches all of them
alike. The guests' part is in lab_scatter.py.
"""

import argparse
import fcntl
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A guest that has just booted finds what its predecessor left in the serial port, and gRPC tells everybody.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# The guests' controller is the tests' own.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import lab_cells
import lab_measurement
import lab_scatter
from finished_command import finished
from noise_table import HEADINGS, RULES, Row, write

COMMAND_TIMEOUT_S = 4 * 3600
# A cancelled run switches its swap off, which reads everything back first.
CLEAN_UP_TIMEOUT_S = 600
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
            values = tuple(sample["value"] for sample in samples)
            yield Row(metric=metric, unit=samples[0]["unit"], boots=(values,))


def table(results: Path) -> str:
    """Return the Markdown table of everything measured, with the commands that made it."""
    lines = [f"| Metric | Unit | {HEADINGS} |", f"|---|---|{RULES}|"]
    commands = []
    kernels = set()
    for cell in CELLS:
        runs = kept(results, cell)
        kernels |= {run["kernel_release"] for run in runs}
        lines += [f"| `{row.metric}` | {row.unit} | {row.cells()} |" for row in rows(runs, cell.metrics)]
        if runs:
            commands.append(cell.command)
    where = f"Linux {', '.join(sorted(kernels))}, {os.cpu_count()} processors."
    return "\n".join((where, "", *lines, "", "```", *commands, "```"))


@contextmanager
def lone(lock: Path | None) -> Iterator[None]:
    """Hold the lock that machines with several users of their swap agree on."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def end_in_order(number: int, frame: object) -> None:
    """Let a request to end take the same way as Ctrl-C."""
    raise SystemExit(128 + number)


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
        status, stdout, stderr = finished(command, timeout_s=COMMAND_TIMEOUT_S, clean_up_timeout_s=CLEAN_UP_TIMEOUT_S)
    if status:
        raise SystemExit(f"{cell.command}\n{stdout[-2000:]}\n{stderr[-2000:]}")
    path = results / f"{cell.name}-{number}.json"
    path.with_suffix(".new").write_text(stdout)
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


def main() -> None:
    """Measure what is missing, then print or write the tables."""
    local, guests = [cell.name for cell in CELLS], [cell.name for cell in lab_cells.CELLS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--where", choices=("machine", "lab", "both"), default="both", help="measure only there")
    parser.add_argument("--results", type=Path, default=Path("build/noise"), help="where the commands' JSON is kept")
    parser.add_argument("--runs", type=int, default=8, help="measured runs a cell on this machine (default 8)")
    parser.add_argument("--only", nargs="*", default=(), choices=sorted({*local, *guests}), help="these cells")
    parser.add_argument(
        "--architectures",
        nargs="+",
        default=lab_cells.ARCHITECTURES,
        choices=lab_cells.ARCHITECTURES,
        help="these guests",
    )
    parser.add_argument("--lock", type=Path, help="hold this lock around every command on this machine")
    parser.add_argument("--no-runs", action="store_true", help="measure nothing, make the tables of what there is")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the tables into this page")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, end_in_order)
    options.results.mkdir(parents=True, exist_ok=True)
    if options.where != "lab":
        if not options.no_runs:
            measure(options.results, wanted=options.runs, lock=options.lock, only=options.only)
        show(table(options.results), options.write, (BEGIN, END))
    if options.where != "machine":
        results = options.results / "lab"
        if not options.no_runs:
            lab_scatter.measure(results, architectures=options.architectures, only=options.only)
        text = lab_measurement.table(results, lab_cells.plan(lab_cells.ARCHITECTURES, ()))
        show(text, options.write, (lab_scatter.BEGIN, lab_scatter.END))


def show(text: str, page: Path | None, marks: tuple[str, str]) -> None:
    """Print a table, and write it between its marks if there is a page."""
    print(text)
    if page:
        write(page, text, marks)


if __name__ == "__main__":
    main()
