"""Test programs that tell their cases in words of their own: khugepaged and, up to some release, uffd-unit-tests.

Run test: collapse_full (khugepaged:anon)          Testing zeropage on anon... done
Allocate huge page... \\x1b[32mOK\\x1b[0m              Testing move on shmem... skipped [reason: feature missing]
"""

import re
from collections.abc import Iterator

from agent.domain.work.ktap import Case, CaseState

_SECTION = re.compile(r"^Run test: (.+)$", re.MULTILINE)
_COLOURS = {
    "\x1b[31m": CaseState.FAILED,
    "\x1b[33m": CaseState.SKIPPED,
    "\x1b[32m": CaseState.PASSED,
}
_CODES = re.compile(r"\x1b\[[0-9;]*m")
_TESTING = re.compile(r"Testing (?P<name>.+?)\.\.\. ?(?P<word>done|skipped|failed)(?: \[reason: (?P<why>.*)\])?")
_WORDS = {"done": CaseState.PASSED, "skipped": CaseState.SKIPPED, "failed": CaseState.FAILED}
_LONGEST = 160


def parse_spoken(text: str) -> tuple[Case, ...]:
    """Return the cases that the output tells of; none in any other output."""
    found: dict[str, Case] = {}
    for case in (*_sections(text), *_sentences(text)):
        # One told twice counts as failed when it failed once.
        if case.name not in found or case.state is CaseState.FAILED:
            found[case.name] = case
    return tuple(found.values())


def _sections(text: str) -> Iterator[Case]:
    """Yield a case a section: failed when anything in it did; one that told nothing yet is left out."""
    # What stands before the first head, then a name and what follows it by turns.
    _, *parts = _SECTION.split(text)
    for name, told in zip(parts[::2], parts[1::2], strict=True):
        lines = told.splitlines()
        for colour, state in _COLOURS.items():
            if marked := [line for line in lines if colour in line]:
                remark = "" if state is CaseState.PASSED else _CODES.sub("", marked[0]).strip()
                yield Case(name=" ".join(name.split())[:_LONGEST], state=state, remark=remark[:_LONGEST])
                break


def _sentences(text: str) -> Iterator[Case]:
    for line in text.splitlines():
        if told := _TESTING.match(line):
            yield Case(
                name=told["name"][:_LONGEST], state=_WORDS[told["word"]], remark=(told["why"] or "").strip()[:_LONGEST]
            )
