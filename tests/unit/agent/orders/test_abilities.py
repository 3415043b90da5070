"""A dry run asks kernel and file system for what the run will need of them, and touches nothing."""

import shutil
from pathlib import Path

import pytest
from fake_host import FakeProcess
from fake_kernel import RELEASE, FakeKernel

from agent.domain.host.memory import MIB
from agent.domain.host.mounts import mount_of, parse_mounts, swap_file_problem
from agent.domain.orders.preflight import Needs
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.workloads.rig.rig import Rig

MOUNTS = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:26 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=400k
31 22 0:27 / /tmp rw - tmpfs tmpfs rw
32 22 0:28 / /data rw - btrfs /dev/vdb rw,subvol=/
33 22 0:29 / /home\\040of rw master:2 shared:3 - fuse.sshfs host:/ rw
34 22 0:30 / /live rw - overlay overlay rw,lowerdir=/rom,upperdir=/run/upper,workdir=/run/work
35 22 0:31 / /over rw - overlay overlay rw,lowerdir=/rom,upperdir=/var/upper,workdir=/var/work
36 31 254:2 / /tmp/disk rw - xfs /dev/vdc rw
37 22 254:3 / /twice rw - ext4 /dev/vdd rw
38 37 0:40 / /twice rw - ramfs none rw
not a mount
"""


@pytest.mark.parametrize(
    ("path", "sparse", "said"),
    [
        ("/var/lib/kernroll/scratch", False, ""),
        ("/tmp/disk/x", False, ""),
        ("/tmp/x", False, "/tmp/x lies on tmpfs, which is in memory"),
        ("/tmp", True, "/tmp lies on tmpfs, which is in memory"),
        ("/twice", True, "/twice lies on ramfs, which is in memory"),
        ("/live/x", True, "/live/x lies on overlay over tmpfs, which is in memory"),
        ("/over/x", False, "/over/x lies on overlay, whose files the kernel does not take"),
        ("/over/x", True, ""),
        ("/data", False, "/data lies on btrfs, whose files the kernel does not take for swap as they are made here"),
        ("/data", True, ""),
        ("/home of/x", False, "/home of/x lies on fuse.sshfs, whose files"),
        ("/tmpx", False, ""),
    ],
)
def test_where_swap_can_lie(path: str, sparse: bool, said: str) -> None:
    problem = swap_file_problem(path, parse_mounts(MOUNTS), sparse=sparse)
    assert problem.startswith(said)
    assert bool(problem) == bool(said)


def test_of_an_unknown_place_nothing_is_said() -> None:
    assert mount_of("/x", ()) is None
    assert swap_file_problem("/x", (), sparse=False) == ""


BRD, ZRAM, LOOP, FILE = (
    SwapSource(kind=kind, size_bytes=256 * MIB)
    for kind in (SourceKind.BRD, SourceKind.ZRAM, SourceKind.LOOP, SourceKind.FILE)
)


def refusals(process: FakeProcess, swap: SwapSource, *, idle: bool = False) -> str:
    found = Rig(process.host(), swap=swap, needs=Needs(alone=not idle)).inspect().refusals
    assert (process.commands, process.noted()) == ([], ())
    return "; ".join(found)


@pytest.fixture
def process(tmp_path: Path) -> FakeProcess:
    kernel = FakeKernel(tmp_path)
    shutil.rmtree(kernel.sys / "class/zram-control")
    shutil.rmtree(kernel.sys / "module/loop", ignore_errors=True)
    return FakeProcess(kernel)


@pytest.mark.parametrize("swap", [BRD, ZRAM, LOOP], ids=lambda swap: str(swap.kind))
def test_a_module_that_this_kernel_does_not_have_is_told(process: FakeProcess, swap: SwapSource) -> None:
    kernel = process.kernel
    folder = kernel.root / "modules" / RELEASE
    assert refusals(process, swap) == ""
    (folder / "modules.dep").write_text("kernel/fs/ext4.ko.zst: kernel/lib/zram-helper.ko\n")
    assert f"this kernel has no module {swap.kind} (looked for it in {folder})" in refusals(process, swap)
    (folder / "modules.builtin").write_text(f"kernel/drivers/block/{swap.kind}.ko\n")
    assert refusals(process, swap) == ""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert "this kernel has no module" in refusals(process, swap)
    assert refusals(process, FILE) == ""


def test_a_host_that_loads_no_modules_is_told_unless_they_are_there(process: FakeProcess) -> None:
    kernel = process.kernel
    (kernel.proc / "sys/kernel").mkdir(parents=True, exist_ok=True)
    (kernel.proc / "sys/kernel/modules_disabled").write_text("1\n")
    assert "this host loads no modules any more" in refusals(process, ZRAM)
    (kernel.sys / "class/zram-control").mkdir(parents=True)
    assert refusals(process, ZRAM) == ""
    process.missing.add("modprobe")
    assert "modprobe is not installed" in refusals(process, LOOP)


@pytest.mark.parametrize(
    ("told", "algorithm", "said"),
    [
        ("lzo [lzo-rle] lz4", "lz4", ""),
        ("lzo [lzo-rle] lz4", "lzo-rle", ""),
        ("lzo [lzo-rle] lz4", "zstd", "zram cannot compress with 'zstd' here; it knows lzo lzo-rle lz4"),
        ("", "zstd", ""),
        ("", "snappy", "zram cannot compress with 'snappy' here; it knows 842 deflate"),
    ],
)
def test_an_algorithm_that_zram_does_not_know_is_told(
    process: FakeProcess, told: str, algorithm: str, said: str
) -> None:
    if told:
        block = process.kernel.sys / "block/zram0"
        block.mkdir(parents=True)
        (block / "comp_algorithm").write_text(told)
        (block / "disksize").write_text("0")
    swap = SwapSource(kind=SourceKind.ZRAM, size_bytes=256 * MIB, algorithm=algorithm)
    assert said in refusals(process, swap)
    assert bool(refusals(process, swap)) == bool(said)


@pytest.mark.parametrize(("name", "known"), [("lz4", True), ("zstd", True), ("lzo-rle", True), ("snappy", False)])
def test_a_compressor_that_zswap_cannot_have_is_told(process: FakeProcess, name: str, known: bool) -> None:
    (process.kernel.proc / "crypto").write_text("name         : lz4\ndriver       : lz4-scomp\n")
    folder = process.kernel.root / "modules" / RELEASE
    (folder / "modules.dep").write_text(
        "kernel/drivers/block/loop.ko:\nkernel/crypto/zstd.ko.xz:\nkernel/crypto/lzo-rle.ko:\n"
    )
    swap = SwapSource(kind=SourceKind.LOOP, size_bytes=256 * MIB, zswap=True, zswap_compressor=name)
    assert ("zswap cannot compress with" in refusals(process, swap)) is not known


@pytest.mark.parametrize(
    ("swap", "idle", "said"),
    [
        (FILE, False, "in memory"),
        (FILE, True, "in memory"),
        (LOOP, False, "in memory"),
        (LOOP, True, ""),
        (ZRAM, False, ""),
    ],
)
def test_a_memory_file_system_is_no_home_for_what_is_swapped(
    process: FakeProcess, swap: SwapSource, idle: bool, said: str
) -> None:
    (process.kernel.proc / "self").mkdir()
    (process.kernel.proc / "self/mountinfo").write_text("1 0 0:1 / / rw - tmpfs tmpfs rw\n")
    found = refusals(process, swap, idle=idle)
    assert said in found
    assert bool(found) == bool(said)
