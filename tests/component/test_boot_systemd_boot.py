"""kernroll-boot on a machine that boots by systemd-boot: what it says is so, by bootctl and by EFI variables."""

from collections.abc import Iterator

import pytest
from boot_machine import OTHER, RUNNING
from systemd_boot_machine import VOLATILE, SystemdBootMachine, systemd_boot_machine

NEW, NEWEST = "99.0.9-amd64", "99.0.10-amd64"
ENTRIES = "/efi/loader/entries"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdBootMachine]:
    with systemd_boot_machine(tmp_path_factory.mktemp("machine")) as made:
        made.keep()
        made.prove()
        made.keep("proven")
        yield made


@pytest.fixture
def machine(one: SystemdBootMachine) -> SystemdBootMachine:
    one.restore()
    return one


@pytest.fixture
def pinned(one: SystemdBootMachine) -> SystemdBootMachine:
    one.restore("proven")
    return one


def test_the_newest_boots_until_the_running_kernel_is_pinned(machine: SystemdBootMachine) -> None:
    machine.install(NEW)
    before = machine.ask("status")
    assert (before["loader"], before["default"], before["pinned"]) == ("systemd-boot", machine.entry_of(NEW), False)
    after = machine.ask("pin")
    assert (after["default"], after["pinned"]) == (machine.entry_of(RUNNING), True)
    assert machine.variable("LoaderEntryDefault") == machine.entry_of(RUNNING)
    machine.install(NEWEST)
    machine.sh("echo 'default *' >> /efi/loader/loader.conf")
    assert machine.ask("status")["default"] == machine.entry_of(RUNNING)
    assert f"id: {machine.entry_of(NEWEST)}" in machine.tool("bootctl", "list")


def test_an_armed_kernel_is_the_next_and_the_default_stays(pinned: SystemdBootMachine) -> None:
    state = pinned.ask("arm", OTHER)
    assert (state["next"], state["default"]) == (pinned.entry_of(OTHER), pinned.entry_of(RUNNING))
    assert pinned.variable("LoaderEntryOneShot") == pinned.entry_of(OTHER)
    assert pinned.ask("disarm")["next"] == ""
    assert pinned.variable("LoaderEntryOneShot") == ""
    # Nothing is armed already.
    assert pinned.ask("disarm")["next"] == ""


def test_a_revert_makes_the_former_kernel_the_default(pinned: SystemdBootMachine) -> None:
    pinned.ask("arm", OTHER)
    state = pinned.ask("revert", OTHER)
    assert (state["default"], state["next"], state["pinned"]) == (pinned.entry_of(OTHER), "", True)


@pytest.mark.parametrize("default", ["", "kernroll-*", "@saved"])
def test_a_default_that_is_no_entry_of_its_own_is_not_pinned(pinned: SystemdBootMachine, default: str) -> None:
    pinned.set("LoaderEntryDefault", default)
    assert not pinned.ask("status")["pinned"]
    assert "`kernroll-boot pin` first" in pinned.boot("arm", OTHER).stderr


def test_a_default_that_the_firmware_forgets_is_not_pinned(pinned: SystemdBootMachine) -> None:
    pinned.set("LoaderEntryDefault", pinned.entry_of(RUNNING), VOLATILE)
    assert not pinned.ask("status")["pinned"]


def test_entries_of_another_partition_are_offered_too(pinned: SystemdBootMachine) -> None:
    pinned.sh(f"touch /etc/bootctl.extended; mkdir -p /boot/loader; mv {ENTRIES} /efi/kernroll /boot/loader/")
    pinned.sh("mv /boot/loader/kernroll /boot/; mkdir /efi/loader/entries")
    assert pinned.ask("arm", OTHER)["next"] == pinned.entry_of(OTHER)


def test_a_file_that_is_gone_is_not_armed(pinned: SystemdBootMachine) -> None:
    pinned.sh(f"rm /efi/kernroll/{OTHER}/initrd*")
    assert f"/efi/kernroll/{OTHER}/initrd.img-{OTHER} is not there" in pinned.boot("arm", OTHER).stderr
    # Without its kernel systemd-boot does not show it at all.
    pinned.sh(f"rm /efi/kernroll/{OTHER}/linux")
    assert f"no entry for {OTHER}" in pinned.boot("arm", OTHER).stderr


def test_a_boot_by_another_entry_passes_no_rehearsal(machine: SystemdBootMachine) -> None:
    machine.ask("pin")
    machine.ask("rehearse")
    machine.reboot()
    machine.set("LoaderEntrySelected", machine.entry_of(OTHER), VOLATILE)
    done = machine.boot("rehearse")
    assert done.returncode == 1
    assert f"the loader says that it booted {machine.entry_of(OTHER)}" in done.stderr


