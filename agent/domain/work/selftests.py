"""Which of the kernel's own test programs bear on swap, and what one that has ended says of the kernel.

A case is told as "mm/cow: NAME". How a program itself ended is one more case, "mm/cow: its end": a program that crashes
tells nothing of the cases that it did not come to.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.domain.results import Sample
from agent.domain.work.ktap import Case, CaseState, Ktap, parse_ktap
from agent.domain.work.spoken_results import parse_spoken

# What a program of kselftest ends with when it cannot run here, and when it failed as expected.
_SKIPPED_STATUS = 4
_GOOD_STATUSES = (0, 2, _SKIPPED_STATUS)
# What a shell, and our launcher, answer when a program cannot be started: another machine's, or a library is missing.
_NOT_STARTED = 127
_LONGEST_REMARK = 200
# Of all programs together; what comes after them is not told, and the run says so.
_MOST_CASES = 10_000
# Failed, and skipped, cases of one program that people are shown; all are in the evidence.
_MOST_SHOWN = 20
END = "its end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A test program and how it is called."""

    # Below the folder of all selftests; "mm" was called "vm" before Linux 6.3.
    name: str
    # "{mib}" is the memory that the order names.
    arguments: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """Return where it may be, the newer name first."""
        folder, _, program = self.name.partition("/")
        return (self.name, f"vm/{program}") if folder == "mm" else (self.name,)


# In the order in which they run. Arguments are those of the suite's own run_vmtests.sh, with smaller numbers.
PROGRAMS: Mapping[str, Program] = {
    each.name: each
    for each in (
        Program(name="mm/madv_populate"),
        Program(name="mm/mkdirty"),
        Program(name="mm/mremap_test"),
        Program(name="mm/mremap_dontunmap"),
        Program(name="mm/mlock2-tests"),
        Program(name="mm/mrelease_test"),
        Program(name="mm/soft-dirty"),
        Program(name="mm/pagemap_ioctl"),
        Program(name="mm/guard-regions"),
        Program(name="mm/process_madv"),
        Program(name="mm/merge"),
        Program(name="mm/droppable"),
        Program(name="mm/cow"),
        Program(name="mm/ksm_functional_tests"),
        Program(name="mm/split_huge_page_test"),
        Program(name="mm/khugepaged"),
        Program(name="mm/uffd-unit-tests"),
        Program(name="mm/uffd-stress", arguments=("anon", "20", "4")),
        Program(name="mm/transhuge-stress", arguments=("-d", "10", "{mib}")),
        Program(name="cgroup/test_memcontrol"),
        Program(name="cgroup/test_zswap"),
    )
}


