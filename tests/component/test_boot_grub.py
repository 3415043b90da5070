"""kernroll-boot on a machine that boots by GRUB: what it says is so, by GRUB's own tools, and it is not told twice."""

import json
import sys
from collections.abc import Iterator

import pytest
from boot_machine import OTHER, RUNNING
from grub_machine import GrubMachine, grub_machine

NEWEST = "99.1.0-amd64"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrubMachine]:
    with grub_machine(tmp_path_factory.mktemp("machine")) as made:
        made.keep()
        made.prove()
        made.keep("proven")
        yield made


@pytest.fixture
def machine(one: GrubMachine) -> GrubMachine:
    one.restore()
    return one


@pytest.fixture
def pinned(one: GrubMachine) -> GrubMachine:
    one.restore("proven")
    return one


def test_a_stock_debian_boots_whatever_is_newest_until_it_is_pinned(machine: GrubMachine) -> None:
    before = machine.ask("status")
    assert (before["loader"], before["next"], before["pinned"]) == ("grub", "", False)
    after = machine.ask("pin")
    assert (after["default"], after["pinned"]) == (machine.entry_of(RUNNING), True)
    assert machine.environment()["saved_entry"] == machine.entry_of(RUNNING)
    machine.install(NEWEST)
    assert machine.ask("status")["default"] == machine.entry_of(RUNNING)


def test_an_armed_kernel_is_the_next_and_the_default_stays(pinned: GrubMachine) -> None:
    state = pinned.ask("arm", OTHER)
    assert (state["next"], state["default"]) == (pinned.entry_of(OTHER), pinned.entry_of(RUNNING))
    assert pinned.environment()["next_entry"] == pinned.entry_of(OTHER)
    assert pinned.ask("disarm")["next"] == ""
    assert "next_entry" not in pinned.environment()
    # Nothing is armed already.
    assert pinned.ask("disarm")["next"] == ""


def test_only_the_running_kernel_becomes_the_default(pinned: GrubMachine) -> None:
    refused = pinned.boot("bless", OTHER)
    assert refused.returncode == 1
    assert f"{RUNNING} runs and not {OTHER}" in refused.stderr
    pinned.ask("arm", OTHER)
    state = pinned.ask("bless", RUNNING)
    assert (state["default"], state["next"]) == (pinned.entry_of(RUNNING), "")


def test_a_revert_makes_the_former_kernel_the_default(pinned: GrubMachine) -> None:
    pinned.ask("arm", OTHER)
    state = pinned.ask("revert", OTHER)
    assert (state["default"], state["next"], state["pinned"]) == (pinned.entry_of(OTHER), "", True)


def test_a_command_is_carried_out_once(pinned: GrubMachine) -> None:
    pinned.ask("arm", OTHER, "--command-id", "u/a/1.arm.0")
    # GRUB has booted it once, and somebody asks again.
    pinned.tool("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry")
    assert pinned.ask("arm", OTHER, "--command-id", "u/a/1.arm.0")["next"] == ""
    assert pinned.ask("arm", OTHER, "--command-id", "u/a/2.arm.0")["next"] == pinned.entry_of(OTHER)
    other = pinned.boot("disarm", "--command-id", "u/a/2.arm.0")
    assert other.returncode == 1
    assert "already used for arm" in other.stderr


def test_what_was_begun_and_not_finished_is_done_again(pinned: GrubMachine) -> None:
    """The power failed in between."""
    begun = {"commands": [{"id": "u/a/1.arm.0", "verb": "arm", "release": OTHER, "done": False}]}
    pinned.sh(f"mkdir -p /var/lib/kernroll-boot; echo '{json.dumps(begun)}' > /var/lib/kernroll-boot/journal.json")
    assert pinned.ask("arm", OTHER, "--command-id", "u/a/1.arm.0")["next"] == pinned.entry_of(OTHER)


