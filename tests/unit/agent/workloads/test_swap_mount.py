"""swap_mount measures what the kernel does, and takes everything down on every path."""

from pathlib import Path

import pytest
from fake_host import FakeProcess, ProcessKilled
from fake_kernel import BRD, DEVICE, FakeKernel

from agent.domain.host.memory import MIB, TIB
from agent.domain.orders.orders import SwapMountOrder
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus, WorkloadRun
from agent.workloads.kinds.swap.mount import SwapMount
from agent.workloads.rig.undoing import sweep
from agent.workloads.runner import Plan, Stop, StopReason, drive

ORDERS = {
    "block device": SwapMountOrder(swap=SwapSource(kind=SourceKind.BLOCK_DEVICE, path=DEVICE)),
    "brd": SwapMountOrder(swap=SwapSource(kind=SourceKind.BRD, size_bytes=TIB)),
    "zram": SwapMountOrder(swap=SwapSource(kind=SourceKind.ZRAM, size_bytes=TIB)),
    "loop": SwapMountOrder(swap=SwapSource(kind=SourceKind.LOOP, size_bytes=TIB)),
    "file": SwapMountOrder(swap=SwapSource(kind=SourceKind.FILE, size_bytes=TIB // 2)),
}
MOUNTED = {"block device": DEVICE, "brd": BRD, "zram": "/dev/zram0", "loop": "/dev/loop0", "file": "kernroll-fake.swap"}
orders = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())


class Recorder:
    """Keeps what the workload said."""

    def __init__(self) -> None:
        self.runs: list[WorkloadRun] = []
        self.begun: list[int] = []
        self.steps: list[str] = []

    async def run_begun(self, index: int) -> None:
        self.begun.append(index)

    async def run_ended(self, run: WorkloadRun) -> None:
        self.runs.append(run)

    def clean_up_begun(self) -> None:
        """Nothing is kept of it."""

    def progress(self, step: str, fraction: float) -> None:
        assert 0.0 <= fraction <= 1.0
        self.steps.append(step)


async def go(
    process: FakeProcess,
    order: SwapMountOrder,
    *,
    repetitions: int = 1,
    warmups: int = 0,
    timeout_s: float = 60.0,
    stop: Stop | None = None,
) -> tuple[CommandOutcome, Recorder]:
    host, recorder = process.host(), Recorder()
    plan = Plan(warmups=warmups, repetitions=repetitions, timeout_s=timeout_s)
    outcome = await drive(SwapMount(order, host), plan, host, recorder, stop or Stop())
    return outcome, recorder


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path)


@orders
async def test_measures_the_cost_and_leaves_nothing(kernel: FakeKernel, order: SwapMountOrder) -> None:
    outcome, recorder = await go(FakeProcess(kernel), order, repetitions=2, warmups=1)
    assert outcome == CommandOutcome(status=OutcomeStatus.COMPLETED)
    assert [(run.index, run.warmup, run.status) for run in recorder.runs] == [
        (0, True, RunStatus.OK),
        (1, False, RunStatus.OK),
        (2, False, RunStatus.OK),
    ]
    for run in recorder.runs:
        values = {sample.metric: (sample.value, sample.unit) for sample in run.samples}
        assert values["swap_mount.cost"] == (pytest.approx(816.0, abs=0.1), "MiB/TiB")
        assert values["swap_mount.kernel_cost"] == (pytest.approx(816.0, abs=0.1), "MiB/TiB")
        assert values["swap_mount.memfree_cost"] == (pytest.approx(816.0, abs=0.1), "MiB/TiB")
        assert values["swap_mount.used_before"] == (pytest.approx(36.0, abs=0.1), "MiB")
        cost_mib = values["swap_mount.used_after"][0] - values["swap_mount.used_before"][0]
        assert cost_mib == pytest.approx(408.0 if order.swap.kind is SourceKind.FILE else 816.0, abs=0.1)
        assert values["swap_mount.swapon_time"] == (0.5, "s")
        assert values["swap_mount.swapoff_time"] == (0.5, "s")
        assert run.evidence["meminfo_before"] != run.evidence["meminfo_after"]
        assert MOUNTED[order.swap.kind.replace("_", " ")] in run.evidence["proc_swaps"]
        assert run.kernel_release == "7.1.13-fake"
    assert kernel.is_pristine()


