"""kernel_build, valkey_get and stress_ng: what they measure, which runs they refuse, and what they leave."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_host import FakeProcess, ProcessKilled
from fake_workers import FakeFiles, FakeProgram
from measuring_host import CSV, ORDERS, ZRAM, go, prepared, values
from structlog.testing import capture_logs

from agent.domain.host.memory import MIB
from agent.domain.orders.orders import KernelBuildOrder
from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus
from agent.workloads.kinds.built.kernel_source import state_of
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


async def test_the_servers_command_can_be_typed_as_it_is_told(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    _, recorder = await go(process, "valkey_get")
    told = recorder.runs[0].evidence["server_command"]
    assert " --save '' --appendonly no" in told
    assert tuple(shlex.split(told)) in [tuple(command) for command in process.commands]


async def test_a_subset_never_carries_the_names_of_the_full_build(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    _, recorder = await go(process, "kernel_build of objects")
    assert not any(metric.startswith("kernel_build.") for metric in values(recorder.runs[0]))
    assert recorder.runs[0].evidence["built"] == "a subset, not the kernel: mm/memory.o"


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
    # What the kernel counted is recorded all the same.
    assert {metric.partition(".")[0] for metric in values(recorder.runs[0])} <= {"vmstat", "swap"}
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
    if name == "stress_ng":
        # One of its stressors is killed and replaced; the soak itself must be hit.
        programs.swapping = replace(programs.swapping, status=-9, stderr="killed for memory")
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


async def test_a_part_of_a_source_builds_objects_and_no_kernel(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    partial = tmp_path / "linux-source-6.12-objects-only"
    (tmp_path / "linux").rename(partial)
    order = KernelBuildOrder(swap=ZRAM, source=str(partial))
    (refusal,) = workload_for(order, process.host()).inspect().refusals
    assert refusal.endswith("is enough for some objects, not for a kernel; name objects, or another source")
    assert workload_for(replace(order, objects=("mm/memory.o",)), process.host()).inspect().refusals == ()


async def test_what_objects_need_is_prepared_once_and_kept(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    kept = tmp_path / "kept"

    async def commands(config: str) -> list[str]:
        process.commands.clear()
        changes = {"config": config, "prepared_directory": str(kept)}
        outcome, _ = await go(process, "kernel_build of objects", repetitions=2, **changes)
        assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
        return [command[-1] for command in process.commands if command[0] == "make"]

    made, built = ["tinyconfig", "prepare"], ["mm/memory.o", "kernelversion"] * 2
    assert await commands("tinyconfig") == made + built
    assert await commands("tinyconfig") == built
    assert await commands("defconfig") == ["defconfig", "prepare", *built]
    assert "defconfig" in (kept / "prepared-from").read_text().splitlines()


@pytest.mark.parametrize("what", ["edited", "edited as if long ago", "added", "removed", "retargeted"])
async def test_what_was_prepared_from_a_directory_is_done_again_when_anything_in_it_changes(
    tmp_path: Path, what: str
) -> None:
    process, _ = prepared(tmp_path)
    deep, kept = tmp_path / "linux/mm/deep", tmp_path / "kept"
    deep.mkdir(parents=True)
    (deep / "swap.c").write_text("int a;")
    (deep / "link.c").symlink_to("swap.c")

    async def prepares() -> bool:
        process.commands.clear()
        outcome, _ = await go(process, "kernel_build of objects", prepared_directory=str(kept))
        assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
        return any(command[-1] == "prepare" for command in process.commands)

    assert await prepares()
    (tmp_path / "linux/.git").mkdir()
    (tmp_path / "linux/.git/index").write_text("first")
    # That a directory was made is a change; what git does in it is none.
    assert await prepares()
    (tmp_path / "linux/.git/index").write_text("second")
    assert not await prepares()
    match what:
        case "edited":
            (deep / "swap.c").write_text("int b;")
        case "edited as if long ago":
            (deep / "swap.c").write_text("int b;")
            os.utime(deep / "swap.c", (1_000_000.0, 1_000_000.0))
        case "added":
            (deep / "new.c").write_text("")
        case "removed":
            (deep / "swap.c").unlink()
        case _:
            (deep / "link.c").unlink()
            (deep / "link.c").symlink_to("other.c")
    assert await prepares()
    assert not await prepares()


def test_another_tarball_of_the_same_name_is_another_source(tmp_path: Path) -> None:
    tarball = tmp_path / "linux.tar.xz"
    tarball.write_bytes(b"one")
    os.utime(tarball, (1_000_000.0, 1_000_000.0))
    first = state_of(str(tarball))
    assert state_of(str(tarball)) == first
    os.utime(tarball, (1_000_000.0, 1_000_001.0))
    assert state_of(str(tarball)) != first


async def test_room_is_asked_for_where_the_prepared_directory_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, _ = prepared(tmp_path)
    kept = tmp_path / "kept"

    def free_bytes(files: FakeFiles, directory: Path) -> int:
        return 100 * MIB if directory == kept else 1 << 40

    with monkeypatch.context() as patched:
        patched.setattr(FakeFiles, "free_bytes", free_bytes)
        outcome, _ = await go(process, "kernel_build of objects", prepared_directory=str(kept))
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert f"{kept} has 100 MiB free and 512 MiB are needed" in outcome.detail
    outcome, _ = await go(process, "kernel_build of objects", prepared_directory=str(kept))
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
    # It is there now, and needs no further room.
    monkeypatch.setattr(FakeFiles, "free_bytes", free_bytes)
    outcome, _ = await go(process, "kernel_build of objects", prepared_directory=str(kept))
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail


async def test_a_directory_that_nobody_prepared_is_left_alone(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis").write_text("unsaved")
    outcome, _ = await go(process, "kernel_build of objects", prepared_directory=str(tmp_path / "mine"))
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "is there already" in outcome.detail
    assert (tmp_path / "mine/thesis").read_text() == "unsaved"


async def test_a_preparation_that_was_cut_short_is_not_kept(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    process.programs["make"] = FakeProgram(status=2, stderr="no space left")
    kept = tmp_path / "kept"
    outcome, _ = await go(process, "kernel_build of objects", prepared_directory=str(kept))
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert not kept.exists()
    process.programs["make"] = programs.make
    outcome, _ = await go(process, "kernel_build of objects", prepared_directory=str(kept))
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail


async def test_a_stressor_that_reads_back_wrong_memory_speaks_against_the_kernel(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    stdout = "stress-ng: fail:  [12] vm: detected 17 bit errors while stressing memory"
    process.programs["stress-ng"] = FakeProgram(status=2, stdout=stdout)
    outcome, recorder = await go(process, "stress_ng")
    assert outcome.status is OutcomeStatus.FAILED
    assert "detected 17 bit errors" in recorder.runs[0].error


async def test_a_stressor_killed_in_its_bookkeeping_does_not_speak_against_the_kernel(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    stdout = (
        "stress-ng: fail:  [15215] swap instance 0 corrupted bogo-ops counter, 94 vs 0\n"
        "stress-ng: fail:  [15215] metrics-check: stressor metrics corrupted, data is compromised\n"
    )
    process.programs["stress-ng"] = FakeProgram(status=2, stdout=stdout, oom_kills=15)
    outcome, _ = await go(process, "stress_ng")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "15 stressors were killed for memory in the middle of their counting" in outcome.detail
    # The same words without a killed stressor are wrong memory.
    process.programs["stress-ng"] = FakeProgram(status=2, stdout=stdout)
    outcome, _ = await go(process, "stress_ng")
    assert outcome.status is OutcomeStatus.FAILED


async def test_a_stressor_that_was_killed_and_replaced_is_counted(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    programs.swapping = replace(programs.swapping, oom_kills=3)
    outcome, recorder = await go(process, "stress_ng")
    assert outcome.status is OutcomeStatus.COMPLETED
    assert values(recorder.runs[0])["stress.killed"] == (3.0, "count")


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
