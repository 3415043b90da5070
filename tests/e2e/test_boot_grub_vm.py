"""kernroll-boot on a disk from which real GRUB boots real kernels: what is armed runs once, then the default."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from grub_disk import PARTITION_BYTES, boots, kernel, make_disk, ram_disk
from grub_machine import RUNNING, GrubMachine, bare_machine

pytestmark = pytest.mark.vm

# By their names in /boot: the first stands for the kernel that runs, wherever this test does.
OLD, NEW, NEWEST = RUNNING, "7.1.13-trial", "99.0.0-newest"
_GRUB = """\
GRUB_TIMEOUT=0
GRUB_TERMINAL=serial
GRUB_CMDLINE_LINUX="console=ttyS0 panic=2 mitigations=off"
"""


@contextmanager
def machine(directory: Path, disk: Path) -> Iterator[GrubMachine]:
    """Yield the machine while it is up, and switch it off."""
    root = directory / "root"
    root.mkdir(exist_ok=True)
    with bare_machine(root, disk, PARTITION_BYTES) as found:
        found.sh(f"cat > /etc/default/grub <<'END'\n{_GRUB}END")
        yield found
        found.switch_off()


def test_what_is_armed_runs_once_and_a_panic_comes_back_to_the_pinned_kernel(tmp_path: Path) -> None:
    disk, console = tmp_path / "disk", tmp_path / "console"
    old, new = kernel("7.0.13"), kernel("7.1.13")
    good, bad = ram_disk(tmp_path), ram_disk(tmp_path, panics=True)
    make_disk(disk)
    with machine(tmp_path, disk) as up:
        up.sh("cp -r /usr/lib/grub/i386-pc /boot/grub/; grub-editenv /boot/grub/grubenv create")
        up.install(OLD, old.image, good)
        up.ask("pin")
        # Newer than what is pinned, and named so that GRUB puts it first.
        up.install(NEW, new.image, bad)
        up.install(NEWEST, new.image, good)
        up.ask("arm", NEW)
    assert boots(disk, console) == [new.release, old.release]
    with machine(tmp_path, disk) as up:
        state = up.ask("status")
        assert (state["next"], state["default"]) == ("", up.entry_of(OLD))
        assert up.refusals() == {}
    assert boots(disk, console) == [old.release]
