"""What the agent itself costs a host: `make bench-agent`. Beside peers, all idle over the same minutes.

With --sweep instead: whether a connected agent moves the figures of anon_sweep, which takes longer and needs root.
With --guest instead: the same costs in a guest of the lab on an emulated processor, beside node exporter in it.
Exit code 1 when a goal is missed.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import footprint_guest
from idle_subjects import Subject, World, pause
from noise_table import write
from paired_shift import CONFIDENCE, Shift, judge_shift
from peers import agent_python, exporter_binary
from process_usage import KernelLogCounter, ProcessGone, Snapshot, Usage, snapshot, usage
from sweep_shift import METRIC, measure

MOST_RSS_MB = 50.0
MOST_CPU_PERCENT = 0.1
LEAST_SECONDS = 60.0
# From the last start to the first look: imports, first messages, the kernel log from its beginning.
SETTLE_S = 20.0
SNAPSHOT_EVERY_S = 5.0
LEAST_PAIRS = 8
IDLE_MARKS = ("<!-- make bench-agent: begin -->", "<!-- make bench-agent: end -->")
GUEST_MARKS = ("<!-- make bench-agent ARGS=--guest: begin -->", "<!-- make bench-agent ARGS=--guest: end -->")
SWEEP_MARKS = ("<!-- make bench-agent ARGS=--sweep: begin -->", "<!-- make bench-agent ARGS=--sweep: end -->")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the machine was doing."""

    # Mean of one minute at the end; idle processes add nothing to it.
    load: float
    # None when the kernel log cannot be read.
    kernel_log_records: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Something that must hold, with what was found."""

    says: str
    holds: bool


def idle(world: World, seconds: float) -> tuple[dict[str, Usage], Conditions]:
    """Start everything, wait until it is idle, and measure all of it over the same time."""
    binary = exporter_binary()
    with ExitStack() as stack:
        stack.enter_context(world.serving())
        subjects = [
            stack.enter_context(each)
            for each in (
                world.agent("idle"),
                world.lone_agent(),
                world.bare_stream(),
                world.exporter(binary, scraped=True),
                world.exporter(binary, scraped=False),
            )
        ]
        say(f"{len(subjects)} processes settle for {SETTLE_S:g} s, then {seconds:g} s are measured")
        pause(SETTLE_S)
        records = KernelLogCounter()
        taken = [_look(subjects)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pause(min(SNAPSHOT_EVERY_S, max(0.1, end - time.monotonic())))
            taken.append(_look(subjects))
        conditions = Conditions(
            load=os.getloadavg()[0],
            kernel_log_records=records.count(),
        )
    return {subject.name: usage([look[subject.name] for look in taken]) for subject in subjects}, conditions


def _look(subjects: Sequence[Subject]) -> dict[str, Snapshot]:
    looks = {}
    for subject in subjects:
        if subject.process.poll() is not None:
            raise subject.ended()
        try:
            looks[subject.name] = snapshot(subject.process.pid)
        except ProcessGone as error:
            raise subject.ended() from error
    return looks


def idle_goals(costs: Mapping[str, Usage]) -> Iterator[Goal]:
    """Yield what must hold of every agent: memory first, then processor time."""
    for name, cost in costs.items():
        if not name.startswith("kernroll-agent"):
            continue
        yield Goal(
            says=f"{name}: {cost.rss_mb:.1f} MB resident (at most {MOST_RSS_MB:g})", holds=cost.rss_mb <= MOST_RSS_MB
        )
        yield Goal(
            says=f"{name}: {cost.cpu_percent:.3f} % of a processor (at most {MOST_CPU_PERCENT:g} %)",
            holds=cost.cpu_percent <= MOST_CPU_PERCENT,
        )


def shift_goal(shift: Shift) -> Goal:
    """Return what must hold of anon_sweep."""
    wanted = f"PASS: none is seen, and one of {shift.margin_percent:g} % is excluded"
    return Goal(says=f"shift of anon_sweep beside a connected agent: {shift.verdict} ({wanted})", holds=shift.passes)


def idle_text(costs: Mapping[str, Usage], conditions: Conditions) -> str:
    """Return the table as Markdown."""
    seconds = next(iter(costs.values())).seconds
    log = conditions.kernel_log_records
    lines = [
        f"{machine()}; {seconds:.0f} s, all processes at the same time; load average {conditions.load:.1f}, from other "
        f"work; {'an unknown number of' if log is None else log} kernel log records meanwhile.",
        "",
    ]
    return "\n".join((*lines, *table(costs)))


def guest_text(costs: Mapping[str, Usage]) -> str:
    """Return the guest's table as Markdown."""
    seconds = next(iter(costs.values())).seconds
    where = f"A guest of one emulated x86_64 processor, Linux {footprint_guest.KERNEL}"
    return "\n".join((f"{where}; {seconds:.0f} s, both processes at the same time.", "", *table(costs)))


