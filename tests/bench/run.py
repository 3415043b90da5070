"""Benchmarks of the engine: `make bench`. Each figure is a ratio against a peer measured in the same run."""

import asyncio
import gc
import json
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from candidates import candidate
from simulated_fleet import SPEC, UID, Simulation
from spec_texts import BODY, HEAD

from controller.adapters.store.sql import sqlite_store
from controller.domain.planning.selection import plan_waves
from controller.domain.record.effects import RebootHost
from controller.domain.record.events import CommandReported, CommandState, HostSilent, RunReported, RunState
from controller.domain.record.journey import Step
from controller.domain.record.names import Key
from controller.domain.spec.parse import parse_spec
from controller.services.records import Commit
from controller.services.state.world import World, folded

SIZES = (1_000, 10_000, 100_000)
SMALL, LARGE = SIZES[0], SIZES[-1]
# What one change may cost more in a larger fleet than in the smallest one.
ALLOWED_RATIO = 2.0
# A plan is made of all hosts at once, and a large fleet is not in the processor's caches. Its square would be 100.
ALLOWED_PLANNING_RATIO = 4.0
# Every so many hosts one is away in the fleet whose budget is full.
AWAY_EVERY = 100
ROUNDS = 2_000
TURNS = 4
COMMITS = 500


def fleet(size: int) -> Simulation:
    """A rollout over `size` hosts of which 100 are measured right now."""
    names = [f"host-{number:06d}" for number in range(size)]
    simulation = Simulation([names], max_in_flight=100)
    simulation.settle()
    return simulation


def full_fleet(size: int) -> Simulation:
    """The same with a budget by place that is used up, and one of a hundred hosts away for other reasons."""
    names = [f"host-{number:06d}" for number in range(size)]
    text = SPEC.replace("max_in_flight: IN_FLIGHT", "max_unavailable: {fleet: 100}")
    simulation = Simulation([names], spec=text)
    simulation.settle()
    for name in names[AWAY_EVERY::AWAY_EVERY]:
        simulation.world.see(replace(simulation.world.hosts[name], connected=False))
    simulation.settle()
    return simulation


def one_change(simulation: Simulation, number: int) -> None:
    """What a tick does: a report comes in, its attempt and its rollout are decided again, deadlines are looked at."""
    host = f"host-{number % 100:06d}"
    world = simulation.world
    attempt = world.attempts[UID][host]
    event: RunReported | CommandReported
    if attempt.step is Step.BASELINE and number % 7:
        event = RunReported(
            at=simulation.now,
            report_id=f"r{number}",
            command_id="another",
            boot_id=attempt.boot_id,
            workload="swap_mount",
            index=0,
            warmup=False,
            state=RunState.OK,
            error="",
            values={"swap_mount.cost": 819.0},
        )
    else:
        event = CommandReported(
            at=simulation.now, report_id=f"c{number}", command_id="another", state=CommandState.COMPLETED, detail=""
        )
    simulation.record(Key(UID, host), event)
    world.mark(Key(UID))
    simulation.settle()


