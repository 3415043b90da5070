"""kernel_build, valkey_get and stress_ng: what they measure, which runs they refuse, and what they leave."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.adapters.fake_host import FakeProcess, ProcessKilled
from agent.adapters.fake_kernel import FakeKernel
from agent.adapters.fake_workers import FakeProgram
from agent.domain.memory import MIB
from agent.domain.orders import KernelBuildOrder, Order, StressNgOrder, ValkeyGetOrder
from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus, WorkloadRun
from agent.domain.swap_source import Pressure, SourceKind, SwapSource
from agent.workloads.registry import workload_for
from agent.workloads.runner import Plan, Stop, StopReason, drive
from agent.workloads.undoing import sweep

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
every = pytest.mark.parametrize("name", ORDERS)
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


EXPECTED = {
    "kernel_build": {
        "kernel_build.system_time": (7.5, "s"),
        "kernel_build.user_time": (15.0, "s"),
        "kernel_build.elapsed": (20.0, "s"),
        "kernel_build.swapped_out": (9.0, "MiB"),
        "kernel_build.swapped_in": (9.0, "MiB"),
    },
    "kernel_build of objects": {"kernel_build_subset.system_time": (7.5, "s")},
    "valkey_get": {
        "valkey.get_rate": (472705.71, "requests/s"),
        "valkey.p50": (0.655, "ms"),
        "valkey.p99": (4.823, "ms"),
        "valkey.hits": (78.0, "%"),
        "valkey.background_saves": (0.0, "count"),
    },
    "valkey_get with BGSAVE": {
        "valkey.get_rate_bgsave": (472705.71, "requests/s"),
        "valkey.background_saves_bgsave": (1.0, "count"),
    },
    "stress_ng": {"stress.bogo_rate": (54089.944050, "bogo-op/s"), "stress.swap_bogo_rate": (12.5, "bogo-op/s")},
}


@every
async def test_what_is_measured(tmp_path: Path, name: str) -> None:
    process, _ = prepared(tmp_path)
    outcome, recorder = await go(process, name, repetitions=2)
    assert outcome == CommandOutcome(status=OutcomeStatus.COMPLETED)
    assert [run.status for run in recorder.runs] == [RunStatus.OK] * 2
    for run in recorder.runs:
        assert EXPECTED[name].items() <= values(run).items()
        assert "/dev/zram0" in run.evidence["proc_swaps"]
        assert "command" in run.evidence
    assert process.kernel.is_pristine()
    assert process.noted() == ()


async def test_a_subset_never_carries_the_names_of_the_full_build(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    _, recorder = await go(process, "kernel_build of objects")
    assert not any(metric.startswith("kernel_build.") for metric in values(recorder.runs[0]))
    assert recorder.runs[0].evidence["built"] == "a subset, not the kernel: mm/memory.o"


async def test_the_cover_letters_flags_reach_the_programs(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    letter = {"keys": 3_000_000, "requests": 3_000_000, "value_bytes": 1024, "maxmemory_bytes": 2560 * MIB}
    await go(process, "valkey_get", **letter)
    # The fake machine has 1.5 GB, and such data does not fit into it and 512 MiB of swap.
    assert process.commands == []
    big = replace(ZRAM, size_bytes=4096 * MIB)
    process.kernel.total_bytes = 8192 * MIB
    process.kernel.write_meminfo()
    outcome, _ = await go(process, "valkey_get", swap=big, **letter)
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
    commands = [" ".join(command) for command in process.commands]
    assert any("valkey-server --maxmemory 2684354560" in command for command in commands)
    flags = "-r 3000000 -n 3000000 -d 1024 -c 12 -P 32 -t get"
    assert any(command.startswith("valkey-benchmark") and flags in command for command in commands)
    assert any("-r 3000000 -n 2776944 -d 1024 -c 12 -P 32 -t set" in command for command in commands)


@every
async def test_killed_at_any_checkpoint_the_next_start_sweeps(tmp_path: Path, name: str) -> None:
    probe, _ = prepared(tmp_path / "probe")
    await go(probe, name)
    for number in range(probe.checkpoints):
        process, _ = prepared(tmp_path / str(number))
        process.kill_at = number
        with pytest.raises(ProcessKilled):
            await go(process, name)
        successor = FakeProcess(process.kernel)
        await sweep(successor.host())
        assert process.kernel.is_pristine(), f"killed at checkpoint {number}"
        assert successor.noted() == ()


@every
async def test_cancelled_at_any_checkpoint_everything_is_undone(tmp_path: Path, name: str) -> None:
    probe, _ = prepared(tmp_path / "probe")
    await go(probe, name)
    for number in range(probe.checkpoints):
        process, _ = prepared(tmp_path / str(number))
        stop = Stop()

        async def cancel(at: int, number: int = number, stop: Stop = stop) -> None:
            if at == number:
                stop.request(StopReason.CANCELLED)

        process.on_checkpoint = cancel
        outcome, _ = await go(process, name, stop=stop)
        assert process.kernel.is_pristine(), f"cancelled at checkpoint {number}"
        assert process.noted() == ()
        # The last checkpoints belong to the clean-up, which goes on to its end.
        assert outcome.status in (OutcomeStatus.CANCELLED, OutcomeStatus.COMPLETED)


@every
async def test_a_run_that_did_not_swap_is_no_measurement(tmp_path: Path, name: str) -> None:
    process, programs = prepared(tmp_path)
    programs.swapping = FakeProgram()
    programs.build = FakeProgram()
    outcome, recorder = await go(process, name)
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "the run is not valid: 0.0 MiB were swapped" in outcome.detail
    assert recorder.runs[0].samples == ()
    assert process.kernel.is_pristine()


@every
async def test_a_process_killed_for_memory_is_an_outcome_of_the_run(tmp_path: Path, name: str) -> None:
    process, programs = prepared(tmp_path)
    if name.startswith("valkey"):
        # The server survives its filling and dies while it is read.
        programs.benchmark = lambda command: FakeProgram(  # type: ignore[method-assign]  # another benchmark
            oom_kills=int("get" in command), status=int("get" in command), stdout=CSV.format(test="SET")
        )
        process.programs["valkey-benchmark"] = programs.benchmark
    programs.swapping = replace(programs.swapping, oom_kills=1)
    programs.build = replace(programs.build, oom_kills=1, status=2)
    outcome, recorder = await go(process, name)
    assert outcome.status is OutcomeStatus.DIED, outcome.detail
    assert recorder.runs[0].status is RunStatus.DIED
    assert "killed for memory" in recorder.runs[0].error
    assert process.kernel.is_pristine()


@pytest.mark.parametrize(
    ("name", "tool", "words"),
    [
        ("kernel_build", "flex", "flex not installed"),
        ("valkey_get", "valkey-cli", ""),
        ("stress_ng", "stress-ng", "stress-ng is not installed"),
    ],
)
async def test_a_missing_tool_is_named_before_anything_is_touched(
    tmp_path: Path, name: str, tool: str, words: str
) -> None:
    process, _ = prepared(tmp_path)
    process.missing.add(tool)
    if tool == "valkey-cli":
        process.missing.add("redis-server")
        words = "neither valkey's nor redis's"
    outcome, _ = await go(process, name)
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert words in outcome.detail
    assert process.commands == []


async def test_redis_serves_where_valkey_is_not_complete(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    process.missing.add("valkey-cli")
    for part in ("server", "cli", "benchmark"):
        process.programs[f"redis-{part}"] = process.programs[f"valkey-{part}"]
    outcome, recorder = await go(process, "valkey_get")
    assert outcome.status is OutcomeStatus.COMPLETED
    assert recorder.runs[0].evidence["server"].startswith("redis")
    assert programs.reads == 1


async def test_make_that_makes_nothing_is_no_build(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    programs.products = ()
    outcome, _ = await go(process, "kernel_build")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "made no vmlinux" in outcome.detail


async def test_a_failing_build_says_its_first_errors(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    stderr = "fork.c:1: error: unknown type\nmake[1]: *** [fork.o] Error 1\nmake: *** [Makefile:9] Error 2\n"
    programs.build = FakeProgram(status=2, stderr=stderr)
    outcome, _ = await go(process, "kernel_build")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "the build failed: fork.c:1: error: unknown type" in outcome.detail


async def test_without_a_source_nothing_is_touched(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    host = process.host()
    order = KernelBuildOrder(swap=ZRAM, source=str(tmp_path / "nowhere"))
    inspection = workload_for(order, host).inspect()
    assert inspection.refusals == ("no kernel source is here; install linux-source, or name one (--source)",)
    assert process.commands == []


async def test_reads_that_find_nothing_are_no_measurement(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    programs.hits = 2
    outcome, _ = await go(process, "valkey_get")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "8 % of the reads found a value, fewer than 50 %" in outcome.detail


async def test_without_a_background_save_it_is_not_s5(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    process.programs["valkey-cli"] = lambda command: replace(
        programs.cli(command), stdout=programs.cli(command).stdout.replace("total_forks:", "forks_of_others:")
    )
    outcome, _ = await go(process, "valkey_get with BGSAVE")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "counts no background save meanwhile" in outcome.detail


async def test_a_stressor_that_reads_back_wrong_memory_speaks_against_the_kernel(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    stdout = "stress-ng: fail:  [12] vm: detected 17 bit errors while stressing memory"
    process.programs["stress-ng"] = FakeProgram(status=2, stdout=stdout)
    outcome, recorder = await go(process, "stress_ng")
    assert outcome.status is OutcomeStatus.FAILED
    assert "detected 17 bit errors" in recorder.runs[0].error


async def test_swap_files_of_a_killed_stressor_are_switched_off(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    kernel = process.kernel
    own = kernel.scratch / "kernroll-fake.stress/tmp-stress-ng-swap"

    async def kill_in_the_soak(at: int) -> None:
        if any("stress-ng" in command[0] for command in kernel.running) and process.kill_at is None:
            kernel.give_device(str(own), MIB)
            kernel.give_device("/elsewhere/swap", MIB)
            kernel.write_swaps((*kernel.swaps, str(own), "/elsewhere/swap"))
            process.kill_at = at + 1

    process.on_checkpoint = kill_in_the_soak
    with pytest.raises(ProcessKilled):
        await go(process, "stress_ng")
    assert str(own) in kernel.swaps
    await sweep(FakeProcess(kernel).host())
    assert kernel.swaps == ("/elsewhere/swap",), "only what lies in our directory is switched off"


async def test_a_server_that_refuses_more_data_is_the_rig_and_not_a_death(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    process.programs["valkey-benchmark"] = FakeProgram(status=1, stderr="Error from server: OOM command not allowed")
    outcome, _ = await go(process, "valkey_get")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "--maxmemory does not hold the keys" in outcome.detail
    assert programs.reads == 0


async def test_a_save_that_is_still_under_way_is_waited_for(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    asked = 0

    def cli(command: Sequence[str]) -> FakeProgram:
        nonlocal asked
        asked += command[-1] == "all"
        answer = programs.cli(command)
        busy = command[-1] == "all" and asked < 5
        return replace(answer, stdout=answer.stdout + "rdb_bgsave_in_progress:1\r\n") if busy else answer

    process.programs["valkey-cli"] = cli
    outcome, _ = await go(process, "valkey_get with BGSAVE")
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
    assert asked == 6, "once before the run, four times until the save has ended, once after the run"


async def test_a_save_that_does_not_begin_is_the_rig(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    refusal = FakeProgram(lines=("ERR fork: Cannot allocate memory",), stays=True)
    process.programs["valkey-cli"] = lambda command: refusal if command[-1].isdigit() else programs.cli(command)
    outcome, _ = await go(process, "valkey_get with BGSAVE")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "no background save begins: ERR fork: Cannot allocate memory" in outcome.detail
