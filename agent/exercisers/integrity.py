"""Runs the scenarios that a rewrite of the swap count can break, and tells every wrong page."""

import os
import random
import time

from agent.domain.work.exercises import Advanced, IntegrityOptions, Ready, ScenarioDone
from agent.domain.work.page_patterns import PagePatterns
from agent.exercisers.marked_memory import Findings
from agent.exercisers.process import Orders, emit, run_exerciser
from agent.exercisers.region import PAGE_BYTES
from agent.exercisers.scenarios import OF_ONE_PROCESS, Ground, Scenario, Seen, Skipped
from agent.exercisers.sharing import BETWEEN_PROCESSES

SCENARIOS = {**OF_ONE_PROCESS, **BETWEEN_PROCESSES}


def main() -> None:
    """Be the program."""
    run_exerciser(IntegrityOptions, check)


def check(options: IntegrityOptions, orders: Orders) -> None:
    """Run every scenario the options name as often as told to go on; ready again after each time."""
    names = options.scenarios or tuple(SCENARIOS)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise ValueError(f"no scenario is called {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    emit(Ready(pid=os.getpid()))
    for _ in orders:
        for name in names:
            emit(Advanced(step=name))
            emit(_run(name, SCENARIOS[name], options))
        emit(Ready(pid=os.getpid()))


def _run(name: str, scenario: Scenario, options: IntegrityOptions) -> ScenarioDone:
    findings = Findings(scenario=name, tell=emit)
    ground = Ground(
        options=options,
        # A page of one scenario must not pass for one of another.
        patterns=PagePatterns(seed=options.seed * 1000 + list(SCENARIOS).index(name), page_bytes=PAGE_BYTES),
        findings=findings,
        rng=random.Random(f"{options.seed} {name}"),
    )
    begun = time.monotonic()
    skipped, seen = "", Seen(swapped_bytes=0)
    try:
        seen = scenario(ground)
    except Skipped as error:
        skipped = str(error)
    return ScenarioDone(
        scenario=name,
        compared_pages=findings.compared_pages,
        swapped_bytes=seen.swapped_bytes,
        wrong_pages=findings.wrong_pages,
        elapsed_s=time.monotonic() - begun,
        highest_count=seen.highest_count,
        skipped=skipped,
    )


if __name__ == "__main__":
    main()
