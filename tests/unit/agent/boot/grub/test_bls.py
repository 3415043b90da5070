"""Fedora's menu: a grub.cfg that calls blscfg, and the entries' files."""

import pytest

from agent.boot.grub.bls import bls_menu

CONFIGURATION = """\
### BEGIN /etc/grub.d/00_header ###
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   save_env next_entry
else
   set default="${saved_entry}"
fi
set timeout=5
### END /etc/grub.d/00_header ###
### BEGIN /etc/grub.d/08_fallback_counting ###
  set default=1
### END /etc/grub.d/08_fallback_counting ###
  set kernelopts="root=/dev/vda1 ro panic=5"
blscfg
### BEGIN /etc/grub.d/12_menu_auto_hide ###
    set timeout=60
### END /etc/grub.d/12_menu_auto_hide ###
menuentry 'Firmware' $menuentry_id_option 'uefi-firmware' {
	fwsetup
}
submenu 'More' $menuentry_id_option 'more' {
menuentry 'Other' $menuentry_id_option 'other' {
	linux /vmlinuz-1
}
}
"""
ENTRY = "title One\nlinux /vmlinuz-{0}\ninitrd /initramfs-{0}.img $tuned_initrd\noptions $kernelopts\noptions no\n"
RELEASES = ("6.9.4-200.fc44.x86_64", "6.10.0-1.fc44.x86_64", "6.10.0~rc1-1.fc44.x86_64")
FILES = {f"3f4e-{one}.conf": ENTRY.format(one) for one in RELEASES}


def test_entries_stand_first_and_the_newest_above() -> None:
    menu = bls_menu(CONFIGURATION, FILES, {}, ids_first=True)
    newest, candidate, old = "3f4e-6.10.0-1.fc44.x86_64", "3f4e-6.10.0~rc1-1.fc44.x86_64", "3f4e-6.9.4-200.fc44.x86_64"
    assert [one.id for one in menu.entries] == [newest, candidate, old, "uefi-firmware", "more>other"]
    assert [menu.resolved(one) for one in ("0", "2", "3", "4>0", "5")] == [
        newest,
        old,
        "uefi-firmware",
        "more>other",
        "",
    ]
    assert (menu.is_saved, menu.boots_once, menu.waits_s, menu.asks) == (True, True, (5,), False)
    assert menu.entries[0].release == "6.10.0-1.fc44.x86_64"
    assert menu.entries[0].files == ("/boot/vmlinuz-6.10.0-1.fc44.x86_64", "/boot/initramfs-6.10.0-1.fc44.x86_64.img")


def test_a_name_that_begins_with_a_digit_is_no_position() -> None:
    menu = bls_menu(CONFIGURATION, FILES, {}, ids_first=True)
    assert menu.resolved("3f4e-6.9.4-200.fc44.x86_64") == "3f4e-6.9.4-200.fc44.x86_64"
    assert menu.resolved("3f4e-6.6.6") == ""


@pytest.mark.parametrize(
    ("text", "environment", "arguments"),
    [
        ("options $kernelopts quiet", {}, ("root=/dev/vda1", "ro", "panic=5", "quiet")),
        ("options $kernelopts", {"kernelopts": "panic=7"}, ("panic=7",)),
        ("options a=$unset b", {}, ("a=", "b")),
        ("options a\noptions b", {}, ("a",)),
        ("title x", {"default_kernelopts": "c"}, ("c",)),
        # For GRUB the file ends there.
        ("machine-id\noptions a", {}, ()),
        ("# options a", {}, ()),
    ],
)
def test_a_command_line_is_what_grub_makes_of_it(
    text: str, environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    menu = bls_menu(CONFIGURATION, {"a.conf": f"linux /vmlinuz-1\n{text}\n"}, environment, ids_first=True)
    assert menu.entries[0].arguments == arguments


def test_what_is_no_entry_is_left_out() -> None:
    files = {"a.conf": "title nothing\n", ".b.conf": ENTRY, "c.conf.rpmsave": ENTRY, "d-0-rescue.conf": ENTRY}
    menu = bls_menu("blscfg\n", files, {}, ids_first=True)
    assert [(one.id, one.recovery) for one in menu.entries] == [("d-0-rescue", True)]
    assert bls_menu("blscfg\n", {}, {}, ids_first=True).resolved("0") == ""


def test_grubs_own_entries_are_looked_for_by_position_first() -> None:
    """GRUB 2.14 takes 3f4e… for the fourth entry, and Fedora's for a name."""
    files = {f"3f4e-1.{number}.conf": f"linux /vmlinuz-1.{number}\n" for number in range(5)}
    fedora, own = (bls_menu("blscfg\n", files, {}, ids_first=first) for first in (True, False))
    assert (fedora.resolved("3f4e-1.0"), own.resolved("3f4e-1.0")) == ("3f4e-1.0", "3f4e-1.1")
