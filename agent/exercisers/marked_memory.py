"""A region whose pages carry patterns: written, swapped out and compared, every wrong page told."""

import random
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent.domain.work.exercises import WrongPage
from agent.domain.work.page_patterns import PagePatterns
from agent.exercisers.region import PAGE_BYTES, Region

# A kernel that loses everything need not say so a million times.
_MOST_TOLD = 200


@dataclass(slots=True)
class Findings:
    """What one scenario found so far."""

    scenario: str
    tell: Callable[[WrongPage], None]
    compared_pages: int = 0
    wrong_pages: int = 0

    def wrong(self, page: WrongPage) -> None:
        """Count a wrong page and tell it."""
        self.wrong_pages += 1
        if self.wrong_pages <= _MOST_TOLD:
            self.tell(page)


@dataclass(slots=True, kw_only=True)
class MarkedMemory:
    """Pages of a region by number, each in a generation that is counted up with every rewrite."""

    region: Region
    patterns: PagePatterns
    findings: Findings
    generations: "array[int]" = field(init=False)

    def __post_init__(self) -> None:
        self.generations = array("I", bytes(4 * self.region.pages))

    def write(self, pages: Iterable[int]) -> None:
        """Write the next generation into these pages."""
        region, page, generations = self.region, self.patterns.page, self.generations
        for number in pages:
            generations[number] += 1
            region.write(number * PAGE_BYTES, page(number, generations[number]))

    def compare(self, pages: Iterable[int], *, or_zero: bool = False) -> None:
        """Compare these pages with what was written last; `or_zero`: the kernel was free to drop them."""
        region, patterns, generations = self.region, self.patterns, self.generations
        count = 0
        for number in pages:
            count += 1
            found = region.read(number * PAGE_BYTES)
            if found != patterns.page(number, generations[number]):
                self._judge(number, found, or_zero=or_zero)
        self.findings.compared_pages += count

    def expect_zero(self, pages: Iterable[int]) -> None:
        """Compare pages that were given back: they must read as zero."""
        zero = bytes(PAGE_BYTES)
        for number in pages:
            self.findings.compared_pages += 1
            found = self.region.read(number * PAGE_BYTES)
            if found != zero:
                first = len(found) - len(found.lstrip(b"\0"))
                self.findings.wrong(
                    WrongPage(
                        scenario=self.findings.scenario,
                        page=number,
                        generation=self.generations[number],
                        offset=first,
                        wrong_bytes=PAGE_BYTES - found.count(0),
                        expected=bytes(16).hex(),
                        found=found[first : first + 16].hex(),
                        looks_like=self.patterns.looks_like(found),
                    )
                )

    def push_out(self, first: int = 0, count: int | None = None) -> None:
        """Have the kernel swap pages out."""
        pages = self.region.pages - first if count is None else count
        self.region.page_out(first * PAGE_BYTES, pages * PAGE_BYTES)

    def corrupt(self, number: int, rng: random.Random) -> None:
        """Flip one bit of one page, as a faulty kernel would."""
        offset = number * PAGE_BYTES + rng.randrange(PAGE_BYTES)
        (byte,) = self.region.read(offset, 1)
        self.region.write(offset, bytes([byte ^ 1 << rng.randrange(8)]))

    def _judge(self, number: int, found: bytes, *, or_zero: bool) -> None:
        wrong = self.patterns.compare(
            found,
            number=number,
            generation=self.generations[number],
            scenario=self.findings.scenario,
            or_zero=or_zero,
        )
        if wrong is not None:
            self.findings.wrong(wrong)
