"""A fake host with the programs that measuring workloads run, and one command on it from beginning to end."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fake_host import FakeProcess
from fake_kernel import FakeKernel
from fake_workers import FakeProgram

from agent.domain.host.memory import MIB
from agent.domain.orders.orders import KernelBuildOrder, Order, StressNgOrder, ValkeyGetOrder
from agent.domain.orders.swap_source import Pressure, SourceKind, SwapSource
from agent.domain.results import CommandOutcome, WorkloadRun
from agent.workloads.registry import workload_for
from agent.workloads.runner import Plan, Stop, drive

ZRAM = SwapSource(kind=SourceKind.ZRAM, size_bytes=512 * MIB)
LIMIT = Pressure(memory_limit_bytes=64 * MIB)
SMALL_VALKEY = ValkeyGetOrder(
    swap=ZRAM, pressure=LIMIT, maxmemory_bytes=160 * MIB, keys=1000, requests=1000, value_bytes=64
)
ORDERS: dict[str, Order] = {
    "kernel_build": KernelBuildOrder(swap=ZRAM, pressure=LIMIT, source="SOURCE"),
    "kernel_build of objects": KernelBuildOrder(swap=ZRAM, pressure=LIMIT, source="SOURCE", objects=("mm/memory.o",)),
    "valkey_get": SMALL_VALKEY,
    "valkey_get with BGSAVE": replace(SMALL_VALKEY, bgsave=True),
    "stress_ng": StressNgOrder(swap=ZRAM, pressure=LIMIT, vm_bytes=128 * MIB),
}
PAGES_OF_9_MIB = 9 * MIB // 4096
CSV = '"test","rps","avg_latency_ms","p50_latency_ms","p99_latency_ms"\n"{test}","472705.71","0.8","0.655","4.823"\n'
METRICS = """---
system-info:
      bogo: 1

metrics:
    - stressor: vm
      bogo-ops: 162316
      bogo-ops-per-second-real-time: 54089.944050
      note: 'none'

    - stressor: swap
      bogo-ops-per-second-real-time: 12.5

times:
      load: 3
...
"""


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


class Programs:
    """What the tools do on this host; a test changes one of them."""

    def __init__(self, process: FakeProcess) -> None:
        self.forks = 0
        self.reads = 0
        self.hits = 78
        self.swapping = FakeProgram(swapped_in_pages=PAGES_OF_9_MIB, swapped_out_pages=PAGES_OF_9_MIB)
        self.build = replace(self.swapping, elapsed_s=20.0, user_s=15.0, system_s=7.5)
        self.products = ("vmlinux", "mm/memory.o")
        self.metrics = METRICS
        process.programs.update(
            {
                "make": self.make,
                "valkey-server": FakeProgram(stays=True),
                "valkey-cli": self.cli,
                "valkey-benchmark": self.benchmark,
                "stress-ng": self.stress_ng,
            }
        )

    def make(self, command: Sequence[str]) -> FakeProgram:
        if command[-1] in ("tinyconfig", "prepare"):
            return FakeProgram()
        if command[-1] == "kernelversion":
            return FakeProgram(stdout="6.1.176")
        output = Path(next(word for word in command if word.startswith("O=")).removeprefix("O="))
        return replace(self.build, writes={output / product: "" for product in self.products})

    def cli(self, command: Sequence[str]) -> FakeProgram:
        match command[-1]:
            case "PING":
                return FakeProgram(stdout="PONG")
            case "all":
                text = f"# Stats\r\nkeyspace_hits:{self.hits * self.reads}\r\nkeyspace_misses:{22 * self.reads}\r\n"
                return FakeProgram(stdout=f"{text}total_forks:{self.forks}\r\nrdb_last_bgsave_status:ok\r\n")
            case _:
                self.forks += 1
                return FakeProgram(lines=("Background saving started",) * 1000, stays=True)

    def benchmark(self, command: Sequence[str]) -> FakeProgram:
        test = command[command.index("-t") + 1]
        self.reads += test == "get"
        return replace(self.swapping, stdout=CSV.format(test=test.upper()))

    def stress_ng(self, command: Sequence[str]) -> FakeProgram:
        return replace(self.swapping, writes={Path(command[-1]): self.metrics})


def prepared(root: Path) -> tuple[FakeProcess, Programs]:
    kernel = FakeKernel(root)
    (root / "linux").mkdir()
    (root / "linux/Kconfig").write_text("")
    process = FakeProcess(kernel)
    return process, Programs(process)


async def go(
    process: FakeProcess, name: str, *, repetitions: int = 1, stop: Stop | None = None, **changes: Any
) -> tuple[CommandOutcome, Recorder]:
    order = ORDERS[name]
    if isinstance(order, KernelBuildOrder):
        order = replace(order, source=str(process.kernel.root / "linux"))
    order = replace(order, **changes)
    recorder, host = Recorder(), process.host()
    plan = Plan(warmups=0, repetitions=repetitions, timeout_s=60.0)
    return await drive(workload_for(order, host), plan, host, recorder, stop or Stop()), recorder


def values(run: WorkloadRun) -> dict[str, tuple[float, str]]:
    return {sample.metric: (sample.value, sample.unit) for sample in run.samples}
