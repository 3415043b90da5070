"""What an integrity run found, and whether the kernel passed: one wrong byte or one leaked slot is too many."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from agent.domain.errors import KernelWanting, RigError, WorkloadDied
from agent.domain.results import Sample
from agent.domain.work.exercises import ChildDied, Event, ScenarioDone, WrongPage

# Per processor and direction, kernels before 6.15 keep so many free slots in a cache and count them as used.
_CACHED_SLOTS = 64
_CACHE_DIRECTIONS = 2
_SLOT_CACHE_SYMBOL = "enable_swap_slots_cache"
_NAMED_PAGES = 3
# Of a kernel that gives everything back wrong, the first ones tell as much as all.
MOST_KEPT_PAGES = 200
# Sent by the out-of-memory killer, or by somebody on the host; a process that reads wrong memory dies of other signals.
_KILL_SIGNAL = 9
# The scenario of the load under a swapoff.
CHURN = "churn"
# What scenarios between processes use at the most: every process that rewrites pages needs copies of its own.
LARGEST_SHARED_BYTES = 16 << 20
# Counts of a shared page, on both sides of every change of form that swap counts have had.
COUNT_STEPS = (2, 62, 63, 64, 65, 127, 128, 129)


class IntegrityFindings:
    """Collects what exercisers tell during one run."""

    def __init__(self) -> None:
        self.done: list[ScenarioDone] = []
        # The first ones; all are counted.
        self.wrong: list[WrongPage] = []
        self.wrong_heard = 0
        self.died: list[ChildDied] = []

    def hear(self, event: Event) -> None:
        """Take an event; signs of life and the like say nothing of the kernel."""
        match event:
            case ScenarioDone():
                self.done.append(event)
            case WrongPage():
                self.wrong_heard += 1
                if len(self.wrong) < MOST_KEPT_PAGES:
                    self.wrong.append(event)
            case ChildDied():
                self.died.append(event)
            case _:
                pass

    def judge(self, *, size_bytes: int, least_count: int, killed_for_memory: int = 0) -> None:
        """Raise KernelWanting for faults of the kernel, WorkloadDied for killed children, RigError without proof.

        `size_bytes` is what every scenario meant to have in swap; `least_count` is how often shared pages had to be
        counted at the highest; `killed_for_memory` is how many processes the kernel says it killed for want of memory.
        """
        self._judge_faults()
        self._judge_kills(killed_for_memory)
        for each in self.done:
            # Whether the load under a swapoff was in swap is seen from outside.
            if each.skipped or each.scenario == CHURN:
                continue
            if each.swapped_bytes < min(size_bytes, LARGEST_SHARED_BYTES) // 2:
                raise RigError(
                    f"scenario {each.scenario} had only {each.swapped_bytes} bytes in swap, so it proves nothing; is "
                    "the swap too small or full?"
                )
        highest = self.highest_count
        if any(each.scenario == "shared_counts" for each in self.done) and highest < least_count:
            raise RigError(f"shared pages were counted {highest} times at most, and {least_count} were wanted")

    @property
    def highest_count(self) -> int:
        """Return the highest count of a swapped page that the kernel showed."""
        return max((each.highest_count for each in self.done), default=0)

    def samples(self) -> tuple[Sample, ...]:
        """Return the sums over all scenarios."""
        compared = sum(each.compared_pages for each in self.done)
        wrong = sum(each.wrong_pages for each in self.done)
        skipped = sum(1 for each in self.done if each.skipped)
        return (
            Sample(metric="swap_integrity.compared", value=float(compared), unit="pages"),
            Sample(metric="swap_integrity.wrong", value=float(wrong), unit="pages"),
            Sample(metric="swap_integrity.highest_count", value=float(self.highest_count), unit="count"),
            Sample(metric="swap_integrity.skipped", value=float(skipped), unit="count"),
        )

    def evidence(self) -> dict[str, str]:
        """Return all findings as JSON documents."""
        documents = {
            "scenarios": [asdict(each) for each in self.done],
            "wrong_pages": [asdict(each) for each in self.wrong],
            "died_children": [asdict(each) for each in self.died],
        }
        found = {name: json.dumps(document, indent=1) for name, document in documents.items() if document}
        if left_out := self.wrong_heard - len(self.wrong):
            found["wrong_pages_left_out"] = f"{left_out} more wrong pages were told\n"
        return found

    def _judge_faults(self) -> None:
        if self.wrong:
            wrong = sum(each.wrong_pages for each in self.done) or self.wrong_heard
            first = "; ".join(_in_words(each) for each in self.wrong[:_NAMED_PAGES])
            raise KernelWanting(f"{wrong} pages came back wrong from swap: {first}", evidence=self.evidence())
        for each in self.died:
            if each.signal != _KILL_SIGNAL:
                raise KernelWanting(
                    f"a process of scenario {each.scenario} died of signal {each.signal} while it read swapped memory",
                    evidence=self.evidence(),
                )

    def _judge_kills(self, killed_for_memory: int) -> None:
        if self.died:
            why = " for want of memory" if killed_for_memory else "; the kernel log says whether memory ran out"
            scenarios = ", ".join(dict.fromkeys(each.scenario for each in self.died))
            raise WorkloadDied(
                f"{len(self.died)} processes of scenario {scenarios} were killed{why}", evidence=self.evidence()
            )


def _in_words(page: WrongPage) -> str:
    return (
        f"{page.scenario} page {page.page} generation {page.generation} at byte {page.offset}: expected "
        f"{page.expected}, found {page.found} ({page.wrong_bytes} wrong bytes; looks like {page.looks_like})"
    )


def slot_allowance(symbols: Iterable[str], cpu_count: int) -> int:
    """Return how many free slots a kernel may count as used; 0 from 6.15 on, whose kernels keep no cache of slots.

    `symbols` are the lines of /proc/kallsyms. A kernel that shows none might have the cache.
    """
    seen = False
    for line in symbols:
        seen = True
        if line.rstrip().endswith(_SLOT_CACHE_SYMBOL):
            break
    else:
        if seen:
            return 0
    return _CACHED_SLOTS * _CACHE_DIRECTIONS * cpu_count


def unowned_slots(*, used_pages: int, owned_pages: int, allowance_pages: int) -> int:
    """Return how many used slots neither a process nor the kernel's cache of free slots owns.

    They are leaked, or of memory files.
    """
    return max(0, used_pages - owned_pages - allowance_pages)