def test_a_firmware_that_clears_nothing_is_found_out(machine: SystemdBootMachine) -> None:
    machine.ask("pin")
    machine.ask("rehearse")
    machine.reboot(clears=False)
    assert "did not clear what was armed for one boot" in machine.boot("rehearse").stderr
    assert machine.variable("LoaderEntryOneShot") == ""


@pytest.mark.parametrize("change", ["/efi/EFI/systemd/systemd-bootx64.efi", "/efi/EFI/BOOT/BOOTX64.EFI"])
def test_what_was_proven_of_another_systemd_boot_counts_no_more(pinned: SystemdBootMachine, change: str) -> None:
    pinned.sh(f"mkdir -p /efi/EFI/BOOT; echo another > {change}")
    assert "rehearse again" in pinned.boot("arm", OTHER).stderr


def test_a_systemd_boot_that_cannot_be_found_is_not_rehearsed(machine: SystemdBootMachine) -> None:
    machine.ask("pin")
    machine.sh("rm -r /efi/EFI")
    assert "systemd-boot itself is not below EFI" in machine.boot("rehearse").stderr


def test_a_tool_that_fails_is_told_with_what_it_said(machine: SystemdBootMachine) -> None:
    machine.sh("touch /etc/bootctl.fails")
    done = machine.boot("pin")
    assert done.returncode == 3
    assert "no EFI system partition" in done.stderr
    assert "no EFI system partition" in machine.refusals()["entries-unreadable"]


# --- what is refused: each host is made for it ---


def test_a_host_that_comes_back_by_itself_is_not_refused(pinned: SystemdBootMachine) -> None:
    assert pinned.refusals() == {}


@pytest.mark.parametrize(("info", "told"), [("GRUB 2.12-9", "booted by GRUB 2.12-9"), ("", "does not tell its name")])
def test_a_host_that_another_loader_booted_is_refused(pinned: SystemdBootMachine, info: str, told: str) -> None:
    pinned.set("LoaderInfo", info, VOLATILE)
    found = pinned.refusals()
    assert set(found) == {"booted-otherwise"}
    assert told in found["booted-otherwise"]
    assert pinned.boot("arm", OTHER).returncode == 1
    assert pinned.variable("LoaderEntryOneShot") == ""


def test_variables_that_cannot_be_seen_are_told(pinned: SystemdBootMachine) -> None:
    pinned.sh("rm -r /sys/firmware")
    found = pinned.refusals()
    assert set(found) == {"variables-missing"}
    assert "mount -t efivarfs" in found["variables-missing"]


def test_variables_that_cannot_be_written_are_told(pinned: SystemdBootMachine) -> None:
    place = f"{pinned.root}/sys/firmware/efi/efivars"
    pinned.run("mount", "--bind", place, place)
    pinned.run("mount", "-o", "remount,bind,ro", place)
    found = pinned.refusals()
    assert set(found) == {"variables-read-only"}
    assert "remount,rw" in found["variables-read-only"]


def test_a_file_with_counter_and_one_without_are_refused(pinned: SystemdBootMachine) -> None:
    entry = pinned.entry_of(OTHER)
    pinned.sh(f"cd {ENTRIES}; cp {entry} {entry.removesuffix('.conf')}+2-1.conf")
    found = pinned.refusals()
    assert set(found) == {"entry-twice"}
    assert entry in found["entry-twice"]


@pytest.mark.parametrize(
    ("counter", "info", "code"),
    [
        ("+0-3", "systemd-boot 257.13-1", "no-tries-left"),
        ("+3", "systemd-boot 252.39-1~deb12u2", "entry-counted"),
        ("+2-1", "systemd-boot 258.3-1", "entry-counted"),
        ("+3", "systemd-boot 259", "entry-counted"),
        ("+3", "systemd-boot 257.13-1", ""),
        ("+3", "systemd-boot 260.1", ""),
    ],
)
def test_an_entry_that_counts_is_chosen_only_where_that_works(
    pinned: SystemdBootMachine, counter: str, info: str, code: str
) -> None:
    pinned.set("LoaderInfo", info, VOLATILE)
    entry, other = pinned.entry_of(RUNNING), pinned.entry_of(OTHER)
    pinned.sh(f"cd {ENTRIES}; mv {other} {other.removesuffix('.conf')}{counter}.conf")
    # Others may count as they like, until they are armed.
    assert pinned.refusals() == {}
    assert (pinned.boot("arm", OTHER).returncode, bool(pinned.variable("LoaderEntryOneShot"))) == (bool(code), not code)
    pinned.sh(f"cd {ENTRIES}; mv {entry} {entry.removesuffix('.conf')}{counter}.conf")
    assert set(pinned.refusals()) == ({code} if code else set())