def table(costs: Mapping[str, Usage]) -> Iterator[str]:
    """Yield the lines of a table of costs, then the first process against the others."""
    yield "| Process | RSS, MB | PSS, MB | CPU, % of a processor | Wake-ups/min | Preempted/min | Threads |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name, cost in costs.items():
        figures = (f"{cost.rss_mb:.1f}", f"{cost.pss_mb:.1f}", f"{cost.cpu_percent:.3f}")
        rates = (f"{cost.wakeups_per_min:.0f}", f"{cost.preemptions_per_min:.0f}", str(cost.threads))
        yield f"| {' | '.join((name, *figures, *rates))} |"
    yield from _ratios(costs)


def shift_text(shift: Shift, load: float) -> str:
    """Return the shift as Markdown."""
    return (
        f"{machine()}, load average {load:.1f}: `{METRIC}` with an agent connected instead of stopped changes by\n"
        f"{shift.estimate_percent:+.2f} % ({CONFIDENCE:.0%} interval {shift.low_percent:+.2f} … "
        f"{shift.high_percent:+.2f} %); {shift.pairs} pairs of {shift.runs} + {shift.runs} runs in turns (ABBA), "
        f"margin {shift.margin_percent:g} %: {shift.verdict}."
    )


def machine() -> str:
    """Return what was measured on: the upstream version, without what whoever built it added."""
    return f"Linux {os.uname().release.partition('-')[0]}, {os.cpu_count()} processors"


def _ratios(costs: Mapping[str, Usage]) -> Iterator[str]:
    """Yield the connected agent against each peer."""
    (name, agent), *peers = costs.items()
    shown: tuple[Callable[[Usage], float], ...] = (
        lambda cost: cost.rss_mb,
        lambda cost: cost.pss_mb,
        lambda cost: cost.cpu_percent,
        lambda cost: cost.wakeups_per_min,
    )
    for peer, cost in peers:
        if peer.startswith(name):
            continue
        ratios = (f"{of(agent) / of(cost):.2f} ×" if of(cost) > 0 else "–" for of in shown)
        yield f"| {name} ÷ {peer} | {' | '.join(ratios)} | | |"


def say(text: str) -> None:
    """Tell how it goes on; the result alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to measure (default 120, at least 60)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--sweep", action="store_true", help="instead: anon_sweep with an agent connected or stopped")
    instead.add_argument("--guest", action="store_true", help="instead: in a guest of the lab, beside node exporter")
    parser.add_argument("--pairs", type=int, default=16, help="pairs of --sweep (default 16, at least 8)")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the result into this page")
    options = parser.parse_args()
    if options.seconds < LEAST_SECONDS:
        parser.error(f"--seconds: at least {LEAST_SECONDS:g}, or a heartbeat more or less decides")
    if options.pairs < LEAST_PAIRS:
        parser.error(f"--pairs: at least {LEAST_PAIRS}, or ranks exclude nothing")
    if options.sweep and os.geteuid() != 0:
        parser.error("--sweep: switching swap on takes root")
    return options


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found, as a person reads it and as a program does."""

    text: str
    document: dict[str, Any]
    goals: list[Goal]
    # Where the page has it.
    marks: tuple[str, str]


def sweep_result(world: World, pairs: int) -> Result:
    """Measure pairs of anon_sweep."""
    with world.serving():
        stopped, connected = zip(*measure(world, pairs), strict=True)
    shift = judge_shift(METRIC, stopped, connected)
    return Result(
        text=shift_text(shift, os.getloadavg()[0]),
        document={"pairs": {"stopped": stopped, "connected": connected}, "shift": asdict(shift)},
        goals=[shift_goal(shift)],
        marks=SWEEP_MARKS,
    )


def idle_result(world: World, seconds: float) -> Result:
    """Measure everything idle on this machine."""
    costs, conditions = idle(world, seconds)
    return Result(
        text=idle_text(costs, conditions),
        document={"conditions": asdict(conditions), "processes": _as_documents(costs)},
        goals=list(idle_goals(costs)),
        marks=IDLE_MARKS,
    )


def guest_result(seconds: float) -> Result:
    """Measure in a guest. An emulated processor's share says nothing by itself, so that memory alone has a goal."""
    costs = footprint_guest.measure(Path(exporter_binary()), seconds)
    return Result(
        text=guest_text(costs),
        document={"processes": _as_documents(costs)},
        goals=list(idle_goals(costs))[:1],
        marks=GUEST_MARKS,
    )


def _as_documents(costs: Mapping[str, Usage]) -> dict[str, Any]:
    return {name: asdict(cost) for name, cost in costs.items()}


def main() -> int:
    """Measure, print, and compare with the goals."""
    options = parse()
    # Whatever ends this, everything that it started is ended first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.guest:
        result = guest_result(options.seconds)
    else:
        with tempfile.TemporaryDirectory(prefix="kernroll-bench-") as name:
            world = World(Path(name), agent_python())
            result = sweep_result(world, options.pairs) if options.sweep else idle_result(world, options.seconds)
    if options.output == "json":
        print(json.dumps({**result.document, "goals": [asdict(goal) for goal in result.goals]}, indent=2))
    else:
        told = (f"{'holds ' if goal.holds else 'MISSED'}  {goal.says}" for goal in result.goals)
        print(result.text, "", *told, sep="\n")
    if options.write:
        write(options.write, result.text, result.marks)
    return 0 if all(goal.holds for goal in result.goals) else 1


if __name__ == "__main__":
    sys.exit(main())
