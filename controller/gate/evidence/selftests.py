"""Cases of the kernel's own selftests: what passed on the old kernel must not fail on the new one.

What fails on both speaks against neither, and so does what was never seen to pass on the old one: the tests may be
newer, or older, than what they test. Some tests say other words when they fail than when they pass; the place of such a
case among those of its program tells which one it was.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from controller.gate.verdict import Verdict

if TYPE_CHECKING:
    from controller.gate.evidence.seen import GatePlan, HostEvidence

_FEWEST_RUNS: Final = 2
# A sentence names so many other cases and counts the rest.
_NAMED: Final = 5
# Texts of hosts that are alike are the same, and there may be thousands of hosts.
_REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """What one run told of its cases; skipped ones say nothing and are left out."""

    passed: frozenset[str] = frozenset()
    # Name -> why, as far as that was told.
    failed: Mapping[str, str] = field(default_factory=dict)
    # Every name by its program and its place there, skipped ones too.
    places: Mapping[tuple[str, int], str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether any case passed or failed."""
        return bool(self.passed or self.failed)


NO_CASES: Final = Cases()


@lru_cache(maxsize=_REMEMBERED)
def parse_cases(text: str) -> Cases:
    """Return the cases of a run's text: a line each of state, name and, after a tab, a remark. Raises nothing."""
    passed: set[str] = set()
    failed: dict[str, str] = {}
    places: dict[tuple[str, int], str] = {}
    seen: Counter[str] = Counter()
    for line in text.splitlines():
        state, _, rest = line.partition(" ")
        name, _, remark = rest.partition("\t")
        program = name.partition(": ")[0]
        places[program, seen[program]] = name
        seen[program] += 1
        if state == "passed":
            passed.add(name)
        elif state == "failed":
            failed[name] = remark
    return Cases(passed=frozenset(passed), failed=failed, places=places)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Regression:
    """A case that passed on a host's old kernel and fails on its new one."""

    host: str
    case: str
    remark: str
    # Runs in which it passed on the old kernel, failed on the new one, and was told of on the new one.
    passed: int
    failed: int
    told: int

    @property
    def always(self) -> bool:
        return self.failed == self.told >= _FEWEST_RUNS


def selftest_ruling(plan: "GatePlan", hosts: Sequence["HostEvidence"]) -> tuple[Verdict, str] | None:
    """Return what the selftests' cases say against the new kernel; None when nothing. `hosts` sorted by name.

    A case FAILs the kernel when it failed in all of at least two runs of a host, or on a second host. Until then, and
    when it fails now and then, nothing is decided.
    """
    found: dict[str, list[_Regression]] = {}
    for host in hosts:
        for one in _regressions(host):
            found.setdefault(one.case, []).append(one)
    if not found:
        return None
    certain = [case for case in sorted(found) if len(found[case]) > 1 or found[case][0].always]
    case = certain[0] if certain else min(found)
    verdict = Verdict.FAIL if certain else Verdict.INCONCLUSIVE if plan.final else Verdict.NEED_MORE_DATA
    others = [other for other in sorted(found) if other != case]
    return verdict, _told(found[case], others, certain=bool(certain))


def cases_that_pass(hosts: Iterable["HostEvidence"]) -> int:
    """Return how many cases passed in some run of both kernels, counted once a host."""
    return sum(len(_union(host, old=True).passed & _union(host, old=False).passed) for host in hosts)


def _told(where: Sequence[_Regression], others: Sequence[str], *, certain: bool) -> str:
    one = where[0]
    remark = f": {one.remark.rstrip('.')}" if one.remark else ""
    text = (
        f'{one.host}: the selftest "{one.case}" passed on the old kernel in {one.passed} of {one.passed} runs and '
        f"failed on the new kernel in {one.failed} of {one.told}{remark}"
    )
    if len(where) > 1:
        text += f"; it did so on {len(where)} hosts"
    if others:
        named = ", ".join(f'"{other}"' for other in others[:_NAMED])
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        text += f"; so did {named}{more}"
    return text + ("." if certain else "; more runs, or a second host, must confirm it.")


def _regressions(host: "HostEvidence") -> Iterable[_Regression]:
    old = _cases(host, old=True)
    good = _union(host, old=True).passed.difference(*(cases.failed for cases in old))
    new = [_failed_as_on(old, good, cases) for cases in _cases(host, old=False)]
    for case in sorted({case for cases in new for case in cases.failed} & good):
        remarks = [cases.failed[case] for cases in new if case in cases.failed]
        yield _Regression(
            host=host.host,
            case=case,
            remark=remarks[0],
            passed=sum(case in cases.passed for cases in old),
            failed=len(remarks),
            told=len(remarks) + sum(case in cases.passed for cases in new),
        )


def _failed_as_on(old: Sequence[Cases], good: frozenset[str], new: Cases) -> Cases:
    """Return the new kernel's cases, those that fail in other words than they passed in under their names on the old.

    Such a case is unknown to the old kernel, and at its place there passed one that the new kernel does not tell of.
    """
    known = {name for cases in old for name in cases.places.values()}
    told = set(new.places.values())
    failed = dict(new.failed)
    for place, name in new.places.items():
        if name in failed and name not in known:
            before = {cases.places[place] for cases in old if place in cases.places}
            if len(before) == 1 and (before & good) - told:
                remark = failed.pop(name)
                words = name.partition(": ")[2]
                failed[before.pop()] = f"{words} ({remark})" if remark else words
    return replace(new, failed=failed)


def _union(host: "HostEvidence", *, old: bool) -> Cases:
    return Cases(passed=frozenset().union(*(cases.passed for cases in _cases(host, old=old))))


def _cases(host: "HostEvidence", *, old: bool) -> list[Cases]:
    return [run.cases for run in host.runs if run.cases and (run.side == "old") is old and run.outcome == "ok"]
