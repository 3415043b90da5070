"""Orders of the workloads that exercisers do, and one command of them on a fake host from beginning to end."""

from dataclasses import replace
from pathlib import Path

from fake_host import FakeProcess
from fake_kernel import FakeKernel
from measuring_host import Recorder

from agent.domain.host.memory import MIB
from agent.domain.orders.orders import AnonSweepOrder, Order, SwapFillOrder, SwapIntegrityOrder, SwapMountIndicatorOrder
from agent.domain.orders.swap_source import Pressure, SourceKind, SwapSource
from agent.domain.results import CommandOutcome, WorkloadRun
from agent.workloads.registry import workload_for
from agent.workloads.runner import Plan, Stop, drive

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


async def go(
    process: FakeProcess, order: Order, *, repetitions: int = 1, stop: Stop | None = None
) -> tuple[CommandOutcome, list[WorkloadRun]]:
    host, recorder = process.host(), Recorder()
    plan = Plan(warmups=0, repetitions=repetitions, timeout_s=60.0)
    outcome = await drive(workload_for(order, host), plan, host, recorder, stop or Stop())
    return outcome, recorder.runs


def made(root: Path) -> FakeKernel:
    kernel = FakeKernel(root)
    # A kernel that shows its symbols and keeps no cache of slots.
    (kernel.proc / "kallsyms").write_text("ffffffff81000000 T _text\n")
    return kernel


def values(run: WorkloadRun) -> dict[str, float]:
    return {sample.metric: sample.value for sample in run.samples}