def test_a_journal_that_cannot_be_read_is_told(pinned: GrubMachine) -> None:
    pinned.sh("mkdir -p /var/lib/kernroll-boot; echo '{' > /var/lib/kernroll-boot/journal.json")
    done = pinned.boot("arm", OTHER, "--command-id", "u/a/1.arm.0")
    assert done.returncode == 3
    assert "journal.json cannot be read as a journal" in done.stderr
    assert "next_entry" not in pinned.environment()


def test_nothing_is_armed_before_the_default_is_pinned(machine: GrubMachine) -> None:
    done = machine.boot("arm", OTHER)
    assert done.returncode == 1
    assert "`kernroll-boot pin` first" in done.stderr


@pytest.mark.parametrize("release", ["6.6.6", "", "; reboot"])
def test_a_kernel_that_is_not_there_is_refused_by_name(pinned: GrubMachine, release: str) -> None:
    done = pinned.boot("arm", release)
    assert done.returncode == 1
    assert f"no entry for {release}; it offers" in done.stderr


def test_a_tool_that_fails_is_told_with_what_it_said(machine: GrubMachine) -> None:
    before = machine.ask("status")
    machine.sh("printf 'echo no space left on device >&2; exit 1' > /etc/grub.d/09_full; chmod +x /etc/grub.d/09_full")
    done = machine.boot("pin")
    assert done.returncode == 3
    assert "update-grub failed with code 1" in done.stderr
    assert "no space left on device" in done.stderr
    assert machine.ask("status")["default"] == before["default"]


def test_somebody_elses_setting_is_not_taken_for_a_pin(machine: GrubMachine) -> None:
    machine.sh("mkdir /etc/default/grub.d; printf 'GRUB_DEFAULT=0\\n' > /etc/default/grub.d/zzz-vendor.cfg")
    done = machine.boot("pin")
    assert done.returncode == 1
    assert "something else in /etc/default/grub.d" in done.stderr


# --- rehearsal ---


def test_a_rehearsal_boots_the_running_kernel_once_and_is_passed_by_the_next_boot(machine: GrubMachine) -> None:
    machine.ask("pin")
    assert "not proven that this host comes back" in machine.boot("arm", OTHER).stderr
    begun = machine.ask("rehearse")
    assert (begun["next"], begun["rehearsal"]["passed_at"]) == (machine.entry_of(RUNNING), None)
    # Asked again before the reboot it is still the same one.
    assert machine.ask("rehearse")["rehearsal"] == begun["rehearsal"]
    assert "not yet: reboot the host" in machine.boot("status").stdout
    assert machine.boot("arm", OTHER).returncode == 1
    machine.reboot()
    passed = machine.ask("rehearse")
    assert (passed["next"], passed["rehearsal"]["release"]) == ("", RUNNING)
    assert "proven:   on 20" in machine.boot("status").stdout
    assert machine.ask("arm", OTHER)["next"] == machine.entry_of(OTHER)


def test_a_loader_that_does_not_clear_what_it_booted_is_found_out(machine: GrubMachine) -> None:
    machine.ask("pin")
    machine.ask("rehearse")
    machine.reboot(clears=False)
    done = machine.boot("rehearse")
    assert done.returncode == 1
    assert "did not clear what was armed for one boot" in done.stderr
    state = machine.ask("status")
    assert (state["next"], "did not clear" in state["rehearsal"]["failed"]) == ("", True)
    assert "the rehearsal failed" in machine.boot("arm", OTHER).stderr
    # Asked again it is another rehearsal, which takes another boot.
    assert machine.ask("rehearse")["rehearsal"]["passed_at"] is None
    assert machine.boot("arm", OTHER).returncode == 1


@pytest.mark.parametrize("verb", [["pin"], ["disarm"], ["bless", RUNNING], ["revert", RUNNING]])
def test_a_rehearsal_that_was_disturbed_does_not_pass(machine: GrubMachine, verb: list[str]) -> None:
    machine.ask("pin")
    machine.ask("rehearse")
    machine.ask(*verb)
    machine.reboot()
    assert machine.ask("rehearse")["rehearsal"]["passed_at"] is None
    assert machine.boot("arm", OTHER).returncode == 1


