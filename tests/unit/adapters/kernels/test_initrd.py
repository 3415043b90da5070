"""Kernels whose disk driver or root file system is a module get an initial RAM disk, and no others."""

import lzma
import subprocess
from pathlib import Path

from controller.adapters.kernels.initrd import build_initrd, modules_to_load, recipe
from controller.adapters.kernels.modules import index_modules

RELEASE = "7.1.0-mine"


def indexed(tmp_path: Path, *names: str) -> Path:
    built = tmp_path / "built" / RELEASE
    (built / "kernel").mkdir(parents=True)
    (built / "modules.order").write_text("".join(f"kernel/{name}\n" for name in names))
    (built / "modules.builtin").write_text("")
    for name in names:
        (built / "kernel" / name).write_bytes(b"no real module")
    tree = tmp_path / "tree"
    index_modules(built, RELEASE, tree)
    return tree


def test_nothing_is_loaded_where_the_drivers_are_built_in_or_not_there(tmp_path: Path) -> None:
    assert modules_to_load(indexed(tmp_path, "zram.ko"), RELEASE) == []


def test_the_disks_driver_comes_before_its_file_system(tmp_path: Path) -> None:
    tree = indexed(tmp_path, "ext4.ko", "nvme.ko", "virtio_pci.ko", "zram.ko")
    assert [path.name for path in modules_to_load(tree, RELEASE)] == ["nvme.ko", "ext4.ko", "virtio_pci.ko"]


def test_it_holds_the_modules_uncompressed_in_the_order_of_their_names(tmp_path: Path) -> None:
    busybox, tree, target = tmp_path / "busybox", tmp_path / "initrd", tmp_path / "initrd.cpio"
    busybox.write_bytes(b"program")
    load = [tmp_path / "nvme-core.ko.xz", tmp_path / "ext4.ko"]
    load[0].write_bytes(lzma.compress(b"compressed"))
    load[1].write_bytes(b"plain")
    tree.mkdir()
    build_initrd(load, busybox, tree, target)
    listed = subprocess.run(
        ["cpio", "-t", "--quiet"], input=target.read_bytes(), capture_output=True, check=True
    ).stdout.decode()
    assert {"init", "bin/busybox", "modules/00-nvme-core.ko", "modules/01-ext4.ko"} <= set(listed.split())
    assert (tree / "modules/00-nvme-core.ko").read_bytes() == b"compressed"
    assert (tree / "modules/01-ext4.ko").read_bytes() == b"plain"


def test_other_modules_make_another_ram_disk_and_none_make_none() -> None:
    assert recipe([]) == ""
    assert recipe([Path("nvme.ko")]) != recipe([Path("nvme.ko"), Path("ext4.ko")])
