"""The ports of files and workers: the host's own and the fake's keep the same promises."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_host import FakeProcess
from fake_kernel import FakeKernel
from fake_workers import FakeFiles, FakeProgram, FakeWorkers

from agent.adapters.host.cgroups import Cgroups
from agent.adapters.host.files import HostFiles
from agent.adapters.host.workers import HostWorkers
from agent.domain.errors import RigError
from agent.workloads.port import KEPT_BYTES, Files, Workers

_PROGRAMS = {
    "greet": FakeProgram(stdout="hello\n"),
    "fail": FakeProgram(status=3, stderr="it went wrong\n"),
    "die": FakeProgram(status=-9),
    "stay": FakeProgram(status=-15, stays=True),
    "count": FakeProgram(lines=("one", "two")),
    "linger": FakeProgram(lines=("one",), stays=True),
}
_SCRIPTS = {
    "greet": "echo hello",
    "fail": "echo it went wrong >&2; exit 3",
    "die": "kill -9 $$",
    "stay": "exec sleep 1000",
    "count": "echo one; echo two",
    "linger": "echo one; exec sleep 1000",
}


def fake(tmp_path: Path) -> tuple[Files, Workers]:
    process = FakeProcess(FakeKernel(tmp_path / "fake"))
    process.programs["sh"] = lambda command: _PROGRAMS[next(k for k, v in _SCRIPTS.items() if v == command[-1])]
    process.missing.add("no-such-tool")
    return FakeFiles(process), FakeWorkers(process)


def real(tmp_path: Path) -> tuple[Files, Workers]:
    # No cgroups: an empty directory in the place of /proc shows none, so this needs no rights.
    return HostFiles(), HostWorkers(f"kernroll-test-{tmp_path.name}", Cgroups(tmp_path))


Ports = tuple[Files, Workers]


@pytest.fixture(params=[fake, real], ids=["fake", "host"])
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Ports:
    make: Callable[[Path], Ports] = request.param
    return make(tmp_path)


def script(name: str) -> tuple[str, ...]:
    return ("sh", "-c", _SCRIPTS[name])


async def test_a_process_runs_to_its_end_and_is_accounted_for(ports: Ports) -> None:
    ended = await ports[1].run(script("greet"), timeout_s=60)
    assert (ended.status, ended.stdout.strip()) == (0, "hello")
    assert ended.elapsed_s > 0
    assert ended.peak_bytes > 0


async def test_a_failure_says_what_the_process_said(ports: Ports) -> None:
    ended = await ports[1].run(script("fail"), timeout_s=60)
    assert (ended.status, ended.complaint) == (3, "it went wrong")


async def test_a_killed_process_is_told_by_its_signal(ports: Ports) -> None:
    ended = await ports[1].run(script("die"), timeout_s=60)
    assert (ended.status, ended.complaint) == (-9, "ended by signal 9")


async def test_a_missing_tool_is_the_rig(ports: Ports) -> None:
    with pytest.raises(RigError, match="no-such-tool is not installed"):
        await ports[1].run(("no-such-tool",), timeout_s=60)


async def test_a_process_that_takes_too_long_is_gone_afterwards(ports: Ports) -> None:
    with pytest.raises(TimeoutError):
        await ports[1].run(script("stay"), timeout_s=0.2)
    await ports[1].end_all()


async def test_lines_come_one_by_one_and_then_none(ports: Ports) -> None:
    async with ports[1].started(script("count")) as worker:
        lines = [await worker.line(timeout_s=60) for _ in range(3)]
    assert lines == ["one", "two", ""]


async def test_what_a_process_printed_is_there_although_it_did_not_end(ports: Ports) -> None:
    async with ports[1].started(script("linger")) as worker:
        assert await worker.line(timeout_s=60) == "one"
        with pytest.raises(TimeoutError):
            await worker.ended(timeout_s=0.2)
        assert worker.printed.split() == ["one"]


async def test_as_much_output_is_kept_as_was_asked_for(tmp_path: Path) -> None:
    _, workers = real(tmp_path)
    command = ("sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x")
    async with workers.started(command, kept_bytes=150_000) as worker:
        assert len((await worker.ended(timeout_s=60)).stdout) == 150_000
    assert len((await workers.run(command, timeout_s=60)).stdout) == KEPT_BYTES


async def test_a_server_ends_when_it_is_asked_to(ports: Ports) -> None:
    async with ports[1].started(script("stay")) as worker:
        worker.terminate()
        assert (await worker.ended(timeout_s=60)).status == -15


async def test_files_are_made_once_and_removed_as_often_as_you_like(ports: Ports, tmp_path: Path) -> None:
    files = ports[0]
    path = tmp_path / "swap"
    files.make_sparse(path, 1 << 20)
    assert files.exists(path)
    files.remove(path)
    files.remove(path)
    assert not files.exists(path)
    await files.allocate(path, 1 << 20)
    assert files.exists(path)


async def test_directories_go_with_everything_in_them(ports: Ports, tmp_path: Path) -> None:
    files = ports[0]
    files.make_directory(tmp_path / "a/b")
    files.make_sparse(tmp_path / "a/b/c", 4096)
    await files.remove_tree(tmp_path / "a")
    await files.remove_tree(tmp_path / "a")
    assert not files.exists(tmp_path / "a")
    assert files.free_bytes(tmp_path / "not/there/yet") > 0


def test_what_is_not_there_cannot_be_read_or_written(ports: Ports, tmp_path: Path) -> None:
    for act in (lambda: ports[0].read(tmp_path / "x"), lambda: ports[0].write(tmp_path / "x", "1")):
        with pytest.raises(OSError, match="No such file"):
            act()


async def test_the_sweep_of_another_agent_process_ends_what_outlived_its_parent(tmp_path: Path) -> None:
    _, workers = real(tmp_path)
    _, others = real(tmp_path / "other")
    # The shell is killed with its launcher's group; what it left behind has moved to a session of its own.
    command = ("sh", "-c", "setsid sleep 1000 & echo $!; wait")
    async with others.started(command) as spared, workers.started(command) as worker:
        pid, other_pid = int(await worker.line(timeout_s=60)), int(await spared.line(timeout_s=60))
        _, successor = real(tmp_path)
        await successor.end_all()
        assert not _runs(pid)
        assert _runs(other_pid)
        await others.end_all()
        assert not _runs(other_pid)
    await asyncio.sleep(0)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
