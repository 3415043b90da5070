"""Whether an agent that is connected moves the figures of anon_sweep: pairs of real runs, one of them without it."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from finished_command import finished
from idle_subjects import World, pause
from peers import ROOT

METRIC = "anonymous_sweep.throughput"
RUNS = 2
ARGUMENTS = ("run", "anon_sweep", "--preset", "small", "--warmups", "1", "--runs", str(RUNS))
# An agent has just started: its first seconds are not idle.
_SETTLE_S = 5.0
_COMMAND_TIMEOUT_S = 1800.0
# A cancelled run switches its swap off, which reads everything back first.
_CLEAN_UP_TIMEOUT_S = 300.0


def measure(world: World, pairs: int) -> Iterator[tuple[list[float], list[float]]]:
    """Yield pair by pair the runs without an agent and those beside one; which comes first takes turns (ABBA)."""
    for number in range(pairs):
        begun = time.monotonic()
        order = (True, False) if number % 2 == 0 else (False, True)
        found = {connected: _side(world, connected=connected) for connected in order}
        print(
            f"pair {number + 1} of {pairs}: {_shown(found[False])} stopped, {_shown(found[True])} connected (MB/s); "
            f"{time.monotonic() - begun:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        yield found[False], found[True]


def _side(world: World, *, connected: bool) -> list[float]:
    with world.agent("beside") if connected else nullcontext():
        pause(_SETTLE_S)
        return _runs(world.python, world.directory / "sweep")


def _runs(python: str, state: Path) -> list[float]:
    command = (python, "-m", "agent.main", *ARGUMENTS, "--output", "json", "--state-dir", str(state))
    status, stdout, stderr = finished(
        command, cwd=ROOT, timeout_s=_COMMAND_TIMEOUT_S, clean_up_timeout_s=_CLEAN_UP_TIMEOUT_S
    )
    found = [] if status else throughputs(stdout)
    if len(found) != RUNS:
        raise SystemExit(f"kernroll-agent {' '.join(ARGUMENTS)}\n{stdout[-2000:]}\n{stderr[-2000:]}")
    return found


def throughputs(document: str) -> list[float]:
    """Return the figure of every good run that is no warm-up."""
    runs = [run for run in json.loads(document)["runs"] if run["status"] == "ok" and not run["warmup"]]
    return [sample["value"] for run in runs for sample in run["samples"] if sample["metric"] == METRIC]


def _shown(values: list[float]) -> str:
    return " ".join(f"{value:.0f}" for value in values)
