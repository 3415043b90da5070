"""What GRUB would boot for a name, as its own menu takes it."""

import pytest

from agent.boot.grub.menu import parse_menu
from agent.boot.values import BootError, BootState

MENU = """\
if [ "${recordfail}" = 1 ] ; then
  set timeout=30
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
else
   set default="${saved_entry}"
fi
function savedefault {
  if [ -z "${boot_once}" ]; then
    saved_entry="${chosen}"
  fi
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-u' {
	linux	/boot/vmlinuz-7.1.13-amd64 root=/dev/sda1 ro quiet
	initrd	/boot/initrd.img-7.1.13-amd64
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-u' {
	menuentry 'Debian GNU/Linux, with Linux 7.1.13-amd64' $menuentry_id_option 'gnulinux-7.1.13-amd64-advanced-u' {
		if [ x$grub_platform = xxen ]; then insmod xzio; fi
		linux	/boot/vmlinuz-7.1.13-amd64 root=/dev/sda1 ro quiet
	}
	menuentry 'Debian, with Linux 7.1.13-amd64 (recovery)' $menuentry_id_option 'gnulinux-7.1.13-amd64-recovery-u' {
		linux	/boot/vmlinuz-7.1.13-amd64 root=/dev/sda1 ro single
	}
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-44-amd64' $menuentry_id_option 'gnulinux-6.1.0-44-amd64-advanced-u' {
		linux	/vmlinuz-6.1.0-44-amd64 root=/dev/sda1 ro quiet panic=10
	}
}
menuentry "Memory test: it's here" {
	linux16 /boot/memtest86+.bin
}
"""
NEW = "gnulinux-advanced-u>gnulinux-7.1.13-amd64-advanced-u"
OLD = "gnulinux-advanced-u>gnulinux-6.1.0-44-amd64-advanced-u"
MENUS = {"saved": MENU, "first": MENU.replace("${saved_entry}", "0")}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (OLD, OLD),
        ("gnulinux-simple-u", "gnulinux-simple-u"),
        ("Debian GNU/Linux", "gnulinux-simple-u"),
        ("Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.1.0-44-amd64", OLD),
        ("", "gnulinux-simple-u"),
        ("0", "gnulinux-simple-u"),
        ("1>2", OLD),
        ("gnulinux-advanced-u>2", OLD),
        # A submenu's own first entry.
        ("1", NEW),
        # Whatever begins with a digit is a position: the id of a removed entry that does boots another one.
        ("2f8e61-7.1.13", "Memory test: it's here"),
        ("9", ""),
        ("1>9", ""),
        ("gnulinux-6.6.6", ""),
        # Of a submenu, only with what stands above it.
        ("gnulinux-6.1.0-44-amd64-advanced-u", ""),
        ("gnulinux-simple-u>0", ""),
    ],
)
def test_a_name_is_an_id_a_title_or_a_position(name: str, found: str) -> None:
    assert parse_menu(MENU).resolved(name) == found


def test_entries_have_their_kernel_and_its_command_line() -> None:
    entries = {one.id: one for one in parse_menu(MENU).entries}
    assert len(entries) == 5
    assert (entries[OLD].release, entries[OLD].arguments[-1]) == ("6.1.0-44-amd64", "panic=10")
    recovery = [one.id for one in entries.values() if one.recovery]
    assert recovery == ["gnulinux-advanced-u>gnulinux-7.1.13-amd64-recovery-u"]
    assert entries["Memory test: it's here"].release == ""


@pytest.mark.parametrize(("name", "saved"), [("saved", True), ("first", False)])
def test_the_header_says_whether_the_default_is_written_down(name: str, saved: bool) -> None:
    menu = parse_menu(MENUS[name])
    assert (menu.is_saved, menu.boots_once, menu.waits_s) == (saved, True, (30,))


def test_a_menu_without_a_header_boots_its_first_entry_and_nothing_once() -> None:
    menu = parse_menu(MENU[MENU.index("menuentry") :])
    assert (menu.default, menu.boots_once, menu.waits_s) == ("0", False, ())
    assert parse_menu("").resolved("0") == ""


@pytest.mark.parametrize("text", ["menuentry 'a {\n}\n", "}\n}\n", "menuentry {\n", "submenu 'x' {\nmenuentry 'y' {\n"])
def test_what_is_no_menu_is_read_without_harm(text: str) -> None:
    parse_menu(text)


def state(text: str) -> BootState:
    return BootState(loader="grub", entries=parse_menu(text).entries, default="", next="", pinned=True)


def test_a_kernel_is_booted_by_the_entry_that_will_always_be_its_own() -> None:
    # The first entry is whichever kernel is the newest.
    assert state(MENU).of_release("7.1.13-amd64").id == NEW
    # As with GRUB_DISABLE_SUBMENU, where a distribution still repeats the newest.
    lines = [line for line in MENU.splitlines() if not line.startswith("submenu")]
    with pytest.raises(BootError, match=r"2 entries for 7\.1\.13-amd64"):
        state("\n".join(lines)).of_release("7.1.13-amd64")
    with pytest.raises(BootError, match=r"no entry for 6\.6\.6; it offers 6\.1\.0-44-amd64, 7\.1\.13-amd64\."):
        state(MENU).of_release("6.6.6")
    with pytest.raises(BootError, match="it offers no kernel"):
        state("").of_release("6.6.6")
