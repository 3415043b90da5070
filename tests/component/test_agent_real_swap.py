"""The agent on this machine's own kernel: real swap on a loop device and a file, memory cgroups, a kill -9."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from agent.adapters.host.cgroups import Cgroups, Hierarchy, memory_hierarchy
from agent.adapters.host.processes import find_tool
from agent.adapters.host.workers import HostWorkers
from agent.domain.errors import RigError
from agent.domain.host.memory import MIB
from agent.workloads.port import Workers

_LONG_S = 240.0
_SWAP_TOOLS = all(find_tool(tool) for tool in ("mkswap", "swapon", "swapoff", "losetup"))
swaps_here = pytest.mark.skipif(
    os.geteuid() != 0 or not _SWAP_TOOLS or not Path("/dev/loop-control").exists(),
    reason="switching real swap on takes root, util-linux and loop devices",
)
limits_here = pytest.mark.skipif(
    os.geteuid() != 0 or bool(Cgroups().problem), reason=f"no memory cgroup for this user: {Cgroups().problem}"
)


async def agent(state: Path, *arguments: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "agent.main", *arguments, "--state-dir", str(state), "--output", "json")
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, start_new_session=True)


async def finished(process: asyncio.subprocess.Process) -> tuple[int, str]:
    async with asyncio.timeout(_LONG_S):
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode() or stderr.decode()


def own_cgroup() -> str:
    return Path("/proc/self/cgroup").read_text()


def traces(state: Path) -> list[str]:
    """Return what is left of a workload of this state directory."""
    left = [line for line in Path("/proc/swaps").read_text().splitlines() if str(state) in line]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        if backing.read_text().startswith(str(state)):
            left.append(str(backing))
    return [*left, *(str(path) for path in (state / "scratch").iterdir())]


@swaps_here
@pytest.mark.parametrize("kind", ["loop", "file"])
async def test_swap_mount_on_real_swap_leaves_nothing(tmp_path: Path, kind: str) -> None:
    # Other tests use memory meanwhile: this is about what is set up and taken down, not about the figure.
    quiet = ("--settle-tolerance", "4G")
    code, text = await finished(await agent(tmp_path, "run", "swap_mount", f"--{kind}-size", "64M", *quiet))
    if kind == "file" and "the file system there cannot hold swap" in text:
        pytest.skip("the temporary directory's file system cannot hold swap files")
    assert code == 0, text
    (run,) = json.loads(text)["runs"]
    assert run["status"] == "ok"
    sizes = {sample["metric"]: sample["value"] for sample in run["samples"]}
    assert sizes["swap_mount.device_size"] == 64.0
    assert traces(tmp_path) == []


@swaps_here
async def test_killed_while_swap_is_on_the_sweep_takes_everything_down(tmp_path: Path) -> None:
    process = await agent(tmp_path, "run", "swap_mount", "--loop-size", "64M", "--settle-tolerance", "4G")
    assert process.stderr is not None
    async with asyncio.timeout(_LONG_S):
        while b"settling after swapon" not in await process.stderr.readline():
            assert not process.stderr.at_eof()
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    assert len(traces(tmp_path)) == 2, "the loop device and its file"
    code, text = await finished(await agent(tmp_path, "sweep"))
    assert code == 0, text
    assert {each["kind"] for each in json.loads(text)} >= {"SwapOn", "LoopDevice", "MadeFile"}
    assert traces(tmp_path) == []


@swaps_here
async def test_a_dry_run_touches_nothing(tmp_path: Path) -> None:
    state = tmp_path / "never-made"
    code, text = await finished(await agent(state, "run", "swap_mount", "--loop-size", "64M", "--dry-run"))
    assert code == 0, text
    assert "makes a sparse file" in json.loads(text)["touches"][0]
    assert not state.exists()


@limits_here
async def test_a_limit_reaches_the_workload_and_never_the_agent(tmp_path: Path) -> None:
    workers: Workers = HostWorkers(f"kernroll-test-{os.getpid()}", Cgroups())
    own = own_cgroup()
    hog = (sys.executable, "-c", "bytearray(512 << 20)")
    try:
        workers.confine(64 * MIB)
        inside = await workers.run(("cat", "/proc/self/cgroup", "/proc/self/oom_score_adj"), timeout_s=60)
        assert f"/{workers.name}\n" in inside.stdout
        assert inside.stdout.splitlines()[-1] == "500"
        # It is killed, or swapped out where somebody has switched swap on; never larger than the limit.
        assert (await workers.run(hog, timeout_s=_LONG_S)).peak_bytes < 128 * MIB
        assert workers.statistics()
        workers.confine(0)
        unlimited = await workers.run(hog, timeout_s=_LONG_S)
        assert (unlimited.status, unlimited.peak_bytes > 512 * MIB) == (0, True)
    finally:
        await workers.end_all()
    assert own_cgroup() == own
    assert workers.statistics() == {}


def test_the_hierarchy_that_controls_memory_is_found() -> None:
    unified = "31 23 0:28 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    assert memory_hierarchy(unified) == Hierarchy(root=Path("/sys/fs/cgroup"), version=2)
    split = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" + split
    assert memory_hierarchy(hybrid) == Hierarchy(root=Path("/sys/fs/cgroup/memory"), version=1)
    assert memory_hierarchy("24 1 0:22 / /proc rw - proc proc rw\n") is None


def test_without_a_hierarchy_a_limit_is_refused_and_no_limit_is_not(tmp_path: Path) -> None:
    cgroups = Cgroups(tmp_path)
    cgroups.make("kernroll-test", 0)
    with pytest.raises(RigError, match="memory cannot be limited: no memory cgroup is mounted"):
        cgroups.make("kernroll-test", MIB)
