"""swap_integrity: what speaks against the kernel, what proves nothing, and what is somebody else's."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from exercised_host import ORDERS, go, made, values
from fake_exercisers import FakeExercisers
from fake_host import FakeProcess
from fake_kernel import FakeKernel
from structlog.testing import capture_logs

from agent.domain.errors import KernelWanting, RigError
from agent.domain.results import OutcomeStatus, RunStatus
from agent.domain.work.exercises import ChildDied, WrongPage
from agent.domain.work.leftovers import Leftover
from agent.workloads.port import Host

WRONG = WrongPage(
    scenario="private",
    page=17,
    generation=2,
    offset=5,
    wrong_bytes=1,
    expected="00ff",
    found="01ff",
    looks_like="page 9 of generation 1",
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Processes are killed here and the machine is not: what is written is there.
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    with capture_logs():
        yield


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return made(tmp_path)


async def test_an_integrity_run_says_what_it_compared(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process)
    _, (run,) = await go(process, replace(ORDERS["swap_integrity"], rounds=2))  # type: ignore[type-var]  # an Order
    found = values(run)
    assert found["swap_integrity.compared"] == 2 * 250
    assert found["swap_integrity.wrong"] == found["swap_integrity.leaked_slots"] == 0
    assert found["swap_integrity.highest_count"] == 129
    assert [each["scenario"] for each in json.loads(run.evidence["scenarios"])] == [
        "private",
        "shared_counts",
        "churn",
    ] * 2
    on = [command for command in process.commands if command[0] == "swapon" and len(command) > 2]
    assert [command[1:3] for command in on[:2]] == [("-p", "100"), ("-p", "99")]
    assert [("-d" in command) for command in on[:2]] == [False, True]


async def test_one_wrong_byte_fails_the_run_and_is_kept_as_evidence(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process).wrong_pages = (WRONG,)
    outcome, (run,) = await go(process, ORDERS["swap_integrity"])
    assert outcome.status is OutcomeStatus.FAILED
    assert run.status is RunStatus.FAILED
    assert "1 pages came back wrong from swap: private page 17 generation 2 at byte 5" in run.error
    assert "expected 00ff, found 01ff" in run.error
    assert json.loads(run.evidence["wrong_pages"])[0]["looks_like"] == "page 9 of generation 1"
    assert kernel.is_pristine()


async def test_of_very_many_wrong_pages_the_first_are_kept_and_all_are_counted(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process).wrong_pages = tuple(replace(WRONG, page=number) for number in range(500))
    _, (run,) = await go(process, ORDERS["swap_integrity"])
    assert run.error.startswith("500 pages came back wrong from swap: private page 0 ")
    assert [each["page"] for each in json.loads(run.evidence["wrong_pages"])] == list(range(200))
    assert run.evidence["wrong_pages_left_out"] == "300 more wrong pages were told\n"


async def test_a_child_that_dies_of_a_read_fails_the_run(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process).died = (ChildDied(scenario="race", signal=7),)
    outcome, (run,) = await go(process, ORDERS["swap_integrity"])
    assert outcome.status is OutcomeStatus.FAILED
    assert "scenario race died of signal 7" in run.error


@pytest.mark.parametrize(
    ("oom_kills", "words"),
    [
        (1, "1 processes of scenario race were killed for want of memory"),
        (0, "1 processes of scenario race were killed; the kernel log says whether memory ran out"),
    ],
)
async def test_a_child_that_is_killed_does_not_speak_against_the_kernel(
    kernel: FakeKernel, oom_kills: int, words: str
) -> None:
    process = FakeProcess(kernel)
    exercisers = FakeExercisers(process)
    exercisers.died, exercisers.oom_kills = (ChildDied(scenario="race", signal=9),), oom_kills
    outcome, (run,) = await go(process, ORDERS["swap_integrity"])
    assert outcome.status is OutcomeStatus.DIED
    assert run.status is RunStatus.DIED
    assert run.error == words
    assert json.loads(run.evidence["died_children"]) == [{"scenario": "race", "signal": 9}]
    assert kernel.is_pristine()


async def test_a_killed_child_hides_neither_a_wrong_byte_nor_one_that_died_of_a_read(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    exercisers = FakeExercisers(process)
    exercisers.died = (ChildDied(scenario="race", signal=9), ChildDied(scenario="shared_counts", signal=11))
    _, (run,) = await go(process, ORDERS["swap_integrity"])
    assert run.status is RunStatus.FAILED
    assert "scenario shared_counts died of signal 11" in run.error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scenario_swapped_bytes": 0}, "had only 0 bytes in swap, so it proves nothing"),
        ({"swapped_pages": 10}, "0.8 MiB were swapped in"),
        ({"highest_count": 60}, "counted 60 times at most, and 129 were wanted"),
    ],
)
async def test_an_integrity_run_that_proves_nothing_does_not_pass(
    kernel: FakeKernel, change: dict[str, int], words: str
) -> None:
    process = FakeProcess(kernel)
    exercisers = FakeExercisers(process)
    for name, value in change.items():
        setattr(exercisers, name, value)
    outcome, (run,) = await go(process, ORDERS["swap_integrity"])
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert words in run.error


def keep_in_use(kernel: FakeKernel, process: FakeProcess, *, for_ever: bool) -> None:
    """Let a slot of every device stay in use when no process needs it any more; for ever: swapoff does not free it."""

    async def keep_one(at: int) -> None:
        swaps = kernel.proc / "swaps"
        text = swaps.read_text().replace("\t0\t-2", "\t4\t-2")
        swaps.write_text(text)
        # Both devices have been switched off under load before.
        swapoffs = sum(command[0] == "swapoff" for command in process.commands)
        if for_ever and swapoffs >= 2 and "\t4\t-2" in text:
            process.failing["swapoff"] = "swapoff: interrupted after 600 s"

    process.on_checkpoint = keep_one


async def test_one_leaked_slot_fails_the_run(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process)
    keep_in_use(kernel, process, for_ever=True)
    outcome, (run,) = await go(process, ORDERS["swap_integrity"])
    assert outcome.status is OutcomeStatus.FAILED
    assert run.status is RunStatus.FAILED
    assert "2 slots stayed in use when no process had anything in them" in run.error
    assert run.evidence["slots"].startswith("2 in use, 2 of them not by a process, 0 may be cached")
    assert "scenarios" in run.evidence
    assert "clean-up failed" in outcome.detail


@pytest.mark.parametrize("problem", [KernelWanting("stays on"), RigError("too little memory"), OSError("gone")])
async def test_swap_that_cannot_be_switched_off_does_not_hide_a_wrong_byte(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    async def stay_on(host: Host, leftover: Leftover) -> None:
        raise problem

    monkeypatch.setattr("agent.workloads.kinds.swap.integrity.undo", stay_on)
    process = FakeProcess(kernel)
    FakeExercisers(process).wrong_pages = (WRONG,)
    _, (run,) = await go(process, ORDERS["swap_integrity"])
    assert run.status is RunStatus.FAILED
    assert run.error.startswith("1 pages came back wrong from swap")
    assert "wrong_pages" in run.evidence
    FakeExercisers(process)
    _, (run,) = await go(process, ORDERS["swap_integrity"])
    assert run.error == str(problem), "and is told where nothing else is"


async def test_slots_that_swapoff_frees_are_of_memory_files_and_no_leak(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process)
    keep_in_use(kernel, process, for_ever=False)
    outcome, (run,) = await go(process, ORDERS["swap_integrity"])
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
    assert values(run)["swap_integrity.leaked_slots"] == 0
    assert run.evidence["slots"].startswith("2 in use, 2 of them not by a process")


async def test_slots_that_a_process_owns_or_an_older_kernel_caches_are_no_leak(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process)
    keep_in_use(kernel, process, for_ever=False)
    (kernel.proc / "123").mkdir()
    (kernel.proc / "123/status").write_text("Name:\tsshd\nVmSwap:\t       8 kB\n")
    outcome, (run,) = await go(process, ORDERS["swap_integrity"])
    assert outcome.status is OutcomeStatus.COMPLETED
    assert run.evidence["slots"].startswith("2 in use, 0 of them not by a process")
    (kernel.proc / "123/status").unlink()
    (kernel.proc / "kallsyms").write_text("ffffffff81000000 T enable_swap_slots_cache\n")
    outcome, (run,) = await go(process, ORDERS["swap_integrity"])
    assert outcome.status is OutcomeStatus.COMPLETED
    assert run.evidence["slots"].startswith("2 in use, 0 of them not by a process")