def test_a_counted_entry_with_capitals_is_not_chosen(pinned: SystemdBootMachine) -> None:
    pinned.sh(f"cd {ENTRIES}; mv {pinned.entry_of(OTHER)} Kernroll-{OTHER}+3.conf")
    assert "it has capital letters" in pinned.boot("arm", OTHER).stderr


def test_an_entry_with_a_pattern_for_a_name_is_not_chosen(pinned: SystemdBootMachine) -> None:
    pinned.sh(f"cd {ENTRIES}; mv {pinned.entry_of(OTHER)} 'kern[a]-{OTHER}.conf'")
    assert "takes for a pattern" in pinned.boot("arm", OTHER).stderr


def test_a_running_kernel_that_is_not_offered_is_refused(pinned: SystemdBootMachine) -> None:
    pinned.sh(f"rm {ENTRIES}/{pinned.entry_of(RUNNING)}")
    assert "there would be no way back to it" in pinned.refusals()["running-kernel-not-offered"]


@pytest.mark.parametrize("timeout", ["menu-force", "4294967295", "300"])
def test_a_menu_that_waits_for_somebody_is_refused(pinned: SystemdBootMachine, timeout: str) -> None:
    pinned.sh(f"echo 'timeout {timeout}' >> /efi/loader/loader.conf")
    found = pinned.refusals()
    assert set(found) == {"menu-waits"}
    assert ("for 300 s" if timeout == "300" else "for ever") in found["menu-waits"]
    # The variable outweighs the file.
    pinned.tool("bootctl", "set-timeout", "5")
    assert pinned.refusals() == {}
    pinned.tool("bootctl", "set-timeout", "menu-force")
    assert "for ever" in pinned.refusals()["menu-waits"]


def test_a_menu_that_is_asked_for_once_is_refused(pinned: SystemdBootMachine) -> None:
    pinned.tool("bootctl", "set-timeout-oneshot", "10")
    assert "at the next boot" in pinned.refusals()["menu-waits"]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("LoaderEntryPreferred", "*", "preferred-entry"),
        ("LoaderEntrySysFail", "rescue.conf", "failure-entry"),
        ("LoaderEntryDefault", "kernroll-6.6.6.conf", "dangling-default"),
        ("LoaderEntryOneShot", "kernroll-6.6.6.conf", "dangling-next"),
    ],
)
def test_what_overrides_the_default_is_refused(pinned: SystemdBootMachine, name: str, value: str, code: str) -> None:
    pinned.set(name, value)
    assert set(pinned.refusals()) == {code}
    assert pinned.boot("arm", OTHER).returncode == 1


def test_what_is_preferred_in_the_configuration_is_refused(pinned: SystemdBootMachine) -> None:
    pinned.sh(f"echo 'preferred {pinned.entry_of(OTHER)}' >> /efi/loader/loader.conf")
    assert set(pinned.refusals()) == {"preferred-entry"}
    assert pinned.ask("status")["default"] == pinned.entry_of(OTHER)
    assert "by default and not" in pinned.boot("pin").stderr


def test_a_variable_that_is_no_text_is_told(pinned: SystemdBootMachine) -> None:
    pinned.run("sh", "-c", f"printf abc > {pinned.path_of('LoaderEntryOneShot')}")
    done = pinned.boot("status")
    assert done.returncode == 3
    assert "LoaderEntryOneShot has 3 bytes" in done.stderr


def test_a_kernel_that_stops_at_a_panic_is_refused(pinned: SystemdBootMachine) -> None:
    pinned.sh(f"sed -i 's/panic=10//' {ENTRIES}/{pinned.entry_of(OTHER)}")
    found = pinned.refusals()
    assert set(found) == {"stops-at-a-panic"}
    assert "panic=10 to /etc/kernel/cmdline" in found["stops-at-a-panic"]


def test_a_partition_without_room_for_another_kernel_is_refused(pinned: SystemdBootMachine) -> None:
    pinned.run("mount", "-o", "remount,size=2m", f"{pinned.root}/efi")
    pinned.sh(f"head -c 900000 /dev/zero > /efi/kernroll/{RUNNING}/linux")
    found = pinned.refusals()
    assert set(found) == {"no-room-in-boot"}
    assert "/efi has" in found["no-room-in-boot"]