@pytest.mark.parametrize(
    "change",
    [
        "echo another > /boot/grub/i386-pc/core.img",
        "mkdir -p /sys/class/dmi/id; echo 2.17 > /sys/class/dmi/id/bios_version",
    ],
)
def test_what_was_proven_of_another_loader_or_firmware_counts_no_more(pinned: GrubMachine, change: str) -> None:
    pinned.sh(change)
    done = pinned.boot("arm", OTHER)
    assert done.returncode == 1
    assert "rehearse again" in done.stderr
    pinned.ask("rehearse")
    pinned.reboot()
    pinned.ask("rehearse")
    assert pinned.ask("arm", OTHER)["next"] == pinned.entry_of(OTHER)


def test_a_loader_that_cannot_be_found_is_not_rehearsed(machine: GrubMachine) -> None:
    machine.ask("pin")
    machine.sh("rm -r /boot/grub/i386-pc")
    done = machine.boot("rehearse")
    assert done.returncode == 1
    assert "GRUB's own image is neither" in done.stderr
    assert machine.ask("status")["next"] == ""


def test_only_a_host_that_runs_its_pinned_default_rehearses(machine: GrubMachine) -> None:
    assert "`kernroll-boot pin` first" in machine.boot("rehearse").stderr
    machine.ask("revert", OTHER)
    assert "`kernroll-boot pin` first" in machine.boot("rehearse").stderr


def test_a_rehearsal_that_cannot_be_read_proves_nothing(pinned: GrubMachine) -> None:
    pinned.sh("echo '{}' > /var/lib/kernroll-boot/rehearsal.json")
    done = pinned.boot("arm", OTHER)
    assert done.returncode == 3
    assert "remove it and rehearse again" in done.stderr
    # What needs no proof is done all the same.
    done = pinned.boot("status")
    assert (done.returncode, "proven:   no" in done.stdout) == (0, True)
    assert "remove it" in done.stderr


# --- what is refused: each host is made for it ---


def test_a_host_that_comes_back_by_itself_is_not_refused(pinned: GrubMachine) -> None:
    assert pinned.refusals() == {}
    assert "nothing speaks against" in pinned.boot("check").stdout


@pytest.mark.parametrize(
    ("abstraction", "kind"),
    [("lvm", "LVM"), ("diskfilter", "a software RAID"), ("cryptodisk luks", "an encrypted disk")],
)
def test_an_environment_that_grub_cannot_clear_is_refused(pinned: GrubMachine, abstraction: str, kind: str) -> None:
    pinned.sh(f"echo {abstraction} > /etc/grub-probe.abstraction")
    found = pinned.refusals()
    code = f"environment-on-{abstraction.split(maxsplit=1)[0]}"
    assert f"lies on {kind}, where GRUB cannot clear it" in found[code]
    assert "put /boot on a partition of its own" in found[code]
    # Whatever grub-reboot says: it warns, and ends well.
    armed = pinned.boot("arm", OTHER)
    assert armed.returncode == 1
    assert "next_entry" not in pinned.environment()


@pytest.mark.parametrize("file_system", ["zfs", "btrfs"])
def test_a_file_system_that_grub_cannot_write_is_refused(pinned: GrubMachine, file_system: str) -> None:
    pinned.sh(f"echo {file_system} > /etc/grub-probe.fs")
    assert set(pinned.refusals()) == {"environment-file-system"}


@pytest.mark.parametrize(
    ("assignment", "code"),
    [
        ("boot_counter=0", "boot-counter"),
        ("initrdfail=1", "initrdfail"),
        ("prev_saved_entry=0", "previous-saved-entry"),
        ("saved_entry=gnulinux-6.6.6", "dangling-default"),
        ("saved_entry=77", "dangling-default"),
        ("next_entry=gnulinux-6.6.6", "dangling-next"),
    ],
)
def test_what_overrides_an_armed_kernel_is_refused(pinned: GrubMachine, assignment: str, code: str) -> None:
    pinned.set(assignment)
    assert set(pinned.refusals()) == {code}
    assert pinned.boot("arm", OTHER).returncode == 1


