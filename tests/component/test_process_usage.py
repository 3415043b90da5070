"""What the benchmark of the agent's cost reads from /proc, against processes whose cost is known."""

import asyncio
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S
from process_usage import KernelLogCounter, ProcessGone, Snapshot, Switches, parse_switches, snapshot, usage

_DEADLINE_S = PATIENCE_S


async def script(code: str) -> asyncio.subprocess.Process:
    """Start Python; it says a line when it is ready, and answers every line with one."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )


async def exchange(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"go\n")
    async with asyncio.timeout(_DEADLINE_S):
        assert await process.stdout.readline()


async def test_memory_processor_time_and_wake_ups_of_a_known_process() -> None:
    process = await script(
        "import sys, time\n"
        "held = bytearray(b'x' * (50 << 20))\n"
        "for _ in sys.stdin:\n"
        "  until = time.process_time() + 0.3\n"
        "  while time.process_time() < until: pass\n"
        "  for _ in range(40): time.sleep(0.001)\n"
        "  print(flush=True)\n"
    )
    try:
        await exchange(process)
        before = snapshot(process.pid)
        await exchange(process)
        found = usage([before, snapshot(process.pid)])
    finally:
        process.kill()
        await process.wait()
    assert 52 < found.rss_mb < 90
    assert found.pss_mb <= found.rss_mb
    assert found.threads == 1
    assert 0.3 <= found.cpu_percent / 100 * found.seconds < 0.6
    assert 40 <= found.wakeups_per_min / 60 * found.seconds < 80


async def test_the_work_of_threads_that_have_ended_counts_as_processor_time() -> None:
    process = await script(
        "import sys, threading, time\n"
        "def work():\n"
        "  until = time.thread_time() + 0.2\n"
        "  while time.thread_time() < until: pass\n"
        "for _ in sys.stdin:\n"
        "  one = threading.Thread(target=work); one.start(); one.join(); print(flush=True)\n"
    )
    try:
        await exchange(process)
        before = snapshot(process.pid)
        await exchange(process)
        found = usage([before, snapshot(process.pid)])
    finally:
        process.kill()
        await process.wait()
    assert found.cpu_percent / 100 * found.seconds >= 0.2


async def test_a_process_that_has_ended_has_no_numbers() -> None:
    process = await script("")
    await process.wait()
    with pytest.raises(ProcessGone, match=rf"process {process.pid} has ended"):
        snapshot(process.pid)


def taken(at_s: float, cpu_s: float, rss_bytes: int, threads: dict[int, Switches]) -> Snapshot:
    return Snapshot(at_s=at_s, cpu_s=cpu_s, rss_bytes=rss_bytes, pss_bytes=rss_bytes // 2, threads=threads)


def test_threads_that_come_and_go_between_snapshots() -> None:
    found = usage(
        [
            taken(100.0, 7.0, 40_000_000, {1: Switches(10, 1), 2: Switches(500, 50)}),
            taken(115.0, 7.0, 42_000_000, {1: Switches(20, 2)}),
            taken(130.0, 7.03, 50_000_000, {1: Switches(30, 2), 3: Switches(5, 7)}),
        ]
    )
    assert found.seconds == 30.0
    assert (found.rss_mb, found.pss_mb, found.threads) == (42.0, 21.0, 2)
    assert found.cpu_percent == pytest.approx(0.1)
    assert found.wakeups_per_min == 2 * (10 + 10 + 5)
    assert found.preemptions_per_min == 2 * (1 + 7)


def test_a_status_without_the_counters_is_refused() -> None:
    with pytest.raises(KeyError):
        parse_switches("Name:\tpython\nThreads:\t1\n")


def test_kernel_log_records_are_counted_from_the_start_only(tmp_path: Path) -> None:
    assert KernelLogCounter(tmp_path / "none").count() is None
    log = tmp_path / "kmsg"
    log.write_text("6,1,1,-;before\n")
    counter = KernelLogCounter(log)
    assert KernelLogCounter(log).count() == 0
    with log.open("a") as file:
        file.write("4,2,2,-;after\n")
    assert counter.count() == 1