@orders
async def test_cancelled_at_any_checkpoint_everything_is_undone(tmp_path: Path, order: SwapMountOrder) -> None:
    probe = FakeProcess(FakeKernel(tmp_path / "probe"))
    await go(probe, order)
    assert probe.checkpoints > 10
    for number in range(probe.checkpoints):
        kernel = FakeKernel(tmp_path / str(number))
        process, stop = FakeProcess(kernel), Stop()

        async def cancel(at: int, number: int = number, stop: Stop = stop) -> None:
            if at == number:
                stop.request(StopReason.CANCELLED)

        process.on_checkpoint = cancel
        outcome, recorder = await go(process, order, stop=stop)
        assert kernel.is_pristine(), f"cancelled at checkpoint {number}"
        assert process.noted() == ()
        cancelled = outcome.status is OutcomeStatus.CANCELLED
        # The last checkpoints belong to the clean-up, which goes on to its end.
        assert cancelled or outcome.status is OutcomeStatus.COMPLETED
        assert len(recorder.runs) == len(recorder.begun), "a run that began is reported"


@orders
async def test_killed_at_any_checkpoint_the_next_start_sweeps(tmp_path: Path, order: SwapMountOrder) -> None:
    probe = FakeProcess(FakeKernel(tmp_path / "probe"))
    await go(probe, order)
    for number in range(probe.checkpoints):
        kernel = FakeKernel(tmp_path / str(number))
        process = FakeProcess(kernel)
        process.kill_at = number
        with pytest.raises(ProcessKilled):
            await go(process, order)
        successor = FakeProcess(kernel)
        await sweep(successor.host())
        assert kernel.is_pristine(), f"killed at checkpoint {number}"
        assert successor.noted() == ()


async def test_sweep_leaves_what_is_not_ours(kernel: FakeKernel) -> None:
    kernel.act(("modprobe", "brd", "rd_nr=4", "rd_size=4096", "max_part=0"))
    kernel.write_swaps((DEVICE,))
    assert await sweep(FakeProcess(kernel).host()) == ()
    assert kernel.brd_loaded
    assert kernel.swaps == (DEVICE,)


