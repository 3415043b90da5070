"""kernroll-boot on a machine whose GRUB can clear nothing: what boots once, the firmware boots; efibootmgr agrees."""

from collections.abc import Iterator

import pytest
from boot_machine import OTHER, RUNNING, programs
from firmware_machine import (
    GRUB,
    PARTITION,
    VARIABLES,
    FirmwareMachine,
    arguments,
    firmware_machine,
)

_COPIES = ["initrd-0.img", "kernel.efi"]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirmwareMachine]:
    with firmware_machine(tmp_path_factory.mktemp("machine")) as made:
        made.keep()
        made.prove()
        made.keep("proven")
        yield made


@pytest.fixture
def machine(one: FirmwareMachine) -> FirmwareMachine:
    one.restore()
    return one


@pytest.fixture
def pinned(one: FirmwareMachine) -> FirmwareMachine:
    one.restore("proven")
    return one


def test_a_host_that_comes_back_by_its_firmware_is_not_refused(pinned: FirmwareMachine) -> None:
    assert pinned.refusals() == {}
    state = pinned.ask("status")
    assert (state["loader"], state["one_shot"], state["next"]) == ("grub", "firmware", "")
    assert state["rehearsal"]["boots_by"].endswith("which boots once")
    assert "by the firmware (BootNext)" in pinned.boot("status").stdout


def test_an_armed_kernel_is_the_firmwares_next_and_the_default_stays(pinned: FirmwareMachine) -> None:
    state = pinned.ask("arm", OTHER)
    assert (state["next"], state["default"]) == (pinned.entry_of(OTHER), pinned.entry_of(RUNNING))
    assert "next_entry" not in pinned.environment()
    assert pinned.ask("recheck")["next"] == pinned.entry_of(OTHER)
    assert pinned.copies() == _COPIES
    pinned.sh(f"cmp /efi/EFI/kernroll/kernel.efi /boot/vmlinuz-{OTHER}")
    # Another program's reading of it: the number that was free, not in the order, and not active.
    told = pinned.tool("efibootmgr", "--verbose")
    assert "BootNext: 0000" in told
    assert "BootOrder: 0001,0002" in told
    line = next(one for one in told.splitlines() if one.startswith("Boot0000 "))
    assert line.startswith("Boot0000  kernroll trial\t")
    assert f"HD(1,GPT,{PARTITION.uuid},0x800,0x32000)/File(\\EFI\\kernroll\\kernel.efi)" in line
    words = arguments(pinned.variables()["Boot0000"]).split()
    assert {"root=/dev/vg0/root", "panic=10", r"initrd=\EFI\kernroll\initrd-0.img"} <= set(words)
    assert pinned.ask("disarm")["next"] == ""
    assert (pinned.own(), pinned.copies(), "BootNext" in pinned.variables()) == ([], [], False)
    # Nothing is armed already.
    assert pinned.ask("disarm")["next"] == ""


def test_a_trial_that_runs_is_blessed_and_leaves_nothing_behind(pinned: FirmwareMachine) -> None:
    pinned.ask("arm", RUNNING)
    pinned.reboot()
    assert pinned.ask("status")["next"] == ""
    assert pinned.own() == [0]
    assert pinned.ask("bless", RUNNING)["default"] == pinned.entry_of(RUNNING)
    assert (pinned.own(), pinned.copies()) == ([], [])
    # It was booted by an entry that is gone, and the host is as good as it was.
    assert pinned.refusals() == {}
    assert pinned.ask("arm", OTHER)["next"] == pinned.entry_of(OTHER)


def test_a_trial_that_panicked_leaves_nothing_behind_once_the_default_is_back(pinned: FirmwareMachine) -> None:
    pinned.ask("arm", OTHER)
    pinned.ask("reboot")
    pinned.reboot()
    pinned.reboot()
    pinned.boot("guard")
    assert (pinned.own(), pinned.copies()) == ([], [])
    assert pinned.ask("status")["boots"][-1]["cause"] == "fallback"


