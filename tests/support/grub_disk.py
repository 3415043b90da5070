"""A disk with GRUB on it, and machines that boot from it: real GRUB, real kernels, and a first process that says which.

The first process is the whole system: it writes the kernel's release to the console and switches the machine off, or
lets the kernel panic where its RAM disk says so.
"""

import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from grub_machine import grub_tree

from controller.adapters.kernels.debian import unpack
from controller.adapters.kernels.debian.suites import guest_packages
from controller.adapters.kernels.initrd import fetch_busybox
from controller.adapters.local.cache import Cache, no_progress, request_key
from controller.adapters.local.tools import run_tool
from controller.lab.bytecode import merge_usr
from controller.lab.toolset import prepare_toolset

PARTITION_BYTES = 1 << 20
_DISK_BYTES = 192 << 20
_SECTOR_BYTES = 512
# Of a master boot record: what boots, and before the table of partitions.
_CODE_BYTES = 440
_TABLE_AT = 446
_MODULES = "biosdisk part_msdos ext2 normal linux loadenv search search_fs_uuid test echo configfile serial terminal"
_MAKER = "usr/bin/grub-mkimage"
_NEXT_RELEASE = "forky"
_TIMEOUT_S = 300.0
_BOOT_TIMEOUT_S = 900.0
_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox echo "TOLD $(/bin/busybox cat /proc/cmdline)" > /dev/console
/bin/busybox echo "RUNS $(/bin/busybox uname -r)" > /dev/console
[ ! -e /panics ] || /bin/busybox echo c > /proc/sysrq-trigger
/bin/busybox poweroff -f
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel as its package has it."""

    release: str
    image: Path


def kernel(version: str) -> Kernel:
    """Return Debian's cloud kernel of this version, from the cache or the mirror."""
    cache = Cache.from_environment()
    packages = guest_packages(cache)
    release = f"{version}+deb13-cloud-amd64"
    wanted = packages.versions(f"linux-(binary|image)-{re.escape(release)}", "amd64", no_progress)
    archives = packages.exact(wanted, "amd64", no_progress)

    def build(directory: Path) -> None:
        unpack(packages.fetch(archives, no_progress, label=release), directory, no_progress, label=release)

    unpacked = cache.publish(f"grub/{release}-{archives[0].sha256[:8]}", build)
    return Kernel(release=release, image=unpacked / "boot" / f"vmlinuz-{release}")


def ram_disk(directory: Path, *, panics: bool = False) -> Path:
    """Write the initial RAM disk that says which kernel runs."""
    tree, target = directory / f"tree-{panics}", directory / f"initrd-{panics}"
    (tree / "bin").mkdir(parents=True)
    for name in ("dev", "proc"):
        (tree / name).mkdir()
    packages = guest_packages(Cache.from_environment())
    busybox = fetch_busybox("x86_64", packages, directory / f"busybox-{panics}", no_progress)
    (tree / "bin" / "busybox").write_bytes(busybox.read_bytes())
    (tree / "init").write_text(_INIT)
    for name in ("bin/busybox", "init"):
        (tree / name).chmod(0o755)
    if panics:
        (tree / "panics").touch()
    names = "\n".join(sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*"))) + "\n"
    pack = ["cpio", "--create", "--format=newc", "--quiet"]
    target.write_bytes(run_tool(pack, timeout_s=_TIMEOUT_S, what="Packing", stdin=names.encode(), directory=tree))
    return target


def make_disk(path: Path) -> None:
    """Write a disk with one partition, which is /boot, and GRUB's own first stages as grub-install leaves them."""
    tree = grub_tree()
    libraries = {"LD_LIBRARY_PATH": ":".join(str(one) for one in tree.glob("**/lib/*-linux-gnu"))}
    _write_disk(path, tree, [tree / _MAKER], libraries, place="/grub", modules=_MODULES)


def make_entries_disk(path: Path) -> None:
    """Write the same with GRUB 2.14 of Debian's next release, which boots entries, and its files in /boot/grub2."""
    cache = Cache.from_environment()
    packages = replace(guest_packages(cache), suites=(_NEXT_RELEASE,))
    archives = packages.closure(["grub-common", "grub-pc-bin", "libc6"], "amd64", no_progress)

    def build(directory: Path) -> None:
        merge_usr(directory)
        unpack(packages.fetch(archives, no_progress, label="GRUB 2.14"), directory, no_progress, label="GRUB 2.14")

    tree = cache.publish("grub/entries-" + request_key({"files": sorted(one.sha256 for one in archives)}), build)
    # It wants a newer C library than this machine may have.
    loader = [tree / "usr/lib64/ld-linux-x86-64.so.2", "--library-path", tree / "usr/lib/x86_64-linux-gnu"]
    _write_disk(path, tree, [*loader, tree / _MAKER], {}, place="/grub2", modules=f"{_MODULES} blsuki")


def _write_disk(
    path: Path, tree: Path, maker: list[str | Path], environment: dict[str, str], *, place: str, modules: str
) -> None:
    parts, core = tree / "usr/lib/grub/i386-pc", path.with_suffix(".core")
    command = [*maker, "-d", parts, "-O", "i386-pc", "-p", f"(hd0,msdos1){place}", "-o", core, *modules.split()]
    run_tool(command, timeout_s=_TIMEOUT_S, what="Making GRUB's image", environment=environment)
    assert core.stat().st_size < PARTITION_BYTES - _SECTOR_BYTES, "the gap before the partition is too small for GRUB"
    with path.open("wb") as disk:
        disk.truncate(_DISK_BYTES)
        disk.write((parts / "boot.img").read_bytes()[:_CODE_BYTES])
        disk.seek(_TABLE_AT)
        first, count = PARTITION_BYTES // _SECTOR_BYTES, (_DISK_BYTES - PARTITION_BYTES) // _SECTOR_BYTES
        disk.write(struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", first, count))
        disk.seek(_SECTOR_BYTES - 2)
        disk.write(b"\x55\xaa")
        disk.write(core.read_bytes())
    uuid = "2f1b6c4e-0000-4000-8000-000000000001"
    size_kib = (_DISK_BYTES - PARTITION_BYTES) // 1024
    make = ["mke2fs", "-q", "-F", "-t", "ext4", "-U", uuid, "-E", f"offset={PARTITION_BYTES}", path, f"{size_kib}k"]
    run_tool(make, timeout_s=_TIMEOUT_S, what="Making /boot")


def boots(disk: Path, console: Path) -> list[str]:
    """Let a machine boot from the disk, and return the releases that ran until it switched itself off."""
    return switch_on([f"file={disk},format=raw,if=ide"], console)


def switch_on(drives: list[str], console: Path) -> list[str]:
    """Switch a machine with these drives on, and return the releases that ran until it switched itself off."""
    tool = prepare_toolset(Cache.from_environment()).qemu("x86_64")
    machine = ["-machine", "pc", "-accel", "tcg", "-m", "512", "-display", "none", "-nodefaults"]
    drive = [*(word for one in drives for word in ("-drive", one)), "-serial", f"file:{console}"]
    console.unlink(missing_ok=True)
    command = [tool.binary, *tool.arguments, *machine, *drive]
    run_tool(command, timeout_s=_BOOT_TIMEOUT_S, what="Booting", environment=tool.environment)
    return re.findall(r"RUNS (\S+)", console.read_text(errors="replace"))
