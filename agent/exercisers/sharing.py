"""What swap can break between processes: counts that grow past every width they have had, and races of their ends.

A forked child counts once more on every page that is in swap. The count of a slot was six bits wide with one continued
elsewhere, later it has been fewer bits of a table; 1, 63 and 127 are where it changes its form.
"""

import os
import random
import signal
from collections.abc import Mapping
from functools import partial
from typing import Final

from agent.domain.work.integrity import COUNT_STEPS, LARGEST_SHARED_BYTES
from agent.exercisers.crowd import Crowd
from agent.exercisers.marked_memory import Findings, MarkedMemory
from agent.exercisers.process import fork
from agent.exercisers.region import PAGE_BYTES, Region
from agent.exercisers.scenarios import Ground, Scenario, Seen


def shared_counts(ground: Ground) -> Seen:
    """Fork one child after another at the steps of the count, let them end one by one, compare after each step."""
    with Region(_size(ground)) as region:
        memory = ground.marked(region)
        memory.push_out()
        swapped = region.swapped_bytes()
        sleepers: list[int] = []
        ending, starter = os.pipe()
        looks = _look_pages(ground, region)
        steps = [step for step in COUNT_STEPS if step <= ground.options.children + 1]
        highest = 0
        try:
            for step in steps:
                while len(sleepers) + 1 < step:
                    sleepers.append(fork(partial(_sleep, ending, starter)))
                highest = max(highest, region.swap_count())
                _compare_in_child(ground, memory, looks)
            # Down again, by the other path: the count of every page falls with each end.
            for step in reversed(steps[:-1]):
                while len(sleepers) + 1 > step:
                    _end(sleepers.pop())
                _compare_in_child(ground, memory, looks)
        finally:
            while sleepers:
                _end(sleepers.pop())
            os.close(starter)
            os.close(ending)
        ground.corrupt(memory)
        memory.compare(range(region.pages))
        return Seen(swapped_bytes=swapped, highest_count=highest)


def race(ground: Ground) -> Seen:
    """All children at once: some compare everything, some rewrite, some end, some are killed half-way."""
    with Region(_size(ground)) as region:
        memory = ground.marked(region)
        memory.push_out()
        swapped = region.swapped_bytes()
        crowd = Crowd(ground.findings)
        for number in range(ground.options.children):
            crowd.add(partial(_race, memory, random.Random(f"{ground.options.seed} {number}"), number % 4))
        crowd.start()
        memory.write(range(0, region.pages, 3))
        crowd.kill(0.25, ground.rng)
        memory.push_out()
        crowd.collect()
        # What children wrote is theirs; the parent's pages are what the parent wrote.
        ground.corrupt(memory)
        memory.compare(range(region.pages))
        return Seen(swapped_bytes=swapped)


def ends_together(ground: Ground) -> Seen:
    """Children with swapped memory of their own end at the same moment, while the parent's comes back."""
    with Region(_size(ground)) as region:
        memory = ground.marked(region)
        memory.push_out()
        swapped = region.swapped_bytes()
        for _ in range(3):
            crowd = Crowd(ground.findings)
            for number in range(min(8, ground.options.children)):
                crowd.add(partial(_own_then_end, memory, number))
            crowd.start()
            memory.compare(range(region.pages))
            memory.push_out()
            crowd.kill(0.5, ground.rng)
            memory.compare(range(region.pages))
            crowd.collect()
            memory.push_out()
        ground.corrupt(memory)
        memory.compare(range(region.pages))
        return Seen(swapped_bytes=swapped)


def _size(ground: Ground) -> int:
    share = min(ground.options.size_bytes, LARGEST_SHARED_BYTES)
    return max(PAGE_BYTES * 64, share // PAGE_BYTES * PAGE_BYTES)


def _look_pages(ground: Ground, region: Region) -> list[int]:
    return sorted(ground.rng.sample(range(region.pages), min(region.pages, 256)))


def _compare_in_child(ground: Ground, memory: MarkedMemory, pages: list[int]) -> None:
    # In a child, so that the parent's pages, and with them the counts, stay in swap.
    crowd = Crowd(ground.findings)
    crowd.add(lambda mine: _with(memory, mine).compare(pages))
    crowd.start()
    crowd.collect()


def _race(memory: MarkedMemory, rng: random.Random, role: int, mine: Findings) -> None:
    own = _with(memory, mine)
    pages = range(own.region.pages)
    match role:
        case 0:
            own.compare(pages)
        case 1:
            rewritten = rng.sample(pages, len(pages) // 8)
            own.write(rewritten)
            own.push_out()
            own.compare(rewritten)
            own.compare(rng.sample(pages, len(pages) // 4))
        case 2:
            own.compare(rng.sample(pages, len(pages) // 16))
        case _:
            # Ends at once, among those that still read.
            pass


def _own_then_end(memory: MarkedMemory, number: int, mine: Findings) -> None:
    own = _with(memory, mine)
    eighth = max(1, own.region.pages // 8)
    first = number % 8 * eighth
    pages = range(first, min(first + eighth, own.region.pages))
    own.write(pages)
    own.push_out()
    own.compare(pages)


def _with(memory: MarkedMemory, mine: Findings) -> MarkedMemory:
    own = MarkedMemory(region=memory.region, patterns=memory.patterns, findings=mine)
    own.generations[:] = memory.generations
    return own


def _sleep(ending: int, starter: int) -> None:
    os.close(starter)
    # Nobody writes: the read ends when the parent has closed its end, or is gone.
    os.read(ending, 1)


def _end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


BETWEEN_PROCESSES: Final[Mapping[str, Scenario]] = {
    "shared_counts": shared_counts,
    "race": race,
    "ends_together": ends_together,
}