def test_a_rehearsal_that_waits_for_its_boot_is_left_alone(machine: FirmwareMachine) -> None:
    machine.ask("pin")
    machine.ask("rehearse")
    machine.boot("guard")
    assert machine.ask("status")["next"] == machine.entry_of(RUNNING)
    machine.reboot()
    machine.boot("guard")
    assert machine.ask("status")["rehearsal"]["passed_at"]
    assert (machine.own(), machine.copies()) == ([], [])


def test_a_firmware_that_ignores_what_boots_once_is_found_out(machine: FirmwareMachine) -> None:
    machine.ask("pin")
    machine.ask("rehearse")
    machine.ignores()
    assert "the loader says that it booted Boot0001 (debian)" in machine.boot("rehearse").stderr
    assert "the rehearsal failed" in machine.boot("arm", OTHER).stderr


def test_a_firmware_that_never_forgets_what_boots_once_is_found_out(machine: FirmwareMachine) -> None:
    machine.ask("pin")
    machine.ask("rehearse")
    machine.reboot(clears=False)
    assert "did not clear what was armed for one boot" in machine.boot("rehearse").stderr
    assert "BootNext" not in machine.variables()


def test_what_was_proven_of_grub_counts_not_for_the_firmware(pinned: FirmwareMachine) -> None:
    pinned.sh("rm /etc/grub-probe.abstraction")
    assert pinned.ask("status")["one_shot"] == "loader"
    assert "rehearse again" in pinned.boot("arm", OTHER).stderr


def test_another_grub_on_the_partition_makes_the_proof_void(pinned: FirmwareMachine) -> None:
    pinned.sh("echo more >> /efi/EFI/debian/grubx64.efi")
    assert "rehearse again" in pinned.boot("arm", OTHER).stderr


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (f"rm {VARIABLES}/BootNext-*", f"{OTHER} was armed, and nothing is now"),
        ("efibootmgr --bootnext 0002", "Boot0002 (Shell), set by somebody else is now"),
        ("efibootmgr --delete-bootnum --bootnum 0000", "Boot0000 (which is not there), which is not as it was written"),
        ("efibootmgr --bootorder 0000,0001", "which somebody put into the firmware's order"),
        ("echo more >> /efi/EFI/kernroll/initrd-0.img", "/efi/EFI/kernroll/initrd-0.img is not as it was written"),
        ("grub-editenv /boot/grub/grubenv set next_entry=1", "it would boot again and again"),
    ],
)
def test_a_change_takes_back_what_the_firmware_would_boot(pinned: FirmwareMachine, script: str, told: str) -> None:
    pinned.ask("arm", OTHER)
    pinned.sh(script)
    done = pinned.boot("recheck")
    assert told in done.stderr
    assert done.returncode == 0
    found = pinned.variables()
    # What somebody else wants to boot once is theirs.
    assert found.get("BootNext", b"")[4:] == (b"\2\0" if "--bootnext" in script else b"")
    assert (pinned.own(), pinned.copies()) == ([], [])
    assert "next_entry" not in pinned.environment()


def test_what_somebody_else_wants_to_boot_once_is_told_and_left(pinned: FirmwareMachine) -> None:
    pinned.tool("efibootmgr", "--bootnext", "0002")
    assert set(pinned.refusals()) == {"next-of-another"}
    assert pinned.ask("status")["next"] == "Boot0002 (Shell), set by somebody else"
    assert "BootNext names Boot0002 (Shell)" in pinned.boot("arm", OTHER).stderr
    pinned.ask("disarm")
    assert pinned.variables()["BootNext"][4:] == b"\2\0"


# --- what is refused: each host is made for it ---


def test_a_firmware_that_verifies_is_refused(pinned: FirmwareMachine) -> None:
    pinned.set_variable("SecureBoot", b"\1", 6)
    found = pinned.refusals()
    assert "signed for shim" in found["firmware-verifies"]
    assert "plain" in found["firmware-verifies"] or "of its own" in found["firmware-verifies"]
    assert pinned.boot("arm", OTHER).returncode == 1
    assert "BootNext" not in pinned.variables()


