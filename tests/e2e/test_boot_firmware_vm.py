"""kernroll-boot where GRUB can clear nothing: real firmware boots the armed kernel once, then GRUB its default."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from boot_machine import RUNNING
from firmware_disk import FirmwareDisks
from firmware_machine import FirmwareMachine, bare_machine
from grub_disk import kernel, ram_disk

# Firmware without acceleration takes its time: half a minute a boot.
pytestmark = pytest.mark.e2e

# By their names in /boot: the first stands for the kernel that runs, wherever this test does.
OLD, NEW, NEWEST = RUNNING, "7.1.13-trial", "99.0.0-newest"
_GRUB = """\
GRUB_TIMEOUT=0
GRUB_TERMINAL=serial
GRUB_CMDLINE_LINUX="console=ttyS0 panic=2 mitigations=off"
"""


@contextmanager
def machine(directory: Path) -> Iterator[tuple[FirmwareMachine, FirmwareDisks]]:
    """Yield a machine whose /boot is a logical volume, with one kernel, up and pinned."""
    root = directory / "root"
    root.mkdir()
    with bare_machine(root) as up:
        disks = FirmwareDisks(up, directory)
        up.sh(f"cat > /etc/default/grub <<'END'\n{_GRUB}END")
        disks.install()
        up.install(OLD, kernel("7.0.13").image, ram_disk(directory))
        up.ask("pin")
        yield up, disks


def test_the_firmware_boots_what_is_armed_once_where_grub_could_not_forget_it(tmp_path: Path) -> None:
    new, old = kernel("7.1.13"), kernel("7.0.13").release
    with machine(tmp_path) as (up, disks):
        # The firmware itself clears what was armed, and starts the kernel with its command line and RAM disk.
        assert up.ask("rehearse")["next"] == up.entry_of(OLD)
        assert disks.boot() == [old]
        assert up.ask("status")["booted"] == up.entry_of(OLD)
        assert up.ask("rehearse")["rehearsal"]["passed_at"]
        assert (up.own(), up.copies()) == ([], [])
        # Newer than what is pinned, so that GRUB puts them first.
        up.install(NEW, new.image, ram_disk(tmp_path, panics=True))
        up.install(NEWEST, new.image, tmp_path / "initrd-False")
        up.ask("arm", NEW)
        assert disks.boot() == [new.release, old]
        state = up.ask("status")
        assert (state["next"], state["default"]) == ("", up.entry_of(OLD))
        assert up.refusals() == {}
        up.boot("guard")
        assert (up.own(), up.copies()) == ([], [])
        assert disks.boot() == [old]
        # And a kernel that works: once, however often the machine is switched on.
        up.ask("arm", NEWEST)
        assert disks.boot() == [new.release]
        assert disks.boot() == [old]
        # Left to GRUB alone, it would have stayed armed for ever.
        up.set(f"next_entry={up.entry_of(NEWEST)}")
        assert disks.boot() == [new.release]
        assert up.environment()["next_entry"] == up.entry_of(NEWEST)