def chosen(names: Sequence[str]) -> tuple[Program, ...]:
    """Return the named programs, or all that are known; one that is not known is called without arguments."""
    return tuple(PROGRAMS.get(name) or Program(name=name) for name in names or PROGRAMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a program's process ended."""

    # Negative is the signal that ended it; None: it did not end within its time and was killed.
    status: int | None
    elapsed_s: float
    stdout: str
    stderr: str
    # Processes that the kernel killed for want of memory meanwhile.
    killed_for_memory: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramResult:
    """What a program said, and how it ended."""

    name: str
    # FAILED when it or any of its cases failed, SKIPPED when nothing of it ran.
    state: CaseState
    cases: tuple[Case, ...] = ()
    # Of the program itself: why it was skipped, or what was wrong with its end.
    remark: str = ""
    elapsed_s: float = 0.0
    # The last that a program said which failed.
    said: str = ""

    @property
    def lines(self) -> tuple[Case, ...]:
        """Return its cases and its end, by full names."""
        own = Case(name=END, state=self.end, remark=self.remark)
        return tuple(Case(name=f"{self.name}: {c.name}", state=c.state, remark=c.remark) for c in (*self.cases, own))

    @property
    def end(self) -> CaseState:
        """Return what is to be said of the program apart from its cases."""
        if self.state is CaseState.FAILED and not self.remark:
            return CaseState.PASSED
        return self.state

    def count(self, state: CaseState) -> int:
        """Return how many cases came to this; a program without cases is one itself."""
        told = self.cases or (Case(name=END, state=self.state),)
        return sum(case.state is state for case in told)


def missing(program: Program, why: str) -> ProgramResult:
    """Return the result of a program that cannot be started here."""
    return ProgramResult(name=program.name, state=CaseState.SKIPPED, remark=why)


def judged(program: Program, ending: Ending) -> ProgramResult:
    """Return what the program's output and its end say together."""
    ktap = _told_by(ending.stdout)
    if ending.status == _NOT_STARTED and not ktap.told:
        return missing(program, f"cannot be started here: {_last_words(ending)}")
    wrong = _wrong_end(ktap, ending)
    failed = any(case.state is CaseState.FAILED for case in ktap.cases)
    state, remark = CaseState.PASSED, ""
    if wrong:
        state, remark = CaseState.FAILED, wrong
    elif failed:
        state = CaseState.FAILED
    elif ktap.skipped:
        state, remark = CaseState.SKIPPED, ktap.skipped
    elif ending.status == _SKIPPED_STATUS and not any(case.state is CaseState.PASSED for case in ktap.cases):
        state, remark = CaseState.SKIPPED, _skips(ktap) or _last_words(ending)
    elif ktap.cases and all(case.state is CaseState.SKIPPED for case in ktap.cases):
        state, remark = CaseState.SKIPPED, _skips(ktap)
    return ProgramResult(
        name=program.name,
        state=state,
        cases=ktap.cases,
        remark=remark[:_LONGEST_REMARK],
        elapsed_s=ending.elapsed_s,
        said="\n".join(part[-2000:] for part in (ending.stdout, ending.stderr) if part)
        if state is CaseState.FAILED
        else "",
    )


def _told_by(stdout: str) -> Ktap:
    """Return what KTAP tells; of a program without it, what it says in words of its own."""
    ktap = parse_ktap(stdout)
    spoken = () if ktap.told else parse_spoken(stdout)
    return replace(ktap, cases=spoken, told=len(spoken)) if spoken else ktap


def _wrong_end(ktap: Ktap, ending: Ending) -> str:
    """Return what was wrong with how the program ended, its cases apart; empty when nothing was."""
    status = ending.status
    killed = f"; the kernel killed {ending.killed_for_memory} for want of memory" if ending.killed_for_memory else ""
    if status is None:
        return f"did not end within {ending.elapsed_s:.0f} s and was killed, {ktap.told} cases told{killed}"
    if status < 0:
        return f"ended by signal {-status}, {ktap.told} cases told{killed}"
    failed = any(case.state is CaseState.FAILED for case in ktap.cases)
    # Some bail out when all is told, only to say how many cases have failed.
    if ktap.bailed and not (failed and ktap.planned and ktap.told >= ktap.planned):
        return f"gave up: {ktap.bailed}"
    if ktap.planned and ktap.told < ktap.planned and status != _SKIPPED_STATUS:
        return f"told of {ktap.told} of {ktap.planned} cases (exit status {status}): {_last_words(ending)}"
    if status not in _GOOD_STATUSES and not failed:
        return f"exit status {status}: {_last_words(ending)}"
    return ""


def _skips(ktap: Ktap) -> str:
    return next((case.remark for case in ktap.cases if case.state is CaseState.SKIPPED and case.remark), "")


def _last_words(ending: Ending) -> str:
    for text in (ending.stderr, ending.stdout):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            return lines[-1]
    return "it said nothing"


def samples_of(results: Sequence[ProgramResult]) -> tuple[Sample, ...]:
    """Return how many cases and programs came to what."""
    cases = {state: sum(result.count(state) for result in results) for state in CaseState}
    programs = Counter(result.state for result in results)
    counts = {
        **{f"mm_selftests.{state}": count for state, count in cases.items()},
        **{f"mm_selftests.programs_{state}": programs[state] for state in CaseState},
    }
    return tuple(Sample(metric=name, value=float(count), unit="count") for name, count in counts.items())


def evidence_of(results: Sequence[ProgramResult]) -> dict[str, str]:
    """Return what is told to people, every case for the judge, and the end of what failed programs said."""
    lines = [line for result in results for line in result.lines]
    left_out = len(lines) - _MOST_CASES
    shown = [line for result in results for line in _shown(result)]
    if left_out > 0:
        shown.append(f"{left_out} cases more are not told of one by one")
    said = "\n\n".join(f"{result.name}\n{result.said}" for result in results if result.said)
    found = {"selftests": "\n".join(shown), "selftest_cases": case_lines(lines[:_MOST_CASES]), "selftest_output": said}
    return {name: text for name, text in found.items() if text}


def case_lines(cases: Iterable[Case]) -> str:
    """Return one line a case: what it came to, its name, and after a tab the remark if there is one."""
    return "\n".join(f"{case.state} {case.name}" + (f"\t{case.remark}" if case.remark else "") for case in cases)


def _shown(result: ProgramResult) -> Iterable[str]:
    counts = ", ".join(f"{result.count(state)} {state}" for state in CaseState if result.count(state))
    told = counts if result.cases else str(result.state)
    yield f"{result.name}: {told}, {result.elapsed_s:.1f} s" + (f" ({result.remark})" if result.remark else "")
    for state in (CaseState.FAILED, CaseState.SKIPPED):
        of_state = [case for case in result.cases if case.state is state]
        for case in of_state[:_MOST_SHOWN]:
            yield f"  {state}: {case.name}" + (f" ({case.remark})" if case.remark not in ("", case.name) else "")
        if len(of_state) > _MOST_SHOWN:
            yield f"  {state}: {len(of_state) - _MOST_SHOWN} more"