def test_of_several_partitions_that_which_booted_the_host_is_taken(pinned: FirmwareMachine) -> None:
    other = "99999999-0000-4000-8000-000000000002"
    pinned.mounted(("/boot/efi", other), ("/efi", PARTITION.uuid))
    assert pinned.refusals() == {}
    pinned.ask("arm", OTHER)
    assert pinned.copies() == _COPIES
    pinned.ask("disarm")
    pinned.set_variable(f"Boot{GRUB:04X}", b"\1\0\0\0\4\0" + "disk\0".encode("utf-16-le") + b"\x7f\xff\4\0")
    assert "/boot/efi, /efi are EFI system partitions" in pinned.refusals()["esp-unusable"]


def test_a_partition_without_room_is_refused(pinned: FirmwareMachine) -> None:
    pinned.sh(f"dd if=/dev/zero bs=1M count=3 status=none >> /boot/initrd.img-{OTHER}")
    pinned.run("mount", "-t", "tmpfs", "-o", "size=10m", "esp", f"{pinned.root}/efi")
    fill = "dd if=/dev/zero of=/efi/more bs=64k status=none 2>/dev/null || true"
    pinned.sh(f"cp -a /proven/efi/. /efi/; {fill}; truncate -s -3M /efi/more")
    assert "/efi has 3 MiB left, and 5 MiB are needed" in pinned.boot("arm", OTHER).stderr
    assert (pinned.own(), "BootNext" in pinned.variables()) == ([], False)
    pinned.sh(fill)
    assert "the firmware starts a kernel for one boot" in pinned.refusals()["no-room-on-esp"]
    pinned.run("umount", f"{pinned.root}/efi")


def test_a_memory_that_takes_nothing_is_told_and_nothing_is_armed(pinned: FirmwareMachine) -> None:
    # As a firmware whose memory is full: what is there is read, and nothing can be added.
    pinned.run("mount", "-t", "tmpfs", "-o", "size=32k,nr_inodes=6", "efi", f"{pinned.root}{VARIABLES}")
    pinned.sh(f"cp -a /proven{VARIABLES}/. {VARIABLES}/; touch {VARIABLES}/last")
    done = pinned.boot("arm", OTHER)
    assert done.returncode == 1
    assert "its memory may be full" in done.stderr
    assert pinned.ask("status")["next"] == ""
    pinned.run("umount", f"{pinned.root}{VARIABLES}")


def test_a_kernel_that_the_firmware_cannot_start_is_not_armed(pinned: FirmwareMachine) -> None:
    pinned.sh(f"printf 'MZ' > /boot/vmlinuz-{OTHER}")
    assert "the firmware cannot start" in pinned.boot("arm", OTHER).stderr
    pinned.put_kernel(OTHER)
    pinned.sh(f"echo '# CONFIG_EFI_GENERIC_STUB_INITRD_CMDLINE_LOADER is not set' > /boot/config-{OTHER}")
    assert "takes no initial RAM disk from the firmware" in pinned.boot("arm", OTHER).stderr


def test_grub_reads_from_btrfs_what_was_pinned_although_it_reads_no_log(machine: FirmwareMachine) -> None:
    """A file that was synced lies in the log of btrfs, and is nothing to GRUB before the file system commits."""
    tree = programs("btrfs-progs", "btrfs-progs")
    maker = next(one for one in tree.glob("**/mkfs.btrfs") if one.is_file())
    machine.sh("rm /etc/grub-probe.abstraction; echo btrfs > /etc/grub-probe.fs; truncate -s 128M /boot.img")
    disk = f"{machine.root}/boot.img"
    for command in ([str(maker), "--quiet", disk], ["mount", "-o", "loop", disk, f"{machine.root}/boot"]):
        done = machine.run(*command)
        assert done.returncode == 0, done.stderr
    machine.sh("cp -a /kept/boot/. /boot/; sync --file-system /boot")
    machine.ask("pin")
    # As it would be found after a power failure.
    machine.sh("cp /boot.img /snapshot.img")
    read = machine.tool("grub-fstest", "/snapshot.img", "cat", "(loop0)/grub/grubenv")
    assert f"saved_entry={machine.entry_of(RUNNING)}" in read
    assert "${saved_entry}" in machine.tool("grub-fstest", "/snapshot.img", "cat", "(loop0)/grub/grub.cfg")
    machine.run("umount", f"{machine.root}/boot")
