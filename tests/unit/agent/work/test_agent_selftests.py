"""mm_selftests: how programs are judged, where they come from, what a run tells, and what it leaves."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_host import FakeProcess, ProcessKilled
from fake_kernel import FakeKernel
from fake_workers import FakeProgram
from measuring_host import LIMIT, PAGES_OF_9_MIB, ZRAM, Recorder
from structlog.testing import capture_logs

from agent.cli import local
from agent.domain.orders.orders import MmSelftestsOrder
from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus, WorkloadRun
from agent.domain.work.ktap import CaseState
from agent.domain.work.selftests import PROGRAMS, Ending, Program, judged
from agent.workloads.registry import workload_for
from agent.workloads.rig.undoing import sweep
from agent.workloads.runner import Plan, Stop, drive

PASSED, FAILED, SKIPPED = CaseState.PASSED, CaseState.FAILED, CaseState.SKIPPED
COW = "TAP version 13\n1..3\nok 1 with base page\nok 2 # SKIP no huge page\n{} 3 with swapped out base page\n"
GOOD = FakeProgram(stdout=COW.format("ok"))
BAD = FakeProgram(stdout=COW.format("not ok"), status=1)
THREE = ("mm/cow", "mm/transhuge-stress", "cgroup/test_zswap")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Processes are killed here and the machine is not: what is written is there.
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    with capture_logs():
        yield


def made(root: Path) -> FakeProcess:
    """A host with selftests, of which one is missing."""
    process = FakeProcess(FakeKernel(root))
    for name in ("mm/cow", "mm/transhuge-stress"):
        (root / "kselftest" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "kselftest" / name).write_text("")
    process.programs["cow"] = GOOD
    process.programs["transhuge-stress"] = FakeProgram(
        swapped_in_pages=PAGES_OF_9_MIB, swapped_out_pages=PAGES_OF_9_MIB
    )
    return process


def order(process: FakeProcess) -> MmSelftestsOrder:
    directory = str(process.kernel.root / "kselftest")
    return MmSelftestsOrder(swap=ZRAM, pressure=LIMIT, selftests_directory=directory, programs=THREE)


async def go(
    process: FakeProcess, wanted: MmSelftestsOrder | None = None, *, repetitions: int = 1
) -> tuple[CommandOutcome, list[WorkloadRun]]:
    host, recorder = process.host(), Recorder()
    plan = Plan(warmups=0, repetitions=repetitions, timeout_s=60.0)
    outcome = await drive(workload_for(wanted or order(process), host), plan, host, recorder, Stop())
    return outcome, recorder.runs


def counts(run: WorkloadRun) -> dict[str, float]:
    prefix = "mm_selftests."
    return {s.metric.removeprefix(prefix): s.value for s in run.samples if s.metric.startswith(prefix)}


@pytest.mark.parametrize(
    ("status", "stdout", "state", "remark"),
    [
        (0, "", PASSED, ""),
        (0, COW.format("ok"), PASSED, ""),
        (1, COW.format("not ok"), FAILED, ""),
        (1, "", FAILED, "exit status 1: last words"),
        (4, "", SKIPPED, "last words"),
        (4, "1..0 # SKIP no such thing\n", SKIPPED, "no such thing"),
        (4, "1..5\nok 1 # SKIP needs two nodes\n", SKIPPED, "needs two nodes"),
        (0, "1..1\nok 1 # SKIP needs two nodes\n", SKIPPED, "needs two nodes"),
        # It can go no further, and what it did is good.
        (4, "1..5\nok 1 one\nok 2 # SKIP needs two nodes\n", PASSED, ""),
        (1, "1..5\nok 1 one\nBail out! mmap() failed\n", FAILED, "gave up: mmap() failed"),
        (1, "1..2\nok 1 one\nnot ok 2 two\nBail out! 1 out of 2 tests failed\n", FAILED, ""),
        (0, "1..5\nok 1 one\n", FAILED, "told of 1 of 5 cases (exit status 0): last words"),
        (1, "1..1\nok 1 one\n", FAILED, "exit status 1: last words"),
        (2, "1..1\nok 1 # XFAIL one\n", SKIPPED, "expected to fail: one"),
        (-11, "1..5\nok 1 one\n", FAILED, "ended by signal 11, 1 cases told"),
        (127, "", SKIPPED, "cannot be started here: last words"),
        (None, "1..5\nok 1 one\n", FAILED, "did not end within 3 s and was killed, 1 cases told"),
    ],
)
def test_a_program_is_judged_by_its_cases_and_its_end(
    status: int | None, stdout: str, state: CaseState, remark: str
) -> None:
    result = judged(
        Program(name="mm/cow"), Ending(status=status, elapsed_s=3.0, stdout=stdout, stderr="first\nlast words\n")
    )
    assert (result.state, result.remark) == (state, remark)
    end = result.lines[-1]
    assert end.name == "mm/cow: its end"
    # A case that fails is told by itself; the end of its program is as it should be then.
    assert end.state is (FAILED if remark and state is FAILED else SKIPPED if state is SKIPPED else PASSED)


def test_a_program_that_was_killed_for_memory_says_so() -> None:
    ending = Ending(status=-9, elapsed_s=1.0, stdout="", stderr="", killed_for_memory=2)
    result = judged(PROGRAMS["mm/cow"], ending)
    assert result.remark == "ended by signal 9, 0 cases told; the kernel killed 2 for want of memory"


KHUGEPAGED = """\
Save THP and khugepaged settings... \x1b[32mOK\x1b[0m
Allocate huge page on fault... \x1b[32mOK\x1b[0m

Run test: collapse_full (khugepaged:anon)
Collapse multiple fully populated PTE table.... \x1b[32mOK\x1b[0m

Run test: collapse_swapin_single_pte (khugepaged:anon)
Swapout one page... \x1b[32mOK\x1b[0m
Collapse with swapping in single PTE entry.... \x1b[31mTimeout\x1b[0m

Run test: collapse_fork (khugepaged:anon)
Check if parent has huge page... \x1b[33mSkip\x1b[0m

Run test: collapse_max_ptes_shared (khugepaged:anon)
"""
UFFD = """\
Testing UFFDIO_API (with syscall)... done
Testing zeropage on anon... done
Testing move on anon... failed [reason: wrong content]
Testing wp-fork on hugetlb... skipped [reason: Failed to find page]
Userfaults unit tests: pass=2, skip=1, fail=1 (total=4)
"""


def spoken(name: str, text: str, status: int) -> list[tuple[str, CaseState, str]]:
    result = judged(Program(name=name), Ending(status=status, elapsed_s=1.0, stdout=text, stderr=""))
    return [(case.name, case.state, case.remark) for case in result.lines]


def test_programs_that_use_words_of_their_own_are_understood() -> None:
    # It ends with the number of failed checks: four of them are no skip.
    assert spoken("mm/khugepaged", KHUGEPAGED, 4) == [
        ("mm/khugepaged: collapse_full (khugepaged:anon)", PASSED, ""),
        (
            "mm/khugepaged: collapse_swapin_single_pte (khugepaged:anon)",
            FAILED,
            "Collapse with swapping in single PTE entry.... Timeout",
        ),
        ("mm/khugepaged: collapse_fork (khugepaged:anon)", SKIPPED, "Check if parent has huge page... Skip"),
        ("mm/khugepaged: its end", PASSED, ""),
    ]
    assert spoken("mm/uffd-unit-tests", UFFD, 1) == [
        ("mm/uffd-unit-tests: UFFDIO_API (with syscall)", PASSED, ""),
        ("mm/uffd-unit-tests: zeropage on anon", PASSED, ""),
        ("mm/uffd-unit-tests: move on anon", FAILED, "wrong content"),
        ("mm/uffd-unit-tests: wp-fork on hugetlb", SKIPPED, "Failed to find page"),
        ("mm/uffd-unit-tests: its end", PASSED, ""),
    ]


async def test_what_passed_failed_and_was_skipped_is_told_by_program_and_case(tmp_path: Path) -> None:
    process = made(tmp_path)
    process.programs["cow"] = BAD
    outcome, runs = await go(process, repetitions=2)
    # A case that fails may fail on every kernel: that is for the judge, and no failure of the run.
    assert outcome == CommandOutcome(status=OutcomeStatus.COMPLETED)
    assert [run.status for run in runs] == [RunStatus.OK] * 2
    assert counts(runs[0]) == {
        **{"passed": 2.0, "failed": 1.0, "skipped": 2.0, "swapped_out": 9.0, "swapped_in": 9.0},
        **{"programs_passed": 1.0, "programs_failed": 1.0, "programs_skipped": 1.0},
    }
    where = tmp_path / "kselftest"
    assert runs[0].evidence["selftests"].splitlines() == [
        "mm/cow: 1 passed, 1 failed, 1 skipped, 1.0 s",
        "  failed: with swapped out base page",
        "  skipped: no huge page",
        "mm/transhuge-stress: passed, 1.0 s",
        f"cgroup/test_zswap: skipped, 0.0 s (not among the programs in {where})",
    ]
    assert runs[0].evidence["selftest_cases"].splitlines() == [
        "passed mm/cow: with base page",
        "skipped mm/cow: no huge page\tno huge page",
        "failed mm/cow: with swapped out base page",
        "passed mm/cow: its end",
        "passed mm/transhuge-stress: its end",
        f"skipped cgroup/test_zswap: its end\tnot among the programs in {where}",
    ]
    assert "not ok 3 with swapped out base page" in runs[0].evidence["selftest_output"]
    assert (str(where / "mm/transhuge-stress"), "-d", "10", "256") in process.commands
    assert process.kernel.is_pristine()
    assert process.noted() == ()


async def test_people_are_told_every_program(tmp_path: Path) -> None:
    process = made(tmp_path)
    outcome, runs = await go(process)
    text = local._as_text(outcome, runs)
    assert "  mm/cow: 2 passed, 1 skipped, 1.0 s\n    skipped: no huge page\n" in text


async def test_people_are_shown_so_many_cases_and_the_judge_gets_all(tmp_path: Path) -> None:
    process = made(tmp_path)
    process.programs["cow"] = FakeProgram(stdout="1..25\n" + "".join(f"ok {n} # SKIP case {n}\n" for n in range(25)))
    _, (run,) = await go(process)
    shown = run.evidence["selftests"].splitlines()
    assert shown[20:22] == ["  skipped: case 19", "  skipped: 5 more"]
    assert "skipped mm/cow: case 24\tcase 24" in run.evidence["selftest_cases"].splitlines()


async def test_a_program_that_hangs_is_killed_and_the_others_run_under_their_limit(tmp_path: Path) -> None:
    process = made(tmp_path)
    process.programs["cow"] = FakeProgram(stdout=COW.format("ok"), stays=True)
    limits = []

    async def look(at: int) -> None:
        if any("transhuge-stress" in command[0] for command in process.kernel.running):
            limits.append(process.kernel.cgroup_limit_bytes)

    process.on_checkpoint = look
    outcome, (run,) = await go(process, replace(order(process), program_timeout_s=5.0))
    assert outcome.status is OutcomeStatus.COMPLETED
    assert (
        "failed mm/cow: its end\tdid not end within 5 s and was killed, 3 cases told" in run.evidence["selftest_cases"]
    )
    assert "passed mm/cow: with base page" in run.evidence["selftest_cases"]
    assert set(limits) == {LIMIT.memory_limit_bytes}
    assert process.kernel.is_pristine()


async def test_a_run_in_which_nothing_ran_is_no_pass(tmp_path: Path) -> None:
    process = made(tmp_path)
    process.programs["cow"] = FakeProgram(status=4, stdout="1..0 # SKIP not here\n")
    outcome, _ = await go(process, replace(order(process), programs=("mm/cow", "mm/none")))
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert outcome.detail.startswith(
        "the run is not valid: none of 2 test programs could run here (mm/cow: not here; mm/none: not among"
    )


async def test_a_run_that_swapped_nothing_is_invalid(tmp_path: Path) -> None:
    process = made(tmp_path)
    outcome, _ = await go(process, replace(order(process), programs=("mm/cow",)))
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "0.0 MiB were swapped out" in outcome.detail


async def test_programs_of_the_older_folder_keep_the_newer_names(tmp_path: Path) -> None:
    process = made(tmp_path)
    (tmp_path / "kselftest/mm").rename(tmp_path / "kselftest/vm")
    outcome, (run,) = await go(process)
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
    assert "passed mm/cow: with base page" in run.evidence["selftest_cases"]


async def test_killed_at_any_checkpoint_the_next_start_sweeps(tmp_path: Path) -> None:
    probe = made(tmp_path / "probe")
    await go(probe)
    for number in range(probe.checkpoints):
        process = made(tmp_path / str(number))
        process.kill_at = number
        with pytest.raises(ProcessKilled):
            await go(process)
        successor = FakeProcess(process.kernel)
        await sweep(successor.host())
        assert process.kernel.is_pristine(), f"killed at checkpoint {number}"
        assert successor.noted() == ()


def settings(process: FakeProcess) -> Path:
    pages = process.kernel.sys / "kernel/mm/transparent_hugepage"
    (pages / "hugepages-64kB").mkdir(parents=True)
    (pages / "enabled").write_text("always [madvise] never\n")
    (pages / "hugepages-64kB/enabled").write_text("always inherit madvise [never]\n")
    (pages / "hpage_pmd_size").write_text("2097152\n")
    return pages


async def test_settings_that_a_program_leaves_changed_are_put_back(tmp_path: Path) -> None:
    process = made(tmp_path)
    pages = settings(process)
    process.programs["cow"] = replace(GOOD, writes={pages / "enabled": "[always] madvise never"}, status=-9)
    during = []

    async def look(at: int) -> None:
        if any("transhuge-stress" in command[0] for command in process.kernel.running):
            during.append((pages / "enabled").read_text())

    process.on_checkpoint = look
    await go(process)
    assert set(during) == {"madvise"}
    assert (pages / "enabled").read_text() == "madvise"
    # What nobody changed is not written.
    assert (pages / "hugepages-64kB/enabled").read_text() == "always inherit madvise [never]\n"


class Source:
    """A kernel's source, and a make that builds what it is told, apart from one program that needs a library."""

    def __init__(self, process: FakeProcess, folder: str = "mm") -> None:
        self.root = process.kernel.root / "linux"
        for name in (f"{folder}/cow", f"{folder}/transhuge-stress", "cgroup/test_zswap"):
            path = self.root / "tools/testing/selftests" / f"{name}.c"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        (self.root / "Kconfig").write_text("")
        self.made: list[str] = []
        process.programs |= {"make": self.make, "cp": self.copy}

    def copy(self, command: Sequence[str]) -> FakeProgram:
        tools = self.root / "tools"
        target = Path(command[3])
        return FakeProgram(writes={target / p.relative_to(self.root): "" for p in tools.rglob("*.c")})

    def make(self, command: Sequence[str]) -> FakeProgram:
        self.made.append(command[-1].rpartition("/")[2])
        products = [Path(word) for word in command if word.startswith("/") and word.endswith(("cow", "stress"))]
        missing = any(word.endswith("test_zswap") for word in command)
        return FakeProgram(writes=dict.fromkeys(products, ""), status=2 * missing, stderr="no libraries" * missing)


@pytest.mark.parametrize("folder", ["mm", "vm"])
async def test_programs_are_built_from_a_source_once_and_kept(tmp_path: Path, folder: str) -> None:
    process = made(tmp_path)
    source = Source(process, folder)
    wanted = replace(
        order(process),
        selftests_directory="",
        source=str(source.root),
        prepared_directory=str(tmp_path / "kept"),
    )
    outcome, (run,) = await go(process, wanted)
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
    assert source.made == ["headers", "transhuge-stress", "test_zswap"]
    assert "passed mm/cow: with base page" in run.evidence["selftest_cases"]
    assert "skipped cgroup/test_zswap: its end\tnot among the programs in" in run.evidence["selftest_cases"]
    assert not (tmp_path / "kept/source").exists()
    outcome, _ = await go(process, wanted)
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
    assert len(source.made) == 3
    assert process.noted() == ()


async def test_what_is_built_without_a_place_to_keep_it_is_removed(tmp_path: Path) -> None:
    process = made(tmp_path)
    source = Source(process)
    outcome, _ = await go(process, replace(order(process), selftests_directory="", source=str(source.root)))
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
    assert process.kernel.is_pristine()


async def test_a_source_from_which_nothing_can_be_built_is_the_rig(tmp_path: Path) -> None:
    process = made(tmp_path)
    source = Source(process)
    process.programs["make"] = lambda command: FakeProgram(status=0 if command[-1] == "headers" else 2, stderr="no -lc")
    outcome, _ = await go(process, replace(order(process), selftests_directory="", source=str(source.root)))
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "none of the selftests could be built from" in outcome.detail
    assert "no -lc" in outcome.detail
    assert process.kernel.is_pristine()


@pytest.mark.parametrize(
    ("changes", "missing", "words"),
    [
        ({"selftests_directory": "/nowhere"}, (), "/nowhere, the selftests' directory, is not there"),
        ({"selftests_directory": ""}, (), "no selftests are here; name what `make install`"),
        ({"source": "linux-source-6.12-objects-only"}, (), "is cut down and has no selftests"),
        ({"source": "linux"}, ("gcc",), "gcc not installed; install gcc and make"),
    ],
)
def test_where_there_are_no_programs_nothing_is_touched(
    tmp_path: Path, changes: dict[str, str], missing: tuple[str, ...], words: str
) -> None:
    process = made(tmp_path)
    process.missing.update(missing)
    if "source" in changes:
        (tmp_path / changes["source"]).mkdir()
        changes = {"selftests_directory": "", "source": str(tmp_path / changes["source"])}
    (refusal,) = workload_for(replace(order(process), **changes), process.host()).inspect().refusals
    assert words in refusal


async def test_an_invalid_run_keeps_its_cases(tmp_path: Path) -> None:
    process = made(tmp_path)
    process.programs["transhuge-stress"] = FakeProgram()
    _, (run,) = await go(process)
    assert run.status is RunStatus.INFRASTRUCTURE
    assert "were swapped out" in run.error
    assert "with base page" in run.evidence["selftest_cases"]
