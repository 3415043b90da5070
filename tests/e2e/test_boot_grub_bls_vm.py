"""kernroll-boot on a disk from which real GRUB 2.14 boots entries, as Fedora's does: the armed one once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bls_machine import BlsMachine, booting_bls_machine
from boot_machine import RUNNING
from grub_disk import PARTITION_BYTES, boots, kernel, make_entries_disk, ram_disk

pytestmark = pytest.mark.e2e

# By their names: the first stands for the kernel that runs, wherever this test does.
OLD, NEW, NEWEST = RUNNING, "7.1.13-trial", "99.0.0-newest"


@contextmanager
def machine(directory: Path, disk: Path) -> Iterator[BlsMachine]:
    """Yield a machine with one kernel, up and pinned."""
    root = directory / "root"
    root.mkdir()
    make_entries_disk(disk)
    with booting_bls_machine(root, disk) as found:
        found.install(OLD, kernel("7.0.13").image, ram_disk(directory))
        found.ask("pin")
        yield found


def booted(up: BlsMachine, disk: Path) -> list[str]:
    """Boot the machine's disk and return which kernels ran until it switched itself off."""
    up.let_go()
    ran = boots(disk, disk.with_suffix(".console"))
    up.take(disk, PARTITION_BYTES)
    up.reboot(clears=False)
    return ran


def test_what_is_armed_runs_once_and_a_panic_comes_back_to_the_pinned_kernel(tmp_path: Path) -> None:
    disk, new = tmp_path / "disk", kernel("7.1.13")
    old = kernel("7.0.13").release
    with machine(tmp_path, disk) as up:
        # GRUB itself clears what was armed: that is what a rehearsal proves.
        assert up.ask("rehearse")["next"] == up.entry_of(OLD)
        assert booted(up, disk) == [old]
        assert up.ask("rehearse")["rehearsal"]["passed_at"]
        # Newer than what is pinned, so that GRUB puts them first.
        up.install(NEW, new.image, ram_disk(tmp_path, panics=True))
        up.install(NEWEST, new.image, tmp_path / "initrd-False")
        up.ask("arm", NEW)
        assert booted(up, disk) == [new.release, old]
        state = up.ask("status")
        assert (state["next"], state["default"]) == ("", up.entry_of(OLD))
        assert up.refusals() == {}
        assert booted(up, disk) == [old]
        # And one that does not panic runs once too.
        up.ask("arm", NEWEST)
        assert booted(up, disk) == [new.release]
        assert booted(up, disk) == [old]
