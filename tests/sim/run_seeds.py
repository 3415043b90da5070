"""Drives the simulator over many seeds: `make sim`. Resumable; a seed that is finished is not run again.

Drawn worlds of 20 and of 200 hosts, and one whole rollout over 10 000 hosts. What is finished is kept in a file that
belongs to the source as it is: another source begins anew. Ends with 1 when any run breaks a rule, after looking for
the smallest case that breaks it too.
"""

import argparse
import hashlib
import sys
import time
from functools import partial
from pathlib import Path

from controller.cli.sim.simulation import command
from controller.domain.spec.parse import parse_spec
from controller.sim.case import Case
from controller.sim.cases import drawn
from controller.sim.faults.parse import parse_faults
from controller.sim.operators import VERBS
from controller.sim.searching.campaign import Finished, run_all, usual_jobs
from controller.sim.searching.shrink import broken_rule, shrink
from controller.views.simulation import SimulationView, distribution
from controller.words import duration_text

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / "build" / "sim"
SEEDS = 9000
SMALL, LARGE, WHOLE = 20, 200, 10_000
# One large fleet for so many small ones.
SMALL_PER_LARGE = 9
_SAY_EVERY_S = 10.0
_MOST_SHRUNK = 3

# A fleet that is large and otherwise ordinary: everything between agents and controller goes wrong, and the kernel is
# as good as its author says, so that the rollout has to come to its end.
WHOLE_SPEC = """\
apiVersion: kernroll/v1
kind: Rollout
metadata: {name: whole-fleet}
spec:
  kernels:
    x86_64: {debian: {version: "7.1.13"}}
    arm64: {debian: {version: "7.1.13"}}
  waves:
    - {per_stratum: 1, bake: 1h}
    - {percent: 1, bake: 1h}
    - {percent: 10, bake: 1h}
    - {rest: true, bake: 1h}
  workloads:
    swap_mount: {device: {brd_size: 1TiB}, repetitions: 2, warmups: 1, timeout: 10m}
  claim: [{metric: swap_mount.cost, saves_at_least: 230.4, unit: MiB/TiB}]
  limits: {max_in_flight: 250, max_unavailable: {zone: 10 %}, boot_timeout: 10m, error_budget: {share: 5 %}}
"""
WHOLE_FAULTS = """\
apiVersion: kernroll/v1
kind: Faults
metadata: {name: whole-fleet}
spec:
  fleet:
    - {architecture: x86_64, platform: vm, share: 70 %, spread: {zone: 5}}
    - {architecture: arm64, platform: metal, share: 30 %, spread: {zone: 5}}
  hosts:
    broken_rig: {share: 1 %, times: 2}
    deaf_supervisor: {share: 5 %, every: 2h, down_for: 40s}
  network:
    flaps: {share: 5 %, every: 3h, down_for: 30s}
    lost: {share: 0.1 %}
    duplicated: {share: 0.5 %}
    reordered: {share: 0.05 %}
  controller:
    crashes: {per_rollout: 5, down_for: 30s}
    leader_changes: {per_rollout: 3, down_for: 30s}
    store_fails: {per_rollout: 2, down_for: 20s}
"""


def make(key: str) -> Case:
    """Return the case of a key: HOSTS/SEED, or whole/SEED."""
    kind, _, seed = key.partition("/")
    if kind != "whole":
        return drawn(seed, hosts=int(kind))
    spec = parse_spec(WHOLE_SPEC, "whole.yaml")
    return Case(
        seed=seed,
        hosts=WHOLE,
        spec_yaml=WHOLE_SPEC,
        file_name="whole.yaml",
        spec=spec,
        faults=parse_faults(WHOLE_FAULTS, "whole-faults.yaml", VERBS),
    )