async def test_sweep_after_killed_load_leaves_the_brd_that_somebody_else_loaded_since(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    process.kill_at = 0
    with pytest.raises(ProcessKilled):
        await go(process, ORDERS["brd"])
    kernel.act(("modprobe", "brd", "rd_nr=4", "rd_size=4096", "max_part=0"))
    await sweep(FakeProcess(kernel).host())
    assert kernel.brd_loaded


async def test_after_a_reboot_only_the_swap_area_is_left_to_erase(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)

    async def kill_while_mounted(at: int) -> None:
        if kernel.swaps and process.kill_at is None:
            process.kill_at = at + 1

    process.on_checkpoint = kill_while_mounted
    with pytest.raises(ProcessKilled):
        await go(process, ORDERS["block device"])
    # A reboot switches swap off by itself.
    kernel.write_swaps(())
    successor = FakeProcess(kernel, boot_id="boot-2")
    await sweep(successor.host())
    assert not any(kernel.head())
    assert successor.noted() == ()
    assert ("swapoff", DEVICE) not in successor.commands


@pytest.mark.parametrize("offset", [0, 1, 511, 1023, 1052, 4086, 65600, (1 << 20) - 1])
async def test_a_device_with_data_is_never_written(kernel: FakeKernel, offset: int) -> None:
    kernel.head()[offset] = 0x55
    before = bytes(kernel.head())
    process = FakeProcess(kernel)
    outcome, recorder = await go(process, ORDERS["block device"])
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert f"carries data at byte {offset}" in outcome.detail
    assert bytes(kernel.head()) == before
    assert process.commands == []
    assert recorder.runs == []


async def test_foreign_swap_area_is_left_alone(kernel: FakeKernel) -> None:
    kernel.act(("mkswap", "-L", "somebody", DEVICE))
    before = bytes(kernel.head())
    outcome, _ = await go(FakeProcess(kernel), ORDERS["block device"])
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert bytes(kernel.head()) == before


async def test_our_own_earlier_swap_area_is_used_again_even_with_pages_behind_it(kernel: FakeKernel) -> None:
    kernel.act(("mkswap", "-L", "kernroll", DEVICE))
    kernel.head()[8192] = 0x55
    outcome, _ = await go(FakeProcess(kernel), ORDERS["block device"])
    assert outcome.status is OutcomeStatus.COMPLETED
    assert kernel.is_pristine()


@pytest.mark.parametrize(
    ("arrange", "words"),
    [
        (lambda kernel: kernel.write_swaps((DEVICE,)), "in use as swap"),
        (lambda kernel: (kernel.sys / "class/block/nvme1n1/holders/dm-0").mkdir(), "held by dm-0"),
        (lambda kernel: (kernel.sys / "class/block/nvme1n1/nvme1n1p1/partition").mkdir(parents=True), "partitions"),
        (lambda kernel: (kernel.sys / "class/block/nvme1n1/ro").write_text("1\n"), "read-only"),
    ],
)
async def test_a_device_in_use_is_refused(kernel: FakeKernel, arrange, words: str) -> None:
    arrange(kernel)
    swaps = kernel.swaps
    outcome, _ = await go(FakeProcess(kernel), ORDERS["block device"])
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert words in outcome.detail
    assert kernel.swaps == swaps


async def test_a_missing_device_is_named(kernel: FakeKernel) -> None:
    outcome, _ = await go(
        FakeProcess(kernel), SwapMountOrder(swap=SwapSource(kind=SourceKind.BLOCK_DEVICE, path="/dev/nvme7n1"))
    )
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "/dev/nvme7n1 is not a block device" in outcome.detail


async def test_brd_of_somebody_else_is_refused_and_stays(kernel: FakeKernel) -> None:
    kernel.act(("modprobe", "brd", "rd_nr=1", "rd_size=4096", "max_part=0"))
    outcome, _ = await go(FakeProcess(kernel), ORDERS["brd"])
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert kernel.brd_loaded


@pytest.mark.parametrize("tool", ["mkswap", "swapon", "swapoff"])
async def test_a_missing_tool_is_the_rig(kernel: FakeKernel, tool: str) -> None:
    process = FakeProcess(kernel)
    process.missing.add(tool)
    outcome, recorder = await go(process, ORDERS["block device"])
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert tool in outcome.detail
    assert recorder.runs == []
    assert kernel.is_pristine()


async def test_failing_swapon_fails_every_run_and_the_command(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    process.failing["swapon"] = "swapon: /dev/nvme1n1: swapon failed: Invalid argument"
    outcome, recorder = await go(process, ORDERS["block device"], repetitions=2)
    assert outcome.status is OutcomeStatus.FAILED
    assert "2 of 2 runs failed" in outcome.detail
    assert [run.status for run in recorder.runs] == [RunStatus.FAILED] * 2
    assert "Invalid argument" in recorder.runs[0].error
    assert kernel.is_pristine()


async def test_forbidden_swapon_is_the_rig(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    process.failing["swapon"] = "swapon: /dev/nvme1n1: swapon failed: Operation not permitted"
    outcome, recorder = await go(process, ORDERS["block device"], repetitions=2)
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert [run.status for run in recorder.runs] == [RunStatus.INFRASTRUCTURE]


async def test_failing_swapoff_is_the_kernels_failure_and_stays_noted(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    process.failing["swapoff"] = "swapoff: Cannot allocate memory"
    outcome, recorder = await go(process, ORDERS["block device"])
    assert outcome.status is OutcomeStatus.FAILED
    assert recorder.runs[0].status is RunStatus.FAILED
    assert "clean-up failed" in outcome.detail
    assert process.noted()
    process.failing.clear()
    await sweep(process.host())
    assert kernel.is_pristine()


async def test_hanging_swapon_times_out_and_its_late_effect_is_undone(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    process.hanging = {"swapon"}
    outcome, recorder = await go(process, ORDERS["block device"], timeout_s=0.3)
    assert outcome.status is OutcomeStatus.TIMED_OUT
    assert recorder.runs[0].status is RunStatus.TIMED_OUT
    assert kernel.is_pristine()


async def test_agent_told_to_end_reports_died(kernel: FakeKernel) -> None:
    process, stop = FakeProcess(kernel), Stop()

    async def end(at: int) -> None:
        if at == 8:
            stop.request(StopReason.AGENT_ENDS)

    process.on_checkpoint = end
    outcome, recorder = await go(process, ORDERS["block device"], stop=stop)
    assert outcome.status is OutcomeStatus.DIED
    assert recorder.runs[-1].status is RunStatus.DIED
    assert kernel.is_pristine()


async def test_memory_that_is_not_returned_fails_the_run(kernel: FakeKernel) -> None:
    kernel.leak_bytes = 256 * MIB
    outcome, recorder = await go(FakeProcess(kernel), ORDERS["block device"])
    assert outcome.status is OutcomeStatus.FAILED
    assert "did not give its memory back: 256.0 MiB" in recorder.runs[0].error


async def test_unrest_is_the_rig_and_says_how_much(kernel: FakeKernel) -> None:
    kernel.unrest_bytes = 3 * MIB
    outcome, recorder = await go(FakeProcess(kernel), ORDERS["block device"], repetitions=3)
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "did not settle within 60 s" in outcome.detail
    assert "3.00 MiB" in outcome.detail
    assert len(recorder.runs) == 1
    assert kernel.is_pristine()


async def test_a_wrong_size_in_proc_swaps_fails_the_run(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)

    async def shrink(at: int) -> None:
        swaps = kernel.proc / "swaps"
        swaps.write_text(swaps.read_text().replace("1073741820", "536870912"))

    process.on_checkpoint = shrink
    outcome, recorder = await go(process, ORDERS["block device"])
    assert outcome.status is OutcomeStatus.FAILED
    assert "/proc/swaps shows /dev/nvme1n1 with" in recorder.runs[0].error
    assert kernel.is_pristine()