def test_an_environment_that_is_damaged_or_missing_is_refused(pinned: GrubMachine) -> None:
    pinned.sh("echo nonsense > /boot/grub/grubenv")
    assert "is no GRUB environment block" in pinned.refusals()["environment-damaged"]
    pinned.sh("rm /boot/grub/grubenv")
    assert set(pinned.refusals()) == {"environment-missing"}


def test_an_environment_of_which_nothing_is_known_is_refused(pinned: GrubMachine) -> None:
    pinned.sh("touch /etc/grub-probe.fails")
    assert "cannot find a device for /boot" in pinned.refusals()["environment-place-unknown"]


@pytest.mark.parametrize("setting", ["GRUB_RECORDFAIL_TIMEOUT=-1", "GRUB_TIMEOUT=-1", "GRUB_TIMEOUT=300"])
def test_a_menu_that_waits_for_somebody_is_refused(pinned: GrubMachine, setting: str) -> None:
    pinned.sh(f"echo '{setting}' >> /etc/default/grub; update-grub")
    if "RECORDFAIL" in setting:
        # As Ubuntu has it: Debian's own header says nothing of it here.
        pinned.sh("sed -i 's/set timeout=30/set timeout=-1/' /boot/grub/grub.cfg")
    assert "for somebody at the console" in pinned.refusals()["menu-waits"]


def test_a_menu_that_asks_for_a_password_is_refused(pinned: GrubMachine) -> None:
    pinned.sh("echo 'set superusers=\"root\"' >> /boot/grub/grub.cfg")
    assert set(pinned.refusals()) == {"menu-asks"}


def test_entries_that_are_booted_a_second_time_are_refused(pinned: GrubMachine) -> None:
    pinned.sh("sed -i 's/^\\tload_video/\\tload_video\\n\\tinitrdfail/' /boot/grub/grub.cfg")
    assert set(pinned.refusals()) == {"boots-twice"}


@pytest.mark.parametrize("line", ["set default=0", 'set default="0"', "default=0"])
def test_a_default_that_somebody_sets_afterwards_is_found(pinned: GrubMachine, line: str) -> None:
    pinned.sh(f"echo '{line}' >> /boot/grub/grub.cfg")
    assert set(pinned.refusals()) == {"no-one-shot"}
    assert not pinned.ask("status")["pinned"]
    pinned.sh(f"update-grub; echo '{line}' > /boot/grub/custom.cfg")
    assert set(pinned.refusals()) == {"custom-default"}


@pytest.mark.parametrize("saved", ["", "0", "GNU/Linux"])
def test_a_default_that_is_a_place_in_the_menu_is_not_pinned(pinned: GrubMachine, saved: str) -> None:
    pinned.set(f"saved_entry={saved}")
    assert not pinned.ask("status")["pinned"]
    assert "`kernroll-boot pin` first" in pinned.boot("arm", OTHER).stderr


def test_nothing_is_armed_while_another_kernel_would_be_booted_after_it(pinned: GrubMachine) -> None:
    pinned.ask("revert", OTHER)
    done = pinned.boot("arm", OTHER)
    assert done.returncode == 1
    assert "would not be booted again" in done.stderr


def test_a_kernel_whose_files_are_gone_is_not_armed(pinned: GrubMachine) -> None:
    pinned.sh(f"rm /boot/initrd.img-{OTHER}")
    assert f"/boot/initrd.img-{OTHER} is not there" in pinned.boot("arm", OTHER).stderr


