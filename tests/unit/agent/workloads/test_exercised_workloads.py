"""anon_sweep, swap_fill, swap_integrity and swap_mount_indicator: what they find, refuse, report and leave."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from exercised_host import ORDERS, go, made, values
from fake_exercisers import FakeExercisers
from fake_host import FakeProcess, ProcessKilled
from fake_kernel import FakeKernel
from structlog.testing import capture_logs

from agent.domain.host.memory import MIB
from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus
from agent.domain.work.leftovers import SwapOn, Workers
from agent.workloads.registry import workload_for
from agent.workloads.rig.undoing import sweep
from agent.workloads.runner import Stop, StopReason

every = pytest.mark.parametrize("name", ORDERS)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Processes are killed here and the machine is not: what is written is there.
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    # A killed process logs the exception that kills it, with a traceback that takes long to draw.
    with capture_logs():
        yield


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return made(tmp_path)


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


@pytest.mark.parametrize(("oom_kills", "status"), [(1, RunStatus.DIED), (0, RunStatus.INFRASTRUCTURE)])
async def test_a_sweep_that_loses_a_process_has_died_when_the_kernel_took_it_for_memory(
    kernel: FakeKernel, oom_kills: int, status: RunStatus
) -> None:
    process = FakeProcess(kernel)
    exercisers = FakeExercisers(process)
    exercisers.oom_kills, exercisers.sweep_gives_up = oom_kills, "a process of the sweep was killed"
    _, (run,) = await go(process, ORDERS["anon_sweep"])
    assert run.status is status, run.error
    assert "a process of the sweep was killed" in run.error
    assert ("for want of memory" in run.error) is bool(oom_kills)


@pytest.mark.parametrize(("total_mib", "status"), [(1536, RunStatus.FAILED), (260, RunStatus.INFRASTRUCTURE)])
async def test_a_swapon_that_finds_no_memory_is_the_kernels_fault_only_where_there_is_some(
    kernel: FakeKernel, total_mib: int, status: RunStatus
) -> None:
    process = FakeProcess(kernel)
    FakeExercisers(process).swapon_errno = errno.ENOMEM
    kernel.total_bytes = total_mib * MIB
    kernel.write_meminfo()

    async def others_take_some(at: int) -> None:
        # Between the look before the run and the call.
        if process.commands and process.commands[-1][0] == "mkswap" and total_mib < 1536:
            kernel.total_bytes = 150 * MIB
            kernel.write_meminfo()

    process.on_checkpoint = others_take_some
    _, (run,) = await go(process, ORDERS["swap_mount_indicator"])
    assert run.status is status, run.error
    assert "Cannot allocate memory" in run.error


@every
async def test_a_dry_run_names_what_would_be_touched_and_touches_nothing(kernel: FakeKernel, name: str) -> None:
    process = FakeProcess(kernel)
    inspection = workload_for(ORDERS[name], process.host()).inspect()
    assert len(inspection.touches) >= 3
    assert inspection.refusals == ()
    assert kernel.is_pristine()
    assert process.commands == []
