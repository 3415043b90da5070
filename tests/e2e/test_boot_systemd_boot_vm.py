"""kernroll-boot on a disk from which real systemd-boot boots real kernels: the armed one once, then the default."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from boot_machine import RUNNING
from grub_disk import kernel, ram_disk
from systemd_boot_disk import UefiDisk
from systemd_boot_machine import SystemdBootMachine, bare_machine

# Firmware without acceleration takes its time: half a minute a boot.
pytestmark = pytest.mark.e2e

# By their names: the first stands for the kernel that runs, wherever this test does.
OLD, NEW, NEWEST = RUNNING, "7.1.13-trial", "99.0.0-newest"
_ARGUMENTS = "console=ttyS0 panic=2 mitigations=off"


@contextmanager
def machine(directory: Path) -> Iterator[tuple[SystemdBootMachine, UefiDisk]]:
    """Yield a machine with systemd-boot on its disk and one kernel, up and pinned."""
    root = directory / "root"
    root.mkdir()
    with bare_machine(root, _ARGUMENTS) as up:
        disk = UefiDisk(up, directory)
        disk.install()
        up.sh("printf 'timeout 0\\n' > /efi/loader/loader.conf")
        up.install(OLD, kernel("7.0.13").image, ram_disk(directory))
        up.ask("pin")
        yield up, disk


def test_what_is_armed_runs_once_and_a_panic_comes_back_to_the_pinned_kernel(tmp_path: Path) -> None:
    new, old = kernel("7.1.13"), kernel("7.0.13").release
    with machine(tmp_path) as (up, disk):
        # systemd-boot itself clears what was armed: that is what a rehearsal proves.
        assert up.ask("rehearse")["next"] == up.entry_of(OLD)
        assert disk.boot() == [old]
        assert up.ask("rehearse")["rehearsal"]["passed_at"]
        # Newer than what is pinned, so that systemd-boot sorts them first; the trial counts its boots.
        up.install(NEWEST, new.image, tmp_path / "initrd-False")
        up.sh("echo 1 > /etc/kernel/tries")
        up.install(NEW, new.image, ram_disk(tmp_path, panics=True))
        up.ask("arm", NEW)
        assert disk.boot() == [new.release, old]
        state = up.ask("status")
        assert (state["next"], state["default"]) == ("", up.entry_of(OLD))
        assert up.refusals() == {}
        # It was counted, and is not tried again.
        assert f"kernroll-{NEW}+0-1.conf" in up.sh("ls /efi/loader/entries")
        assert "never marked good" in up.boot("arm", NEW).stderr
        assert disk.boot() == [old]