def test_a_configuration_of_somebodys_own_is_refused(pinned: GrubMachine) -> None:
    pinned.sh("sed -i 's/next_entry/another/g' /boot/grub/grub.cfg")
    assert set(pinned.refusals()) == {"no-one-shot"}


def test_a_running_kernel_that_is_in_no_menu_is_refused(pinned: GrubMachine) -> None:
    pinned.sh(f"rm /boot/vmlinuz-{RUNNING}; update-grub")
    assert "so there would be no way back to it" in pinned.refusals()["running-kernel-not-offered"]


@pytest.mark.parametrize("arguments", ["", "panic=0", "panic=10 panic=0"])
def test_a_kernel_that_stops_at_a_panic_is_refused(pinned: GrubMachine, arguments: str) -> None:
    pinned.sh(f"echo 'GRUB_CMDLINE_LINUX=\"{arguments}\"' >> /etc/default/grub; update-grub")
    found = pinned.refusals()
    assert set(found) == {"stops-at-a-panic"}
    assert RUNNING in found["stops-at-a-panic"]


def test_a_boot_without_room_for_another_kernel_is_refused(pinned: GrubMachine) -> None:
    pinned.run("mount", "-t", "tmpfs", "-o", "size=3m", "small", f"{pinned.root}/boot")
    pinned.sh("mkdir /boot/grub; grub-editenv /boot/grub/grubenv create")
    pinned.install(RUNNING)
    pinned.sh(f"head -c 1500000 /dev/zero > /boot/initrd.img-{RUNNING}")
    assert "/boot has 1 MiB left, and another kernel may need 3 MiB" in pinned.refusals()["no-room-in-boot"]


@pytest.mark.parametrize(
    ("loaded", "action", "refused"), [("1", "shell", True), ("1", "reboot", False), ("0", "shell", False)]
)
def test_a_crash_kernel_that_waits_for_somebody_is_refused(
    pinned: GrubMachine, loaded: str, action: str, refused: bool
) -> None:
    pinned.sh(
        f"echo {loaded} > /sys/kernel/kexec_crash_loaded; printf '#x\\nfailure_action {action}\\n' > /etc/kdump.conf"
    )
    assert set(pinned.refusals()) == ({"kdump-waits"} if refused else set())
    # The same on Debian.
    command = {"shell": "/bin/sh", "reboot": "reboot -f"}[action]
    pinned.sh(f"rm /etc/kdump.conf; echo 'KDUMP_FAIL_CMD=\"{command}\"' > /etc/default/kdump-tools")
    assert set(pinned.refusals()) == ({"kdump-waits"} if refused else set())


@pytest.mark.parametrize(("setting", "refused"), [("true", True), ("false", False)])
def test_a_host_that_reboots_by_itself_is_refused(pinned: GrubMachine, setting: str, refused: bool) -> None:
    line = f'Unattended-Upgrade::Automatic-Reboot "{setting}";'
    pinned.sh(f"echo '{line}' > /etc/apt/apt.conf.d/50unattended-upgrades")
    assert set(pinned.refusals()) == ({"reboots-by-itself"} if refused else set())


def test_a_host_without_a_loader_that_is_known_is_refused(machine: GrubMachine) -> None:
    machine.sh("rm /boot/grub/grub.cfg")
    assert set(machine.refusals()) == {"unknown-loader"}
    done = machine.boot("status")
    assert done.returncode == 1
    assert "leave this host out" in done.stderr


def test_two_at_a_time_are_one_too_many(pinned: GrubMachine) -> None:
    held = f"import fcntl; f = open('{pinned.root}/run/kernroll-boot.lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
    asked = f"import subprocess, sys; sys.exit(subprocess.call({_command(pinned)!r}))"
    done = pinned.run(*_command(pinned)[:1], "-c", held + asked)
    assert done.returncode == 1
    assert "another kernroll-boot is at work" in done.stderr


def _command(machine: GrubMachine) -> list[str]:
    return [sys.executable, "-m", "agent.boot.main", "--root", str(machine.root), "arm", OTHER]
