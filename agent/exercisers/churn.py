"""The load under a swapoff: processes that write, swap out, compare and rewrite patterns until told to end."""

import os
import random
import select
import time
from functools import partial

from agent.domain.work.exercises import Advanced, ChurnOptions, End, Ready, ScenarioDone
from agent.domain.work.integrity import CHURN
from agent.domain.work.page_patterns import PagePatterns
from agent.exercisers.crowd import Crowd
from agent.exercisers.marked_memory import Findings, MarkedMemory
from agent.exercisers.process import Orders, emit, run_exerciser
from agent.exercisers.region import DONTNEED, PAGE_BYTES, Region

_WINDOW_PAGES = 512


def main() -> None:
    """Be the program."""
    run_exerciser(ChurnOptions, churn)


def churn(options: ChurnOptions, orders: Orders) -> None:
    """Start the processes, wait for the end, compare everything once more, tell what was found."""
    findings = Findings(scenario=CHURN, tell=emit)
    begun = time.monotonic()
    stop_in, stop_out = os.pipe()
    crowd = Crowd(findings)
    for number in range(options.processes):
        crowd.add(partial(_work, options, number, (stop_in, stop_out)))
    crowd.start()
    os.close(stop_in)
    emit(Ready(pid=os.getpid()))
    while not isinstance(orders.wait(), End):
        emit(Advanced(step="churning"))
    os.close(stop_out)
    crowd.collect()
    emit(
        ScenarioDone(
            scenario=CHURN,
            compared_pages=findings.compared_pages,
            swapped_bytes=0,
            wrong_pages=findings.wrong_pages,
            elapsed_s=time.monotonic() - begun,
        )
    )


def _work(options: ChurnOptions, number: int, stop: tuple[int, int], mine: Findings) -> None:
    stopped, stop_out = stop
    os.close(stop_out)
    rng = random.Random(f"{options.seed} churn {number}")
    patterns = PagePatterns(seed=options.seed * 1000 + 100 + number, page_bytes=PAGE_BYTES)
    with Region(options.size_bytes // options.processes // PAGE_BYTES * PAGE_BYTES) as region:
        memory = MarkedMemory(region=region, patterns=patterns, findings=mine)
        memory.write(range(region.pages))
        memory.push_out()
        if options.corrupt_page is not None and number == 0:
            memory.corrupt(options.corrupt_page, rng)
        while not select.select([stopped], [], [], 0.0)[0]:
            _step(memory, rng)
        memory.compare(range(region.pages))


def _step(memory: MarkedMemory, rng: random.Random) -> None:
    pages = memory.region.pages
    count = min(_WINDOW_PAGES, pages)
    first = rng.randrange(pages - count + 1)
    window = range(first, first + count)
    memory.compare(window)
    match rng.randrange(4):
        case 0:
            memory.write(window)
        case 1:
            memory.write(rng.sample(window, count // 4))
        case 2:
            memory.region.advise(DONTNEED, first * PAGE_BYTES, count * PAGE_BYTES)
            memory.write(window)
        case _:
            pass
    memory.push_out(first, count)


if __name__ == "__main__":
    main()
