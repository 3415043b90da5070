"""The agent's processes, kernel log and command line against the real system, as far as no privilege is needed."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

from agent.adapters.host.host import boot_id, read_facts
from agent.adapters.host.kmsg import KernelLogPosition, KernelLogWatcher, open_kernel_log
from agent.adapters.host.processes import ProcessRunner
from agent.domain.errors import RigError
from agent.domain.results import KernelLog
from agent.to_end import run_to_end

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = PATIENCE_S


async def test_a_tool_that_ends() -> None:
    completed = await ProcessRunner().run(("sh", "-c", "echo out; echo wrong >&2; exit 3"), timeout_s=DEADLINE_S)
    assert (completed.status, completed.stdout, completed.complaint) == (3, "out\n", "wrong")


async def test_a_missing_tool_is_named() -> None:
    with pytest.raises(RigError, match="no-such-tool is not installed"):
        await ProcessRunner().run(("no-such-tool",), timeout_s=DEADLINE_S)


async def test_a_tool_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    runner = ProcessRunner()
    command = ("sh", "-c", "sleep 98.7654 & wait")
    with pytest.raises(TimeoutError, match=r"took longer than 0\.3 s"):
        await runner.run(command, timeout_s=0.3)
    await runner.wait_until_gone(("sleep", "98.7654"), timeout_s=DEADLINE_S)


async def test_a_cancelled_tool_is_gone_before_the_cancellation_arrives() -> None:
    runner = ProcessRunner()
    task = asyncio.create_task(runner.run(("sleep", "98.7655"), timeout_s=DEADLINE_S))
    while True:
        # It runs as soon as waiting for its end times out.
        try:
            await runner.wait_until_gone(("sleep", "98.7655"), timeout_s=0.05)
        except TimeoutError:
            break
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await runner.wait_until_gone(("sleep", "98.7655"), timeout_s=0.5)


async def test_clean_up_runs_to_its_end_and_then_the_cancellation_is_delivered() -> None:
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def clean_up() -> None:
        begun.set()
        await go_on.wait()
        ended.set()

    task = asyncio.create_task(run_to_end(clean_up()))
    await begun.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_failure_of_clean_up_is_not_hidden_by_a_cancellation() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise RigError("still there")

    task = asyncio.create_task(run_to_end(fail()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(RigError, match="still there"):
        await task


class Log:
    """A kernel log that a test writes: one datagram is one record, as one read of /dev/kmsg is."""

    def __init__(self, tmp_path: Path) -> None:
        self.position = KernelLogPosition(tmp_path / "position.json", "boot-1")
        self.delivered: list[KernelLog] = []
        self.writer: socket.socket | None = None

    def watcher(self) -> KernelLogWatcher:
        if self.writer is not None:
            self.writer.close()
        reader, self.writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader.setblocking(False)
        return KernelLogWatcher(reader.detach(), position=self.position, deliver=self.delivered.append)

    def write(self, sequence: int, level: int, text: str) -> None:
        assert self.writer is not None
        self.writer.send(f"{level},{sequence},{sequence * 1000},-;{text}\n".encode())

    @property
    def texts(self) -> list[str]:
        return [record.text for log in self.delivered for record in log.records]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def close(watcher: KernelLogWatcher, log: Log) -> None:
    assert log.writer is not None
    log.writer.close()
    log.writer = None
    os.close(watcher._descriptor)


async def test_the_kernel_log_is_watched(log: Log) -> None:
    task = asyncio.create_task(log.watcher().watch())
    log.write(0, 6, "Linux version 7.1.13")
    log.write(1, 3, "BUG: unable to handle page fault")
    async with asyncio.timeout(DEADLINE_S):
        while not log.delivered:  # noqa: ASYNC110 -- real sockets
            await asyncio.sleep(0.02)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert log.texts == ["BUG: unable to handle page fault"]
    assert log.position.load() == 1
    assert log.writer is not None
    log.writer.close()


async def test_after_a_restart_the_log_continues_where_it_was_spooled(log: Log) -> None:
    first = log.watcher()
    log.write(0, 4, "one")
    log.write(1, 6, "not worth it")
    log.write(2, 4, "two")
    first.flush()
    close(first, log)
    second = log.watcher()
    for sequence, text in ((0, "one"), (1, "not worth it"), (2, "two"), (3, "three")):
        log.write(sequence, 4, text)
    second.flush()
    close(second, log)
    assert log.texts == ["one", "two", "three"]
    assert all(batch.lost_records == 0 for batch in log.delivered)


async def test_overwritten_records_are_counted(log: Log) -> None:
    watcher = log.watcher()
    log.write(5, 4, "late start")
    log.write(9, 4, "overrun")
    watcher.flush()
    close(watcher, log)
    assert [(len(batch.records), batch.lost_records) for batch in log.delivered] == [(2, 8)]


async def test_many_records_come_in_batches(log: Log) -> None:
    watcher = log.watcher()
    for start in range(0, 450, 50):
        # The socket takes fewer at once than the kernel's ring holds.
        for sequence in range(start, start + 50):
            log.write(sequence, 4, "flood")
        watcher._read()
    watcher.flush()
    close(watcher, log)
    assert [len(batch.records) for batch in log.delivered] == [200, 200, 50]


def test_an_unreadable_kernel_log_is_a_warning(tmp_path: Path) -> None:
    assert open_kernel_log(tmp_path / "none") is None


def test_facts_of_this_host() -> None:
    facts = read_facts(labels={"a": "b"}, platform_override=None)
    assert facts.boot_id == boot_id()
    assert len(facts.boot_id) == 36
    assert facts.kernel_release == os.uname().release
    assert facts.memory_bytes > 1 << 20
    assert facts.cpu_count >= 1


async def call(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent.main",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_S):
        stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def test_facts_as_json() -> None:
    status, stdout, _ = await call("facts", "--output", "json")
    assert status == 0
    assert json.loads(stdout)["boot_id"] == boot_id()


async def test_help_names_examples_and_exit_codes() -> None:
    status, stdout, _ = await call("--help")
    assert status == 0
    assert "kernroll-agent run swap_mount --block-device" in stdout
    assert "no valid client certificate; needs a new join token" in stdout


async def test_help_of_sweep_names_every_kind_of_thing_that_it_takes_down() -> None:
    status, stdout, _ = await call("sweep", "--help")
    assert status == 0
    text = " ".join(stdout.split())
    for each in (
        "swap areas",
        "brd",
        "zram",
        "loop",
        "modules",
        "zswap",
        "files",
        "directories",
        "processes",
        "cgroup",
    ):
        assert each in text


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("serve", "--config", "none.toml"), 2, "none.toml: cannot read the configuration"),
        (("run", "swap_mount"), 2, "swap_mount needs something to swap to: name a block device"),
        (("run", "swap_mount", "--zram-size", "1G", "--brd-size", "1G"), 2, "not allowed with argument"),
        (("run", "swap_mount", "--brd-size", "big"), 2, "'big' is not a size"),
        (("run", "swap_mount", "--block-device", "/dev/a", "--repetitions", "0"), 2, "not a number of at least 1"),
        (("sweep", "--state-dir", "/proc/none"), 5, "/proc/none cannot be made"),
    ],
)
async def test_wrong_calls(arguments: tuple[str, ...], status: int, words: str) -> None:
    ended, _, stderr = await call(*arguments)
    assert ended == status
    assert words in stderr


async def test_a_local_run_on_what_is_no_device(tmp_path: Path) -> None:
    status, stdout, _ = await call(
        "run", "swap_mount", "--block-device", "/dev/null", "--state-dir", str(tmp_path), "--output", "json"
    )
    assert status == 5
    assert json.loads(stdout)["outcome"]["status"] == "infrastructure"
    assert "/dev/null is not a block device" in json.loads(stdout)["outcome"]["detail"]


async def test_sweep_with_nothing_left(tmp_path: Path) -> None:
    assert (await call("sweep", "--state-dir", str(tmp_path)))[:2] == (0, "nothing was left behind\n")


async def test_the_resident_process_does_not_load_cryptography() -> None:
    code = (
        "import sys, agent.main; print([name for name in ('cryptography', 'pydantic', 'click') if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    stdout, _ = await process.communicate()
    assert stdout.decode().strip() == "[]"
