"""What swap can break in one process: rewriting, giving back, moving and huge pages."""

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.domain.work.exercises import IntegrityOptions
from agent.domain.work.page_patterns import PagePatterns
from agent.exercisers.marked_memory import Findings, MarkedMemory
from agent.exercisers.region import DONTNEED, FREE, HUGEPAGE, PAGE_BYTES, Region, huge_page_bytes, punch_hole

_HUGE_PAGES_PATH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


class Skipped(Exception):
    """The scenario cannot take place on this kernel; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a scenario works with."""

    options: IntegrityOptions
    patterns: PagePatterns
    findings: Findings
    rng: random.Random

    def marked(self, region: Region) -> MarkedMemory:
        """Return a region with every page written once."""
        memory = MarkedMemory(region=region, patterns=self.patterns, findings=self.findings)
        memory.write(range(region.pages))
        return memory

    def corrupt(self, memory: MarkedMemory) -> None:
        """Damage the page that the options name, if they do."""
        page = self.options.corrupt_page
        if page is not None and page < memory.region.pages:
            memory.corrupt(page, self.rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the kernel showed when it mattered."""

    swapped_bytes: int
    # How often it counted the shared pages; 0 where none were shared.
    highest_count: int = 0


Scenario = Callable[[Ground], Seen]


def private(ground: Ground) -> Seen:
    """Anonymous pages, out and in again; then half of them rewritten, out and in again, many times over."""
    with Region(ground.options.size_bytes) as region:
        memory = ground.marked(region)
        memory.push_out()
        swapped = region.swapped_bytes()
        ground.corrupt(memory)
        memory.compare(range(region.pages))
        for _ in range(3):
            memory.push_out()
            memory.write(ground.rng.sample(range(region.pages), region.pages // 2))
            memory.push_out()
            memory.compare(range(region.pages))
        return Seen(swapped_bytes=swapped)


def given_back(ground: Ground) -> Seen:
    """Swapped pages dropped by MADV_DONTNEED read as zero; those by MADV_FREE hold the old content or zero."""
    with Region(ground.options.size_bytes) as region:
        memory = ground.marked(region)
        memory.push_out()
        swapped = region.swapped_bytes()
        eighth = region.pages // 8
        dropped, freed, kept = range(eighth), range(eighth, 3 * eighth), range(3 * eighth, region.pages)
        region.advise(DONTNEED, 0, eighth * PAGE_BYTES)
        memory.expect_zero(dropped)
        # Half of what is freed lazily is resident again, half still in swap.
        memory.compare(range(eighth, 2 * eighth))
        region.advise(FREE, eighth * PAGE_BYTES, 2 * eighth * PAGE_BYTES)
        memory.push_out()
        memory.compare(freed, or_zero=True)
        memory.write((*dropped, *freed))
        memory.push_out()
        ground.corrupt(memory)
        memory.compare((*dropped, *freed, *kept))
        return Seen(swapped_bytes=swapped)


def moved(ground: Ground) -> Seen:
    """Swapped pages that mremap moves are the same pages at the new address; cut-off ones are gone."""
    with Region(ground.options.size_bytes) as region:
        memory = ground.marked(region)
        memory.push_out()
        swapped = region.swapped_bytes()
        region.move()
        memory.compare(range(0, region.pages, 2))
        memory.push_out()
        region.move()
        region.shorten(region.size_bytes // 2 // PAGE_BYTES * PAGE_BYTES)
        ground.corrupt(memory)
        memory.compare(range(region.pages))
        return Seen(swapped_bytes=swapped)


def huge(ground: Ground) -> Seen:
    """Huge pages swapped out whole or split, given back in part, and compared."""
    size = huge_page_bytes()
    if not size or "[never]" in _HUGE_PAGES_PATH.read_text():
        raise Skipped("this kernel has no transparent huge pages, or they are switched off")
    whole = ground.options.size_bytes // size
    if not whole:
        raise Skipped(f"one huge page of this kernel has {size} bytes, more memory than was ordered")
    with Region(whole * size, align_bytes=size) as region:
        region.advise(HUGEPAGE)
        memory = ground.marked(region)
        memory.push_out()
        swapped = region.swapped_bytes()
        per_huge = size // PAGE_BYTES
        # Every second huge page loses a page in its middle, so that it has to be split wherever it is.
        holes = [number * per_huge + per_huge // 2 for number in range(0, whole, 2)]
        for page in holes:
            region.advise(DONTNEED, page * PAGE_BYTES, PAGE_BYTES)
        memory.expect_zero(holes)
        memory.push_out()
        memory.write(holes)
        memory.push_out()
        ground.corrupt(memory)
        memory.compare(range(region.pages))
        return Seen(swapped_bytes=swapped)


def shared_file(ground: Ground) -> Seen:
    """Pages of a file in memory (shmem): through the mapping, through read(), after a hole and after a cut."""
    descriptor = os.memfd_create("kernroll")
    try:
        os.ftruncate(descriptor, ground.options.size_bytes)
        with Region(ground.options.size_bytes, shared_file=descriptor) as region:
            memory = ground.marked(region)
            memory.push_out()
            swapped = region.swapped_bytes()
            hole = range(region.pages // 4, region.pages // 2)
            punch_hole(descriptor, hole.start * PAGE_BYTES, len(hole) * PAGE_BYTES)
            memory.expect_zero(hole)
            memory.write(hole)
            memory.push_out()
            ground.corrupt(memory)
            for number in range(0, region.pages, 2):
                _compare_read(memory, descriptor, number)
            memory.compare(range(region.pages))
            memory.push_out()
            # What lay behind the end must not come back when the file grows again.
            half = region.pages // 2
            os.ftruncate(descriptor, half * PAGE_BYTES)
            os.ftruncate(descriptor, region.size_bytes)
            memory.expect_zero(range(half, region.pages))
            memory.compare(range(half))
            return Seen(swapped_bytes=swapped)
    finally:
        os.close(descriptor)


def _compare_read(memory: MarkedMemory, descriptor: int, number: int) -> None:
    found = os.pread(descriptor, PAGE_BYTES, number * PAGE_BYTES)
    generation = memory.generations[number]
    wrong = memory.patterns.compare(found, number=number, generation=generation, scenario=memory.findings.scenario)
    memory.findings.compared_pages += 1
    if wrong is not None:
        memory.findings.wrong(wrong)


OF_ONE_PROCESS: Final[Mapping[str, Scenario]] = {
    "private": private,
    "given_back": given_back,
    "moved": moved,
    "huge": huge,
    "shared_file": shared_file,
}
