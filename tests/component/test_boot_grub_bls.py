"""kernroll-boot on a machine with GRUB as Fedora has it: entries in files of their own, and what else acts there."""

from collections.abc import Iterator

import pytest
from bls_machine import MACHINE_ID, BlsMachine, bls_machine
from boot_machine import OTHER, RUNNING

NEWEST = "99.1.0-200.fc44.x86_64"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlsMachine]:
    with bls_machine(tmp_path_factory.mktemp("machine")) as made:
        made.keep()
        made.prove()
        made.keep("proven")
        yield made


@pytest.fixture
def machine(one: BlsMachine) -> BlsMachine:
    one.restore()
    return one


@pytest.fixture
def pinned(one: BlsMachine) -> BlsMachine:
    one.restore("proven")
    return one


def test_a_new_kernel_becomes_the_default_until_one_is_pinned(machine: BlsMachine) -> None:
    machine.install(NEWEST)
    before = machine.ask("status")
    assert (before["loader"], before["default"], before["pinned"]) == ("grub", machine.entry_of(NEWEST), False)
    after = machine.ask("pin")
    assert (after["default"], after["pinned"]) == (machine.entry_of(RUNNING), True)
    assert machine.sh("cat /etc/sysconfig/kernel") == "UPDATEDEFAULT=no\nDEFAULTKERNEL=kernel-core\n"
    machine.install(f"{NEWEST}.1")
    assert machine.ask("status")["default"] == machine.entry_of(RUNNING)
    machine.sh("sed -i s/=no/=yes/ /etc/sysconfig/kernel")
    assert not machine.ask("status")["pinned"]


def test_an_armed_kernel_is_the_next_and_the_default_stays(pinned: BlsMachine) -> None:
    state = pinned.ask("arm", OTHER)
    assert (state["next"], state["default"]) == (pinned.entry_of(OTHER), pinned.entry_of(RUNNING))
    assert pinned.environment()["next_entry"] == pinned.entry_of(OTHER)
    assert pinned.ask("disarm")["next"] == ""


def test_a_host_that_comes_back_by_itself_is_not_refused(pinned: BlsMachine) -> None:
    assert pinned.refusals() == {}


def test_a_default_that_is_gone_is_no_place_in_the_menu(pinned: BlsMachine) -> None:
    """The id begins with a digit, which some GRUBs take for a position."""
    pinned.set(f"saved_entry={MACHINE_ID}-6.6.6")
    assert set(pinned.refusals()) == {"dangling-default"}
    assert "grub2-set-default" in pinned.refusals()["dangling-default"]
    assert pinned.ask("status")["default"] == ""


def test_grubs_own_entries_are_refused_where_it_takes_their_names_for_positions(pinned: BlsMachine) -> None:
    """GRUB 2.14 boots the fourth entry when it is told to boot 3f4e…: seen on a disk."""
    pinned.sh("touch /boot/grub2/i386-pc/blsuki.mod")
    assert "names-are-positions" in pinned.refusals()
    assert "entry-token" in pinned.refusals()["names-are-positions"]
    assert pinned.ask("status")["default"] != pinned.entry_of(RUNNING)
    assert "begins with a digit" in pinned.boot("arm", OTHER).stderr


@pytest.mark.parametrize(
    ("assignment", "code"),
    [
        ("boot_counter=0", "boot-counter"),
        ("menu_show_once=1", "menu-waits"),
        ("menu_show_once_timeout=60", "menu-waits"),
        ("blsdir=/ostree/entries", "entries-elsewhere"),
        (f"next_entry={MACHINE_ID}-6.6.6", "dangling-next"),
    ],
)
def test_what_acts_beside_the_default_is_refused(pinned: BlsMachine, assignment: str, code: str) -> None:
    pinned.set(assignment)
    assert set(pinned.refusals()) == {code}
    assert pinned.boot("arm", OTHER).returncode == 1


def test_an_argument_that_is_lost_with_the_next_configuration_is_refused(pinned: BlsMachine) -> None:
    pinned.sh("echo GRUB_DEFAULT=saved > /etc/default/grub")
    assert set(pinned.refusals()) == {"arguments-not-kept"}
    pinned.sh("sed -i s/panic=10// /boot/loader/entries/*")
    assert "grubby --update-kernel=ALL --args=panic=10" in pinned.refusals()["stops-at-a-panic"]


def test_a_menu_that_asks_for_a_password_is_refused(pinned: BlsMachine) -> None:
    pinned.sh("echo GRUB2_PASSWORD=grub.pbkdf2 > /boot/grub2/user.cfg")
    assert pinned.refusals() == {}
    pinned.sh(f"sed -i /grub_arg/d /boot/loader/entries/*{OTHER}.conf")
    assert set(pinned.refusals()) == {"menu-asks"}


def test_a_configuration_with_a_default_of_its_own_is_not_pinned(machine: BlsMachine) -> None:
    machine.sh('sed -i \'s/default="${saved_entry}"/default="0"/\' /boot/grub2/grub.cfg')
    done = machine.boot("pin")
    assert done.returncode == 1
    assert "set GRUB_DEFAULT=saved" in done.stderr


def test_entries_that_cannot_be_found_are_told(pinned: BlsMachine) -> None:
    pinned.sh("rm -r /boot/loader")
    done = pinned.boot("status")
    assert done.returncode == 3
    assert "/boot/loader/entries cannot be read" in done.stderr
