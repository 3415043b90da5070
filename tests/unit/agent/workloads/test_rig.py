"""The rig under a workload: swap of every kind, zswap and cgroup are set up, refused with reasons, and taken down."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fake_host import FakeProcess, ProcessKilled
from fake_kernel import DEVICE, FakeKernel
from fake_workers import FakeProgram

from agent.domain.errors import KernelWanting, RigError
from agent.domain.host.memory import MIB
from agent.domain.host.swap_counters import SwapCounters, parse_swap_counters
from agent.domain.orders.preflight import Needs
from agent.domain.orders.swap_source import Pressure, SourceKind, SwapSource
from agent.workloads.rig.rig import Rig
from agent.workloads.rig.swap_files import swap_file_path
from agent.workloads.rig.switching import make_swap_area, switch_swap_on
from agent.workloads.rig.undoing import sweep
from agent.workloads.rig.zswap import set_zswap

LIMIT = Pressure(memory_limit_bytes=64 * MIB)
SOURCES = {
    "block device, zswap": SwapSource(
        kind=SourceKind.BLOCK_DEVICE, path=DEVICE, zswap=True, zswap_compressor="lz4", zswap_max_pool_percent=35
    ),
    "brd": SwapSource(kind=SourceKind.BRD, size_bytes=256 * MIB),
    "zram": SwapSource(kind=SourceKind.ZRAM, size_bytes=256 * MIB, algorithm="lz4"),
    "loop": SwapSource(kind=SourceKind.LOOP, size_bytes=256 * MIB),
    "file": SwapSource(kind=SourceKind.FILE, size_bytes=256 * MIB),
}
sources = pytest.mark.parametrize("swap", SOURCES.values(), ids=SOURCES.keys())


def quiet(step: str) -> None:
    """Nobody looks."""


async def go(process: FakeProcess, swap: SwapSource) -> Rig:
    """Do what a workload does: set up, run one process, take down."""
    host = process.host()
    rig = Rig(host, swap=swap, pressure=LIMIT, needs=Needs(memory_bytes=128 * MIB))
    await rig.set_up(quiet)
    try:
        await host.workers.run(("true",), timeout_s=5)
    finally:
        await rig.take_down()
    return rig


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path)


@sources
async def test_everything_is_up_while_the_workload_runs_and_gone_afterwards(
    kernel: FakeKernel, swap: SwapSource
) -> None:
    process = FakeProcess(kernel)
    rig = Rig(process.host(), swap=swap, pressure=LIMIT, needs=Needs())
    await rig.set_up(quiet)
    assert kernel.swaps == (rig.device,)
    assert kernel.cgroup_limit_bytes == 64 * MIB
    zswap = kernel.sys / "module/zswap/parameters"
    state = tuple((zswap / name).read_text() for name in ("enabled", "compressor", "max_pool_percent"))
    assert state == (("Y", "lz4", "35") if swap.zswap else ("N", "lzo", "20"))
    evidence = rig.evidence()
    assert rig.device in evidence["proc_swaps"]
    assert evidence["cgroup_memory_max"] == str(64 * MIB)
    assert ("[lz4]" in evidence.get("zram_comp_algorithm", "")) is (swap.kind is SourceKind.ZRAM)
    await rig.take_down()
    assert kernel.is_pristine()
    assert process.noted() == ()


@sources
@pytest.mark.parametrize("mounts", ["the host's mounts", "mounts of its own"])
async def test_killed_at_any_checkpoint_the_next_start_sweeps(tmp_path: Path, swap: SwapSource, mounts: str) -> None:
    probe = FakeProcess(FakeKernel(tmp_path / "probe"))
    await go(probe, swap)
    assert probe.checkpoints >= 10
    for number in range(probe.checkpoints):
        kernel = FakeKernel(tmp_path / str(number))
        process = FakeProcess(kernel)
        process.kill_at = number
        with pytest.raises(ProcessKilled):
            await go(process, swap)
        if mounts == "mounts of its own":
            # As a service of systemd has them: names in them are shown without their folders when they are gone.
            kernel.forget_folders()
        successor = FakeProcess(kernel)
        await sweep(successor.host())
        assert kernel.is_pristine(), f"killed at checkpoint {number}"
        assert successor.noted() == ()


@sources
async def test_after_a_reboot_only_what_is_on_disk_is_left_to_remove(kernel: FakeKernel, swap: SwapSource) -> None:
    process = FakeProcess(kernel)
    rig = Rig(process.host(), swap=swap, pressure=LIMIT, needs=Needs())
    await rig.set_up(quiet)
    kernel.write_swaps(())
    successor = FakeProcess(kernel, boot_id="boot-2")
    await sweep(successor.host())
    assert not any(kernel.scratch.iterdir())
    assert not any(kernel.head())
    assert successor.commands == []
    assert successor.noted() == ()


async def test_a_zram_device_added_just_before_the_agent_died_is_found(kernel: FakeKernel) -> None:
    kernel.add_zram()
    kernel.give_device("/dev/zram0", MIB)
    (kernel.sys / "block/zram0/disksize").write_text(str(MIB))
    process = FakeProcess(kernel)
    process.missing.add("mkswap")
    host = process.host()
    with pytest.raises(RigError, match="mkswap is not installed"):
        await Rig(host, swap=SOURCES["zram"], needs=Needs()).set_up(quiet)
    assert [each.name for each in (kernel.sys / "block").glob("zram*")] == ["zram0"], "somebody else's stays"


@pytest.fixture
def bare(kernel: FakeKernel) -> FakeKernel:
    """A kernel that has zram and loop as modules, and neither loaded."""
    kernel.zram_is_module = kernel.loop_is_module = True
    shutil.rmtree(kernel.sys / "class/zram-control")
    return kernel


def modules(kernel: FakeKernel) -> set[str]:
    return {each.name for each in (kernel.sys / "module").iterdir()}


@pytest.mark.parametrize("kind", ["zram", "loop"])
async def test_modules_that_were_loaded_for_the_workload_are_unloaded_with_what_they_brought(
    bare: FakeKernel, kind: str
) -> None:
    process = FakeProcess(bare)
    before = modules(bare)
    rig = Rig(process.host(), swap=SOURCES[kind], needs=Needs())
    await rig.set_up(quiet)
    assert modules(bare) - before == ({"zram", "zsmalloc"} if kind == "zram" else {"loop"})
    await rig.take_down()
    assert modules(bare) == before
    assert process.noted() == ()


async def test_a_kernel_without_loop_is_told_apart_from_one_that_has_not_loaded_it(bare: FakeKernel) -> None:
    process = FakeProcess(bare)
    process.failing["modprobe"] = "modprobe: FATAL: Module loop not found"
    rig = Rig(process.host(), swap=SOURCES["loop"], needs=Needs())
    with pytest.raises(RigError, match=r"loop cannot be loaded .*no such module; use another swap"):
        await rig.set_up(quiet)
    await rig.take_down()
    assert not any(bare.scratch.iterdir())
    assert process.noted() == ()


@pytest.mark.parametrize("others", ["loaded before", "used since"])
async def test_a_module_that_others_have_is_left_to_them(bare: FakeKernel, others: str) -> None:
    if others == "loaded before":
        (bare.sys / "module/zsmalloc").mkdir()
    process = FakeProcess(bare)
    rig = Rig(process.host(), swap=SOURCES["zram"], needs=Needs())
    await rig.set_up(quiet)
    if others == "used since":
        bare.modules_in_use.add("zsmalloc")
    await rig.take_down()
    assert "zsmalloc" in modules(bare)
    assert "zram" not in modules(bare)
    assert process.noted() == ()


async def test_a_loop_device_is_detached_although_its_file_was_removed_meanwhile(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    rig = Rig(process.host(), swap=SOURCES["loop"], needs=Needs())
    await rig.set_up(quiet)
    (backing,) = (kernel.sys / "block").glob("loop*/loop/backing_file")
    kernel_says = backing.read_text()
    (kernel.scratch / Path(kernel_says).name).unlink()
    backing.write_text(f"{kernel_says} (deleted)\n")
    await rig.take_down()
    assert kernel.is_pristine()


async def test_swap_whose_device_is_gone_is_not_taken_for_switched_off(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    rig = Rig(process.host(), swap=SOURCES["block device, zswap"], needs=Needs())
    await rig.set_up(quiet)
    swaps = (kernel.proc / "swaps").read_text().replace(DEVICE, f"{DEVICE}\\040(deleted)")
    (kernel.proc / "swaps").write_text(swaps)
    process.failing["swapoff"] = f"swapoff: {DEVICE}: No such file or directory"
    with pytest.raises(RigError, match=f"{DEVICE} was removed while it was switched on.*restart the host"):
        await rig.take_down()
    assert process.noted(), "it is tried again"


async def test_where_none_can_be_added_an_idle_zram_device_is_taken_and_left_as_it_was(kernel: FakeKernel) -> None:
    kernel.add_zram()
    (kernel.sys / "class/zram-control/hot_add").unlink()
    process = FakeProcess(kernel)
    rig = Rig(process.host(), swap=SOURCES["zram"], needs=Needs())
    await rig.set_up(quiet)
    block = kernel.sys / "block/zram0"
    assert rig.device == "/dev/zram0"
    assert "[lz4]" in (block / "comp_algorithm").read_text()
    await rig.take_down()
    assert (block / "disksize").read_text() == "0"
    assert "[lzo-rle]" in (block / "comp_algorithm").read_text()


async def test_a_zram_device_in_use_is_never_taken(kernel: FakeKernel) -> None:
    kernel.add_zram()
    (kernel.sys / "block/zram0/disksize").write_text(str(MIB))
    (kernel.sys / "class/zram-control/hot_add").unlink()
    with pytest.raises(RigError, match="every zram device of this host is in use"):
        await Rig(FakeProcess(kernel).host(), swap=SOURCES["zram"], needs=Needs()).set_up(quiet)


async def test_an_unknown_algorithm_is_named_with_the_known_ones_and_nothing_is_left(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    with pytest.raises(RigError, match=r"cannot compress with 'zstd' here; it knows lzo \[lzo-rle\] lz4"):
        await go(process, replace(SOURCES["zram"], algorithm="zstd"))
    await sweep(process.host())
    assert kernel.is_pristine()


async def test_zswap_that_the_host_has_on_is_off_for_a_run_without_it(kernel: FakeKernel) -> None:
    enabled = kernel.sys / "module/zswap/parameters/enabled"
    enabled.write_text("Y")
    rig = Rig(FakeProcess(kernel).host(), swap=SOURCES["loop"], needs=Needs())
    await rig.set_up(quiet)
    assert enabled.read_text() == "N"
    await rig.take_down()
    assert enabled.read_text() == "Y"


async def test_a_file_of_that_name_which_nobody_noted_is_left_alone(kernel: FakeKernel) -> None:
    path = kernel.scratch / "kernroll-fake.swap"
    path.write_text("mine")
    process = FakeProcess(kernel)
    with pytest.raises(RigError, match="is there already, and this agent did not note it"):
        await go(process, SOURCES["file"])
    await sweep(process.host())
    assert path.read_text() == "mine"


async def test_a_full_disk_is_the_rig_and_leaves_nothing(kernel: FakeKernel) -> None:
    kernel.disk_full = True
    process = FakeProcess(kernel)
    for name in ("file", "loop"):
        with pytest.raises(RigError, match="No space left on device"):
            await go(process, SOURCES[name])
        await sweep(process.host())
        assert kernel.is_pristine()


async def test_a_file_system_that_cannot_hold_swap_is_the_rig_and_a_failing_device_is_the_kernel(
    kernel: FakeKernel,
) -> None:
    process = FakeProcess(kernel)
    process.failing["swapon"] = "swapon: swapon failed: Invalid argument"
    with pytest.raises(RigError, match="the file system there cannot hold swap"):
        await go(process, SOURCES["file"])
    with pytest.raises(KernelWanting, match="swapon /dev/loop0 failed"):
        await go(process, SOURCES["loop"])


async def test_inspecting_touches_nothing(kernel: FakeKernel) -> None:
    for swap in SOURCES.values():
        process = FakeProcess(kernel)
        inspection = Rig(process.host(), swap=swap, pressure=LIMIT, needs=Needs()).inspect("builds a kernel")
        assert inspection.refusals == ()
        assert inspection.touches[-1] == "builds a kernel"
        assert process.commands == []
        assert process.noted() == ()
        assert kernel.is_pristine()


async def test_counters_tell_what_was_swapped_between_two_readings(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    process.programs["worker"] = FakeProgram(swapped_in_pages=7, swapped_out_pages=11)
    host = process.host()
    rig = Rig(host, swap=SOURCES["loop"], needs=Needs())
    before = rig.counters()
    await host.workers.run(("worker",), timeout_s=5)
    assert rig.counters().since(before) == SwapCounters(swapped_in=7, swapped_out=11)


def test_zswaps_own_counts_are_added() -> None:
    counters = parse_swap_counters("nr_free 5\npswpin 1\npswpout 2\nzswpin 10\nzswpout 20\n")
    assert (counters.all_in, counters.all_out) == (11, 22)
    with pytest.raises(ValueError, match="built without swap"):
        parse_swap_counters("nr_free 5\n")


async def test_what_can_be_taken_down_is_taken_down_beside_what_cannot(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    host = process.host()
    rig = Rig(host, swap=SOURCES["loop"], pressure=LIMIT, needs=Needs())
    await rig.set_up(quiet)
    device = await make_swap_area(host, SOURCES["block device, zswap"])
    set_zswap(host, SOURCES["block device, zswap"])
    await switch_swap_on(host, device)
    # Swap on the loop device stays on, as when its last pages cannot be read.
    process.stubborn.add(rig.device)
    with pytest.raises(KernelWanting, match=f"swapoff {rig.device} left it switched on"):
        await sweep(host)
    assert kernel.swaps == (rig.device,)
    assert (kernel.sys / "module/zswap/parameters/enabled").read_text() == "N"
    assert kernel.cgroup_limit_bytes is None
    kept = {type(each.leftover).__name__ for each in process.noted()}
    assert {"SwapOn", "LoopDevice", "MadeFile"} <= kept, "nothing is taken from under swap that is on"
    process.stubborn.clear()
    await sweep(host)
    assert kernel.is_pristine()
    assert process.noted() == ()


async def test_swap_that_does_not_fit_into_memory_is_the_hosts_affair(kernel: FakeKernel) -> None:
    process = FakeProcess(kernel)
    rig = Rig(process.host(), swap=SOURCES["file"], pressure=LIMIT, needs=Needs())
    await rig.set_up(quiet)
    process.failing["swapoff"] = "swapoff: Cannot allocate memory"
    with pytest.raises(KernelWanting, match="left it switched on: swapoff: Cannot allocate memory"):
        await rig.take_down()
    kernel.total_bytes = 150 * MIB
    kernel.write_meminfo()
    with pytest.raises(RigError, match="does not fit into memory; end something"):
        await rig.take_down()


async def test_a_dry_run_says_what_it_would_change_and_what_is_in_its_way(bare: FakeKernel) -> None:
    (bare.sys / "module/zswap/parameters/enabled").write_text("Y")
    process = FakeProcess(bare)
    said = Rig(process.host(), swap=SOURCES["zram"], needs=Needs()).inspect()
    assert any("loads the module zram" in each and "unloads the module" in each for each in said.touches)
    assert any("switches zswap off, and back" in each for each in said.touches)
    bare.head()[1024:1028] = b"data"
    (bare.sys / "module/brd").mkdir(parents=True)
    process.missing.add("mkswap")
    block = Rig(process.host(), swap=SOURCES["block device, zswap"], needs=Needs()).inspect().refusals
    assert any("carries data" in each for each in block)
    assert any("mkswap is not installed" in each for each in block)
    assert any(
        "brd is loaded already" in each
        for each in Rig(process.host(), swap=SOURCES["brd"], needs=Needs()).inspect().refusals
    )


async def test_a_directory_is_called_as_the_kernel_calls_it(kernel: FakeKernel, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    swap = replace(SOURCES["file"], directory=str(tmp_path / "link"))
    assert swap_file_path(FakeProcess(kernel).host(), swap).parent == (tmp_path / "real").resolve()


async def test_a_device_that_may_not_be_opened_is_refused_with_the_reason(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FakeProcess, path: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(FakeProcess, "size_bytes", refuse)
    said = Rig(FakeProcess(kernel).host(), swap=SOURCES["block device, zswap"], needs=Needs()).inspect()
    assert f"{DEVICE} cannot be read: Operation not permitted" in said.refusals
