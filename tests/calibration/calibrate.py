"""The referee: `make calibration`. Runs the table of scenarios, prints it, and writes docs/calibration.md.

Finished scenarios are kept under build/calibration, keyed by everything that makes their figures; a run that was
stopped goes on where it was, and a change of the gate or of the referee runs what it changes again.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

# One process per core: the libraries' own threads would only get in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from engine import judged, outcome_of_others  # noqa: E402  the environment comes first
from fuzz import Fuzzed, fuzz, total  # noqa: E402  the environment comes first
from report import markdown, table  # noqa: E402  the environment comes first
from scenarios import SCENARIOS, Scenario  # noqa: E402  the environment comes first
from tally import Others, Tally  # noqa: E402  the environment comes first

# What the array calls of the gate rest on; the words and the kernel log's signatures change no figure.
STATISTICS_MODULES = (
    *("bounds", "cells", "completion", "contrasts", "looks", "outliers", "ranks", "selection"),
    *("sequential", "tsequence"),
)
GATE = ROOT / "controller" / "gate"
POWER = GATE / "planning" / "power.py"
STATISTICS = {name: GATE / "statistics" / f"{name}.py" for name in STATISTICS_MODULES}
GATE_SOURCES = (*STATISTICS.values(), POWER)
SOURCES = {
    "gate": (*GATE_SOURCES, HERE / "engine.py", HERE / "noise.py"),
    # The other judges get as many runs as the gate's plan asks for.
    "others": (
        *(POWER, STATISTICS["ranks"], STATISTICS["sequential"]),
        *(HERE / f"{name}.py" for name in ("baselines", "others", "engine", "noise")),
    ),
    "fuzz": (*GATE_SOURCES, HERE / "fuzz.py"),
}
# Fuzzed inputs in one job.
FUZZ_PART = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One scenario to run, for the gate or for the others; or, without a scenario, spoiled inputs."""

    scenario: Scenario | None
    kind: str
    reps: int
    seed: int

    @property
    def name(self) -> str:
        return f"inputs of any kind, seed {self.seed}" if self.scenario is None else self.scenario.key


def main() -> int:
    """Run what is asked for; 0 when every bar is met, 1 when one is missed."""
    options = _arguments()
    chosen = [s for s in SCENARIOS if (not options.rows or s.row in options.rows) and options.only in s.key]
    cache = Cache(ROOT / "build" / "calibration" / "results.jsonl")
    kinds = ("gate",) if options.without_others else ("gate", "others")
    jobs = [
        Job(scenario=s, kind=k, reps=_reps(k, options), seed=options.seed)
        for s in chosen
        for k in kinds
        if s.compared or k == "gate"
    ]
    parts = options.fuzz // FUZZ_PART
    jobs += [Job(scenario=None, kind="fuzz", reps=FUZZ_PART, seed=options.seed + part) for part in range(parts)]
    todo = [] if options.at_hand else sorted((job for job in jobs if job not in cache), key=_urgency)
    print(f"{len(jobs)} results wanted, {len(jobs) - len(todo)} at hand; seed {options.seed}", flush=True)
    started = time.monotonic()
    for done, (job, result) in enumerate(_results(todo, options.jobs), 1):
        cache.add(job, result)
        elapsed = time.monotonic() - started
        left = elapsed / done * (len(todo) - done)
        print(f"{done}/{len(todo)} {elapsed:.0f} s, about {left:.0f} s left: {job.kind} {job.name}", flush=True)
    ready = [job for job in jobs if job in cache]
    ours = {j.scenario: Tally(**cache.get(j)) for j in ready if j.kind == "gate" and j.scenario}
    others = {j.scenario: Others.from_json(cache.get(j)) for j in ready if j.kind == "others" and j.scenario}
    fuzzed = total([Fuzzed(**cache.get(j)) for j in ready if j.kind == "fuzz"])
    text, missed = table(ours, others, fuzzed)
    print(text)
    if options.write:
        arguments = " ".join(sys.argv[1:]).replace(f"--write {options.write}", "").replace("--at-hand", "").strip()
        command = f"make calibration ARGS='{arguments}'" if arguments else "make calibration"
        run = {
            "seed": options.seed,
            "command": command,
            "cpu_s": sum(cache.cost(job) for job in ready),
            "absent": [job.scenario for job in jobs if job not in cache and job.kind == "gate"],
        }
        page = markdown(ours, others, fuzzed, run)
        options.write.write_text(page)
        print(f"written: {options.write}")
    return 1 if missed else 0


class Cache:
    """Results on disk, one JSON object per line; the last one of a key counts."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._hashes = {kind: _digest(files) for kind, files in SOURCES.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = file.read_text().splitlines() if file.exists() else []
        self._known: dict[str, dict[str, Any]] = {}
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a run that was killed while writing
                continue
            self._known[entry["key"]] = entry

    def __contains__(self, job: Job) -> bool:
        return self._key(job) in self._known

    def add(self, job: Job, result: dict[str, Any]) -> None:
        entry = {"key": self._key(job), **result}
        self._known[entry["key"]] = entry
        with self._file.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def get(self, job: Job) -> dict[str, Any]:
        result: dict[str, Any] = self._known[self._key(job)]["result"]
        return result

    def cost(self, job: Job) -> float:
        """Return the processor seconds that the result took."""
        return float(self._known[self._key(job)]["cpu_s"])

    def _key(self, job: Job) -> str:
        # The bars are not part of what is drawn: changing one runs nothing again.
        whole = repr(job.scenario and replace(job.scenario, bars=()))
        digest = hashlib.sha256(whole.encode()).hexdigest()[:12]
        return f"{job.kind}|{job.name}|{digest}|{job.reps}|{job.seed}|{self._hashes[job.kind]}"


def _digest(files: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for file in files:
        content.update(file.read_bytes())
    return content.hexdigest()[:16]


def _results(jobs: list[Job], processes: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    if processes == 1 or len(jobs) < 2:
        yield from map(_run, jobs)
        return
    # Spawned, not forked: a fork would copy locks that the numerical libraries hold.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(_run, jobs)


def _run(job: Job) -> tuple[Job, dict[str, Any]]:
    started = time.process_time()
    result: Tally | Others | Fuzzed
    if job.scenario is None:
        result = fuzz(job.reps, seed=job.seed)
    else:
        work = judged if job.kind == "gate" else outcome_of_others
        result = work(job.scenario, reps=job.reps, seed=job.seed)
    data = result.to_json()
    return job, {"result": data, "cpu_s": round(time.process_time() - started, 2)}


def _urgency(job: Job) -> tuple[int, int]:
    """Put the bars first, then the comparison, then what takes longest: a run may be stopped at any time."""
    if job.scenario is None:
        return 3, job.seed
    return (2 if job.scenario.cells == 20 else 0) if job.kind == "gate" else 1, job.scenario.row


def _reps(kind: str, options: argparse.Namespace) -> int:
    return int(min(options.reps, options.reps_of_others) if kind == "others" else options.reps)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--reps", type=int, default=10_000, help="repetitions per scenario (default 10000)")
    parser.add_argument("--reps-of-others", type=int, default=1_000, help="repetitions for the other judges")
    parser.add_argument("--seed", type=int, default=20260218)
    parser.add_argument("--rows", type=int, nargs="*", default=(), help="only these rows of the referee")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--fuzz", type=int, default=1_000_000, help="inputs of any kind (default a million)")
    parser.add_argument("--at-hand", action="store_true", help="run nothing, show what earlier runs left")
    parser.add_argument("--without-others", action="store_true", help="leave the other judges out")
    parser.add_argument("--write", type=Path, help="write the page here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