def time_per_call(call: Callable[[int], None], rounds: int) -> float:
    """Return the median over ten batches of the processor seconds that one call takes, whoever else computes here."""
    batches = []
    for batch in range(10):
        begin = time.process_time()
        for number in range(rounds // 10):
            call(batch * rounds + number)
        batches.append((time.process_time() - begin) / (rounds // 10))
    return statistics.median(batches)


def tick(make: Callable[[int], Simulation]) -> dict[str, float]:
    """A tick with one change at three sizes of fleet, in turns so that all see the same machine."""
    fleets = {size: make(size) for size in SIZES}
    cost: dict[int, list[float]] = {size: [] for size in SIZES}
    for turn in range(TURNS + 1):
        for size, simulation in fleets.items():
            took = time_per_call(partial(one_change, simulation), ROUNDS // TURNS)
            # The first turn warms up.
            if turn:
                cost[size].append(took)
    return _by_size({size: statistics.median(times) for size, times in cost.items()})


def journeys() -> dict[str, float]:
    """The cost of an event while 100 hosts at a time walk whole journeys, in turns like a tick."""
    fleets = {size: fleet(size) for size in SIZES}
    cost: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(TURNS):
        for size, simulation in fleets.items():
            begin = time.process_time()
            simulation.run(until=partial(_has_events, simulation, len(simulation.log) + 2_000), horizon_s=1e6)
            cost[size].append((time.process_time() - begin) / 2_000)
    return _by_size({size: statistics.median(times) for size, times in cost.items()})


def planning() -> dict[str, float]:
    """The cost of a host in a plan of five waves over seven strata, by size of the fleet."""
    waves = "waves: [{per_stratum: 1}, {percent: 1}, {percent: 5}, {percent: 25}, {rest: true}]"
    rollout = parse_spec(f"{HEAD}{BODY}  {waves}\n", "rollout.yaml")
    fleet = [candidate(f"host-{number:06d}", f"x86_64/p{number % 7}") for number in range(LARGE)]
    # What the other benchmarks left in memory is not part of it.
    gc.collect()
    gc.freeze()
    cost: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(2 * TURNS):
        for size in SIZES:
            begin = time.process_time()
            plan_waves(rollout, fleet[:size], "s")
            cost[size].append((time.process_time() - begin) / size)
    return _by_size({size: statistics.median(times) for size, times in cost.items()})


def _by_size(cost: Mapping[int, float]) -> dict[str, float]:
    found = {f"{size}_us": seconds * 1e6 for size, seconds in cost.items()}
    return {**found, "ratio": max(cost[size] / cost[SMALL] for size in SIZES)}


def _has_events(simulation: Simulation, number: int) -> bool:
    return len(simulation.log) >= number


async def _commits(path: Path) -> float:
    """Seconds per durable commit of one event with one effect."""
    store = sqlite_store(path)
    await store.open()
    begin = time.perf_counter()
    for number in range(COMMITS):
        await store.commit(
            Commit(
                stream="attempt/u/h",
                expected_revision=number,
                events=(HostSilent(at=float(number)),),
                effects=(RebootHost(command_id=f"u/h/{number}", host="h"),),
            )
        )
    took = (time.perf_counter() - begin) / COMMITS
    await store.close()
    return took


def _bare_commits(path: Path) -> float:
    """The same rows by the standard library's sqlite3 with the same durability: the floor."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE events (number INTEGER PRIMARY KEY, payload TEXT)")
        connection.execute("CREATE TABLE effects (command_id TEXT PRIMARY KEY, payload TEXT)")
        begin = time.perf_counter()
        for number in range(COMMITS):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO events (payload) VALUES (?)", (f'{{"at":{number}.0}}',))
            connection.execute("DELETE FROM effects")
            connection.execute("INSERT INTO effects VALUES (?, ?)", (f"u/h/{number}", '{"host":"h"}'))
            connection.execute("COMMIT")
        return (time.perf_counter() - begin) / COMMITS


def commits() -> dict[str, float]:
    """One durable commit through the store, against bare sqlite3."""
    with tempfile.TemporaryDirectory() as folder:
        bare = _bare_commits(Path(folder) / "bare.db")
        ours = asyncio.run(_commits(Path(folder) / "ours.db"))
    return {"bare_us": bare * 1e6, "ours_us": ours * 1e6, "ratio": ours / bare}


def refold() -> dict[str, float]:
    """Restarting over the log of 1 000 hosts' whole journeys."""
    simulation = Simulation([[f"host-{number:06d}" for number in range(1_000)]], max_in_flight=1_000)
    simulation.run()
    log = [(key.stream, event) for key, event in simulation.log]
    begin = time.perf_counter()
    world: World = folded(log, simulation.world.hosts)
    took = time.perf_counter() - begin
    assert world.attempts == simulation.world.attempts
    return {"events": len(log), "events_per_s": len(log) / took}


def main() -> int:
    """Run all benchmarks, print them as JSON, and fail when the tick grows with the fleet."""
    results = {
        "tick": tick(fleet),
        "tick_budget_full": tick(full_fleet),
        "journeys": journeys(),
        "planning": planning(),
        "commit": commits(),
        "refold": refold(),
    }
    results["memory"] = {"max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    print(json.dumps(results, indent=2))
    broken = False
    for name, what, allowed in (
        ("tick", "tick with one change", ALLOWED_RATIO),
        ("tick_budget_full", "the same while the budget is used up and hosts are away", ALLOWED_RATIO),
        ("journeys", "an event of a walking host", ALLOWED_RATIO),
        ("planning", "a host in a plan", ALLOWED_PLANNING_RATIO),
    ):
        ratio = results[name]["ratio"]
        broken = broken or ratio > allowed
        verdict = "holds" if ratio <= allowed else "BROKEN"
        print(f"{what}, up to {LARGE} hosts against {SMALL}: {ratio:.2f} × (allowed {allowed} ×): {verdict}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
