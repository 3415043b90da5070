"""anon_sweep, swap_fill, swap_integrity and swap_mount_indicator: what they find, refuse, report and leave."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_exercisers import FakeExercisers
from structlog.testing import capture_logs

from agent.adapters.fake_host import FakeProcess, ProcessKilled
from agent.adapters.fake_kernel import FakeKernel
from agent.domain.exercises import ChildDied, WrongPage
from agent.domain.leftovers import SwapOn, Workers
from agent.domain.memory import MIB
from agent.domain.orders import (
    AnonSweepOrder,
    Order,
    SwapFillOrder,
    SwapIntegrityOrder,
    SwapMountIndicatorOrder,
)
from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus, WorkloadRun
from agent.domain.swap_source import Pressure, SourceKind, SwapSource
from agent.workloads.registry import workload_for
from agent.workloads.runner import Plan, Stop, StopReason, drive
from agent.workloads.undoing import sweep

GIB = 1 << 30
ZRAM = SwapSource(kind=SourceKind.ZRAM, size_bytes=512 * MIB)
LIMIT = Pressure(memory_limit_bytes=96 * MIB)
ORDERS: dict[str, Order] = {
    "anon_sweep": AnonSweepOrder(swap=ZRAM, pressure=LIMIT, memory_bytes=192 * MIB),
    "swap_fill": SwapFillOrder(swap=replace(ZRAM, size_bytes=16 * GIB)),
    "swap_integrity": SwapIntegrityOrder(swap=ZRAM, pressure=LIMIT, memory_bytes=64 * MIB),
    "swap_integrity on files": SwapIntegrityOrder(
        swap=SwapSource(kind=SourceKind.FILE, size_bytes=128 * MIB), memory_bytes=64 * MIB, device_count=3
    ),
    "swap_mount_indicator": SwapMountIndicatorOrder(swap=ZRAM, memory_bytes=64 * MIB, readers=1, cycles=1),
}
every = pytest.mark.parametrize("name", ORDERS)
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
    # A killed process logs the exception that kills it, with a traceback that takes long to draw.
    with capture_logs():
        yield


class Recorder:
    """Keeps the runs."""

    def __init__(self) -> None:
        self.runs: list[WorkloadRun] = []

    async def run_begun(self, index: int) -> None:
        """Nothing is kept of the beginning."""

    async def run_ended(self, run: WorkloadRun) -> None:
        self.runs.append(run)

    def clean_up_begun(self) -> None:
        """Nothing is kept of it."""

    def progress(self, step: str, fraction: float) -> None:
        """Nobody looks."""


async def go(
    process: FakeProcess, order: Order, *, repetitions: int = 1, stop: Stop | None = None
) -> tuple[CommandOutcome, list[WorkloadRun]]:
    host, recorder = process.host(), Recorder()
    plan = Plan(warmups=0, repetitions=repetitions, timeout_s=60.0)
    outcome = await drive(workload_for(order, host), plan, host, recorder, stop or Stop())
    return outcome, recorder.runs


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return made(tmp_path)


def made(root: Path) -> FakeKernel:
    kernel = FakeKernel(root)
    # A kernel that shows its symbols and keeps no cache of slots.
    (kernel.proc / "kallsyms").write_text("ffffffff81000000 T _text\n")
    return kernel


def values(run: WorkloadRun) -> dict[str, float]:
    return {sample.metric: sample.value for sample in run.samples}


@every
async def test_runs_well_again_and_again_and_leaves_nothing(kernel: FakeKernel, name: str) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process)
    outcome, runs = await go(process, ORDERS[name], repetitions=2)
    assert outcome == CommandOutcome(status=OutcomeStatus.COMPLETED)
    assert [run.status for run in runs] == [RunStatus.OK] * 2
    assert kernel.is_pristine()
    assert process.noted() == ()
    for run in runs:
        assert "vmstat.pswpin" in values(run)
        assert "proc_swaps" in run.evidence


@every
async def test_killed_at_any_checkpoint_the_next_start_sweeps(tmp_path: Path, name: str) -> None:
    probe = FakeProcess(made(tmp_path / "probe"))
    FakeExercisers(probe)
    await go(probe, ORDERS[name])
    assert probe.checkpoints > 20
    for number in range(0, probe.checkpoints, 3):
        kernel = made(tmp_path / str(number))
        process = FakeProcess(kernel)
        FakeExercisers(process)
        process.kill_at = number
        with pytest.raises(ProcessKilled):
            await go(process, ORDERS[name])
        successor = FakeProcess(kernel)
        await sweep(successor.host())
        assert kernel.is_pristine(), f"killed at checkpoint {number}"
        assert successor.noted() == ()


@every
async def test_cancelled_at_any_checkpoint_everything_is_undone(tmp_path: Path, name: str) -> None:
    probe = FakeProcess(made(tmp_path / "probe"))
    FakeExercisers(probe)
    await go(probe, ORDERS[name])
    for number in range(0, probe.checkpoints, 3):
        kernel = made(tmp_path / str(number))
        process, stop = FakeProcess(kernel), Stop()
        FakeExercisers(process)

        async def cancel(at: int, number: int = number, stop: Stop = stop) -> None:
            if at == number:
                stop.request(StopReason.CANCELLED)

        process.on_checkpoint = cancel
        outcome, _ = await go(process, ORDERS[name], stop=stop)
        assert outcome.status in {OutcomeStatus.CANCELLED, OutcomeStatus.COMPLETED}
        assert kernel.is_pristine(), f"cancelled at checkpoint {number}"
        assert process.noted() == ()


@pytest.mark.parametrize("name", ["swap_fill", "swap_integrity", "swap_mount_indicator"])
async def test_a_sweep_ends_processes_before_it_switches_their_swap_off(kernel: FakeKernel, name: str) -> None:
    process = FakeProcess(kernel)
    exercisers = FakeExercisers(process)
    newest = set()

    async def look(at: int) -> None:
        if exercisers.filled_bytes or kernel.used_kib:
            newest.add(type(process.noted()[-1].leftover))

    process.on_checkpoint = look
    await go(process, ORDERS[name])
    # Around a swapon and a swapoff of its own the swap itself is the newest for a moment.
    assert Workers in newest
    assert newest <= {Workers, SwapOn}


@pytest.mark.parametrize(
    ("name", "exerciser"),
    [
        ("anon_sweep", "sweep"),
        ("swap_fill", "fill"),
        ("swap_integrity", "integrity"),
        ("swap_integrity", "churn"),
        ("swap_mount_indicator", "fill"),
    ],
)
async def test_an_exerciser_that_the_kernel_kills_is_a_run_that_died(
    kernel: FakeKernel, name: str, exerciser: str
) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process).killed.add(exerciser)
    outcome, runs = await go(process, ORDERS[name])
    assert outcome.status is OutcomeStatus.DIED
    assert f"the exerciser {exerciser} was killed" in runs[0].error
    assert kernel.is_pristine()


async def test_a_sweep_is_as_fast_as_its_passes(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process)
    _, (run,) = await go(process, ORDERS["anon_sweep"])
    # 192 MiB in half a second, twice.
    assert values(run)["anonymous_sweep.throughput"] == pytest.approx(192 * MIB / 0.5 / 1e6)
    assert values(run)["anonymous_sweep.swapped_in"] == pytest.approx(2 * 1000 * 4096 / MIB)


async def test_a_sweep_that_hardly_swapped_is_not_valid(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process).swapped_pages = 10
    outcome, (run,) = await go(process, ORDERS["anon_sweep"])
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "not valid" in run.error
    assert not any(metric.startswith("anonymous_sweep.") for metric in values(run))


async def test_the_cost_of_a_fill_leaves_the_data_out(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    exercisers = FakeExercisers(process)
    _, (run,) = await go(process, ORDERS["swap_fill"])
    found = values(run)
    # 12.75 MiB of 16 GiB are taken at swapon, and the fake kernel takes nothing by the page. What the filling process
    # and its page tables took is subtracted, though this kernel took it from nowhere.
    assert found["swap_fill.static_cost"] == pytest.approx(816.0, abs=0.5)
    assert found["swap_fill.cost"] == pytest.approx((12.75 - 6) * 64, abs=0.5)
    assert found["swap_fill.dynamic_cost"] == pytest.approx(-6 * 64, abs=0.5)
    assert found["swap_fill.filled"] == 8192.0
    assert found["swap_fill.page_tables"] == 2.0
    assert found["swap_fill.brought_back"] == 128.0
    assert found["swapoff.time"] == 0.5
    exercisers.grown_bytes = (0, 0)
    _, (run,) = await go(process, ORDERS["swap_fill"])
    assert values(run)["swap_fill.dynamic_cost"] == pytest.approx(0.0, abs=0.5)


async def test_zrams_own_memory_is_no_metadata_of_swap(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    exercisers = FakeExercisers(process)
    exercisers.grown_bytes = (0, 0)
    mm_stat = kernel.sys / "block/zram0/mm_stat"

    async def hold_pages(at: int) -> None:
        if mm_stat.parent.exists():
            held = 3 * MIB if exercisers.filled_bytes else 0
            mm_stat.write_text(f"0 0 {held} 0 0 0 0 0 0\n")

    process.on_checkpoint = hold_pages
    _, (run,) = await go(process, ORDERS["swap_fill"])
    assert values(run)["swap_fill.zram_memory"] == 3.0
    assert values(run)["swap_fill.dynamic_cost"] == pytest.approx(-3 * 64, abs=0.5)


async def test_memory_that_a_fill_does_not_get_back_fails_the_run(kernel: FakeKernel) -> None:
    kernel.leak_bytes = 64 * MIB
    process = FakeProcess(kernel)
    FakeExercisers(process)
    outcome, (run,) = await go(process, ORDERS["swap_fill"])
    assert outcome.status is OutcomeStatus.FAILED
    assert "did not give its memory back: 64.0 MiB" in run.error


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


async def test_an_indicator_that_shows_what_is_off_fails_the_run(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    exercisers = FakeExercisers(process)
    ghost = "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0\tpartition\t524284\t0\t-2\n"
    exercisers.false_readings = (ghost,)
    outcome, (run,) = await go(process, ORDERS["swap_mount_indicator"])
    assert outcome.status is OutcomeStatus.FAILED
    assert "/proc/swaps was wrong" in run.error
    assert "/dev/zram0 is shown while off" in run.error
    assert "is shown while off" in run.evidence["wrong_readings"]
    assert len(json.loads(run.evidence["calls"])) == 6


async def test_of_very_many_wrong_readings_the_first_are_kept_and_all_are_counted(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process).false_readings = ("no header\n",) * 500
    _, (run,) = await go(process, ORDERS["swap_mount_indicator"])
    assert run.error.endswith("; and 497 more")
    lines = run.evidence["wrong_readings"].splitlines()
    assert (len(lines), lines[-1]) == (201, "and 300 more")


async def test_a_kernel_that_takes_a_broken_area_fails_the_run(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process).takes_anything = True
    outcome, (run,) = await go(process, ORDERS["swap_mount_indicator"])
    assert outcome.status is OutcomeStatus.FAILED
    assert "swapon accepted an area of an unknown version" in run.error
    assert kernel.is_pristine()


@every
async def test_a_dry_run_names_what_would_be_touched_and_touches_nothing(kernel: FakeKernel, name: str) -> None:
    process = FakeProcess(kernel)
    inspection = workload_for(ORDERS[name], process.host()).inspect()
    assert len(inspection.touches) >= 3
    assert inspection.refusals == ()
    assert kernel.is_pristine()
    assert process.commands == []
