"""Kernels in rpm packages on a disk from which real GRUB 2.14 boots entries: stage, arm, boot, bless, fall back.

Rpm, its database and GRUB are Debian's; kernel-install stands in for Fedora's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bls_machine import BlsMachine, booting_bls_machine
from boot_machine import RUNNING
from crafted_rpms import rpm_kernel
from grub_disk import PARTITION_BYTES, boots, kernel, make_entries_disk, ram_disk
from rpm_machine import copied, install_rpm, put, refusal, settle_rpm

pytestmark = pytest.mark.e2e

# By their names: the first stands for the kernel that runs, wherever this test does.
OLD, PANICS, GOOD = RUNNING, "7.1.13-panics", "99.0.0-good"


@contextmanager
def machine(directory: Path, disk: Path) -> Iterator[BlsMachine]:
    """Yield a machine with one kernel, installed by rpm, up and pinned."""
    root = directory / "root"
    root.mkdir()
    make_entries_disk(disk)
    with booting_bls_machine(root, disk) as found:
        settle_rpm(found, directory, ram_disk(directory).read_bytes())
        install_rpm(found, rpm_kernel(directory / "old", OLD, image=kernel("7.0.13").image.read_bytes()).path)
        found.ask("pin")
        yield found


def booted(up: BlsMachine, disk: Path) -> list[str]:
    """Boot the machine's disk and return which kernels ran until it switched itself off."""
    up.let_go()
    ran = boots(disk, disk.with_suffix(".console"))
    up.take(disk, PARTITION_BYTES)
    up.reboot(clears=False)
    return ran


def stage(up: BlsMachine, directory: Path, release: str, image: bytes) -> None:
    """Install a kernel's package as the play does, and see that the default stays."""
    package = copied(up, rpm_kernel(directory / release, release, image=image).path)
    assert (refusal(up, f"keep([{OLD!r}])"), refusal(up, f"install([{package!r}], 60)")) == ("", "")
    state = up.ask("status")
    assert (state["default"], state["pinned"], state["next"]) == (up.entry_of(OLD), True, "")
    assert release in {one["release"] for one in state["entries"]}


def runs(up: BlsMachine, release: str) -> None:
    """Let the machine be one that runs a kernel, for kernroll-boot."""
    # A file for each: one that is mounted must not be replaced.
    put(up, f"/opt/osrelease-{release}", f"{release}\n".encode())
    done = up.run("mount", "--bind", f"{up.root}/opt/osrelease-{release}", f"{up.root}/proc/sys/kernel/osrelease")
    assert done.returncode == 0, done.stderr


def test_an_rpm_host_walks_from_staging_to_a_blessed_kernel_and_falls_back_from_one_that_panics(tmp_path: Path) -> None:
    disk, new = tmp_path / "disk", kernel("7.1.13")
    old, image = kernel("7.0.13").release, new.image.read_bytes()
    with machine(tmp_path, disk) as up:
        assert up.ask("rehearse")["next"] == up.entry_of(OLD)
        assert booted(up, disk) == [old]
        assert up.ask("rehearse")["rehearsal"]["passed_at"]
        # One that panics is left again, without anybody's help.
        put(up, "/opt/ram-disk", ram_disk(tmp_path, panics=True).read_bytes())
        stage(up, tmp_path, PANICS, image)
        up.ask("arm", PANICS)
        assert booted(up, disk) == [new.release, old]
        assert (up.ask("status")["next"], up.ask("status")["default"]) == ("", up.entry_of(OLD))
        # And one that does not is the default once it is blessed, and not before.
        put(up, "/opt/ram-disk", (tmp_path / "initrd-False").read_bytes())
        stage(up, tmp_path, GOOD, image)
        up.ask("arm", GOOD)
        assert booted(up, disk) == [new.release]
        runs(up, GOOD)
        assert up.ask("bless", GOOD)["default"] == up.entry_of(GOOD)
        assert booted(up, disk) == [new.release]
        # Back to the former one, and the other one's package is removed.
        assert up.ask("revert", OLD)["default"] == up.entry_of(OLD)
        assert booted(up, disk) == [old]
        runs(up, OLD)
        names = refusal(up, f"packages_of({PANICS!r})")
        assert refusal(up, f"remove({PANICS!r}, sorted({names}), 60)") == ""
        assert PANICS not in up.sh("ls /boot /boot/loader/entries; rpm --query --all")
        assert booted(up, disk) == [old]
