"""The Kernel Test Anything Protocol as test programs print it: cases by name, nested ones too, and how the output ends.

https://docs.kernel.org/dev-tools/ktap.html; kselftest's own headers print a little more than that says: directives in
the place of names ("ok 3 # SKIP no huge page"), XFAIL and XPASS beside SKIP, and "Bail out!" from TAP.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class CaseState(StrEnum):
    """What became of a test case."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"  # could not run here, or is expected to fail: says nothing of the kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. Its name stays the same from run to run; a nested one's begins with its parents'."""

    name: str
    state: CaseState
    # Why it was skipped or is an error, as far as the line says so.
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ktap:
    """What a program told of its cases."""

    cases: tuple[Case, ...] = ()
    # None when no plan was printed; results at the outermost level.
    planned: int | None = None
    told: int = 0
    # Why everything was skipped ("1..0 # SKIP reason"), and why the program gave up; empty when not.
    skipped: str = ""
    bailed: str = ""


# A number may be missing where what follows shows that the line is a result all the same.
_RESULT = re.compile(
    r"(?P<indent> *)(?P<bad>not +)?ok(?: +(?P<number>[0-9]{1,9})(?:\s+(?P<rest>.*))?| +(?P<unnumbered>(?:-|#)\s.*))"
)
# What terminals take for colours.
_COLOUR = re.compile(r"\x1b\[[0-9;:?]*[A-Za-z]")
_PLAN = re.compile(r"1\.\.(?P<count>[0-9]{1,9})(?:\s*#\s*(?:SKIP\S*)?\s*(?P<reason>.*))?", re.IGNORECASE)
# TAP takes any word that begins with "skip" ("# skipped", "# SKIP: no huge pages") and wants a space before the sign:
# what stands within a word, "test#1", is the name's own.
# A test that is still to be done is told by the word that this house has no other use for, hence the brackets.
_DIRECTIVE = re.compile(
    r"(?:^|\s)#\s*(?P<word>(?P<skip>SKIP\S*)|(?:(?P<expected>XFAIL|T[O]DO)|(?P<passed>XPASS)|ERROR|TIMEOUT)\b:?)\s*(?P<remark>.*)",
    re.IGNORECASE,
)
_BAIL_OUT = "Bail out!"
_NOTHING_SAID = "no reason given"
# What differs from run to run: addresses and times.
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+\b")
_TIME = re.compile(r"\b[0-9]+(?:\.[0-9]+)? ?(?:ns|us|ms|s|secs?|seconds?)\b")
_LONGEST = 160


def parse_ktap(text: str) -> Ktap:
    """Return what the output tells; text that is no KTAP tells of no cases. Raises nothing."""
    open_cases: dict[int, list[Case]] = {}
    planned, skipped, bailed, told = None, "", "", 0
    for line in _COLOUR.sub("", text.removeprefix("\ufeff")).splitlines():
        if line.startswith(_BAIL_OUT):
            bailed = bailed or line.removeprefix(_BAIL_OUT).strip() or _NOTHING_SAID
        elif plan := _PLAN.fullmatch(line.rstrip()):
            planned = int(plan["count"])
            if not planned:
                skipped = (plan["reason"] or "").strip() or _NOTHING_SAID
        elif result := _RESULT.fullmatch(line.rstrip()):
            depth = len(result["indent"])
            told += not depth
            nested = _taken(open_cases, deeper_than=depth)
            open_cases.setdefault(depth, []).extend(_closed(_case(result), nested))
    # Of a program that was killed, nested cases may have no parent's line yet.
    return Ktap(
        cases=_numbered(_taken(open_cases, deeper_than=-1)),
        planned=planned,
        told=told,
        skipped=skipped,
        bailed=bailed,
    )


def _case(result: re.Match[str]) -> Case:
    rest = (result["rest"] or result["unnumbered"] or "").strip()
    state, remark, name = CaseState.FAILED if result["bad"] else CaseState.PASSED, "", rest
    directive = _DIRECTIVE.search(rest)
    if (
        directive
        and not result["bad"]
        and not (directive["skip"] or directive["expected"] or directive["passed"] or directive["word"][0] in "ET")
    ):
        # "ok 1 parsing # error handling works": a remark about something that passed.
        directive = None
    if directive:
        name, remark = rest[: directive.start()], directive["remark"].strip()
        if directive["skip"]:
            state = CaseState.SKIPPED
        elif directive["expected"]:
            state, remark = CaseState.SKIPPED, f"expected to fail: {remark}"
        elif directive["passed"]:
            remark = f"was expected to fail: {remark}" if remark else "was expected to fail"
        else:
            state, remark = CaseState.FAILED, f"{directive['word'].rstrip(':').lower()}: {remark}"
        # Where only the directive is there, its text is what names the case.
        name = name or directive["remark"]
    name = _lasting(name.strip().removeprefix("- ")) or f"test {result['number'] or ''}".strip()
    return Case(name=name, state=state, remark=remark[:_LONGEST])


def _lasting(name: str) -> str:
    """Return the part of a name that is the same in every run."""
    return _TIME.sub("#", _ADDRESS.sub("#", " ".join(name.split())))[:_LONGEST].strip()


def _taken(open_cases: dict[int, list[Case]], *, deeper_than: int) -> list[Case]:
    """Remove and return the cases that are nested deeper, in the order of their levels."""
    depths = sorted(depth for depth in open_cases if depth > deeper_than)
    return [case for depth in depths for case in open_cases.pop(depth)]


def _closed(parent: Case, nested: list[Case]) -> list[Case]:
    """Return what a result line adds: itself, or its nested cases, which it only sums up."""
    found = [replace(case, name=f"{parent.name} / {case.name}"[-_LONGEST:]) for case in nested]
    if nested and (parent.state is not CaseState.FAILED or any(case.state is CaseState.FAILED for case in nested)):
        return found
    return [*found, parent]


def _numbered(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Tell cases of one name apart by their places, which stay what they are when one of them fails in other words."""
    names = Counter(case.name for case in cases)
    return tuple(
        replace(case, name=f"{case.name} [{place}]") if names[case.name] > 1 else case
        for place, case in enumerate(cases, 1)
    )