def fingerprint() -> str:
    """Return a name for the source: what was finished under another one counts no more."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "controller").rglob("*.py"), Path(__file__)]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Progress:
    """Says every few seconds how far it is and how fast."""

    def __init__(self, total: int, before: int) -> None:
        self._total = total
        self._before = before
        self._done = 0
        self._broken = 0
        self._began = self._said = time.monotonic()

    def __call__(self, view: SimulationView) -> None:
        self._done += 1
        self._broken += bool(view.breaches)
        now = time.monotonic()
        if now - self._said >= _SAY_EVERY_S:
            self._said = now
            self.say()

    def say(self) -> None:
        """Print one line."""
        took_s = max(time.monotonic() - self._began, 1e-9)
        rate = self._done / took_s
        left = self._total - self._before - self._done
        eta = f", {duration_text(left / rate)} left" if left and rate else ""
        done = self._before + self._done
        print(f"  {done} of {self._total} seeds, {rate:.2f} seeds/s{eta}, {self._broken} broken", flush=True)


def part(name: str, keys: list[str], finished: Finished, jobs: int) -> dict[str, SimulationView]:
    """Run what is not finished of one part, and return all of it."""
    known = finished.load()
    views = {key: known[key] for key in keys if key in known}
    print(f"{name}: {len(keys)} seeds, {len(views)} finished before", flush=True)
    progress = Progress(len(keys), len(views))

    def done(key: str, view: SimulationView) -> None:
        views[key] = view
        finished.append(key, view)
        progress(view)

    run_all([key for key in keys if key not in views], make, jobs=jobs, done=done)
    progress.say()
    found = distribution(list(views.values()))
    states = ", ".join(f"{count} {state}" for state, count in found.states.items())
    print(f"  {found.events} events; {states}", flush=True)
    return views


def explain(broken: dict[str, SimulationView]) -> None:
    """Print how to see each breach again, and smaller."""
    for number, (key, view) in enumerate(broken.items()):
        case = make(key)
        print(f"BROKEN {key}: {view.breaches[0]}")
        if key.startswith("whole/"):
            print(f"  again:    {sys.executable} tests/sim/run_seeds.py --only {key}")
            continue
        print(f"  again:    {command(case, case, '')}", flush=True)
        if number < _MOST_SHRUNK:
            print(f"  smallest: {command(shrink(case, broken_rule(view)), case, '')}", flush=True)


def main() -> int:
    """Run everything; return 1 when a rule broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"drawn worlds of {SMALL} hosts (%(default)s)")
    parser.add_argument("--jobs", type=int, default=usual_jobs(), help="processes (%(default)s)")
    parser.add_argument("--only", default="", help="one key, for example whole/1")
    parser.add_argument("--anew", action="store_true", help="forget what is finished")
    options = parser.parse_args()
    path = STATE / f"finished-{fingerprint()}.jsonl"
    if options.anew:
        path.unlink(missing_ok=True)
    run = partial(part, finished=Finished(path), jobs=options.jobs)
    began = time.monotonic()
    views: dict[str, SimulationView] = {}
    if options.only:
        views |= run("one", [options.only])
    else:
        large = -(-options.seeds // SMALL_PER_LARGE)
        views |= run(f"{SMALL} hosts", [f"{SMALL}/{seed}" for seed in range(options.seeds)])
        views |= run(f"{LARGE} hosts", [f"{LARGE}/{seed}" for seed in range(large)])
        views |= run(f"{WHOLE} hosts, a whole rollout", ["whole/1"])
    took = duration_text(time.monotonic() - began)
    broken = {key: view for key, view in views.items() if view.breaches}
    explain(broken)
    unfinished = [key for key, view in views.items() if key.startswith("whole/") and view.state != "promoted"]
    for key in unfinished:
        print(f"NOT PROMOTED {key}: {views[key].state}: {views[key].reason}")
    print(f"{len(views)} seeds, {len(broken)} broke a rule; this call took {took}; finished seeds are in {path}")
    return int(bool(broken or unfinished))


if __name__ == "__main__":
    sys.exit(main())
