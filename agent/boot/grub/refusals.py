"""What keeps GRUB from booting an entry once and then the default again. Each is told with its cause and its remedy."""

from collections.abc import Iterator, Mapping
from typing import Final

from agent.boot.grub.menu import Menu
from agent.boot.values import Refusal

# GRUB reads from these and cannot write to them: what boots "once" boots for ever.
_UNWRITABLE: Final = {"lvm": "LVM", "diskfilter": "a software RAID", "cryptodisk": "an encrypted disk", "luks": "LUKS"}
# Others have no place of their own for a block that GRUB writes in place.
_WRITABLE_FILE_SYSTEMS: Final = frozenset({"ext2", "ext3", "ext4", "fat", "vfat", "msdos", "xfs", "btrfs"})
_LONGEST_RECORDFAIL_S: Final = 30


def of_place(abstractions: str, file_system: str, environment: Mapping[str, str]) -> Iterator[Refusal]:
    """Yield what speaks against where the environment lies: what `grub-probe --target=abstraction` and `fs` say."""
    for word in abstractions.split():
        kind = _UNWRITABLE.get(word, "")
        if kind:
            yield Refusal(
                code="environment-on-" + word,
                cause=f"GRUB's environment lies on {kind}, where GRUB cannot clear it: a kernel that is armed once "
                "would boot again and again, even after a panic",
                remedy="put /boot on a partition of its own without LVM, RAID or encryption",
            )
    if file_system not in _WRITABLE_FILE_SYSTEMS:
        yield Refusal(
            code="environment-file-system",
            cause=f"GRUB's environment lies on {file_system or 'an unknown file system'}, to which GRUB cannot write",
            remedy="put /boot on an ext4 partition of its own",
        )
    if file_system == "btrfs" and "env_block" not in environment:
        yield Refusal(
            code="environment-on-btrfs",
            cause="GRUB's environment lies on btrfs and has no env_block, so that GRUB cannot write to it",
            remedy="create it anew with a GRUB that knows env_block (2.14): grub-editenv - create",
        )


def of_environment(environment: Mapping[str, str], menu: Menu) -> Iterator[Refusal]:
    """Yield variables through which something else decides what boots."""
    if "boot_counter" in environment:
        yield Refusal(
            code="boot-counter",
            cause="boot_counter is set: after a boot that is not marked good GRUB boots its second entry, whatever "
            "that is",
            remedy="let greenboot be the only one who decides, or: grub-editenv - unset boot_counter boot_success",
        )
    if environment.get("initrdfail"):
        yield Refusal(
            code="initrdfail",
            cause="initrdfail is set from a boot whose initial RAM disk failed: GRUB would boot prev_entry in the "
            "place of what is armed",
            remedy="see why that boot failed, then: grub-editenv - unset initrdfail prev_entry",
        )
    if environment.get("prev_saved_entry"):
        yield Refusal(
            code="previous-saved-entry",
            cause="prev_saved_entry is set: GRUB makes it the default again at the next boot",
            remedy="grub-editenv - unset prev_saved_entry",
        )
    saved = environment.get("saved_entry", "")
    if saved and not menu.resolved(saved):
        yield Refusal(
            code="dangling-default",
            cause=f"saved_entry names {saved!r}, which is not in the menu: GRUB would boot the first entry",
            remedy="set it to an entry that is there: grub-set-default ID",
        )


def of_menu(menu: Menu, running: str) -> Iterator[Refusal]:
    """Yield what speaks against the generated configuration."""
    if not menu.boots_once:
        yield Refusal(
            code="no-one-shot",
            cause="the configuration does not look at next_entry, or does not clear it: nothing can be booted once",
            remedy="generate it with the distribution's own /etc/grub.d/00_header: update-grub",
        )
    if not any(one.release == running for one in menu.entries):
        yield Refusal(
            code="running-kernel-not-offered",
            cause=f"the menu has no entry for the running kernel {running}, so there would be no way back to it",
            remedy="install its package again and run update-grub, or boot a kernel that is in the menu",
        )
    waits_s = menu.recordfail_s
    if waits_s is not None and not 0 <= waits_s <= _LONGEST_RECORDFAIL_S:
        told = "for ever" if waits_s < 0 else f"for {waits_s} s"
        yield Refusal(
            code="recordfail-waits",
            cause=f"after a boot that did not end well the menu waits {told} for somebody at the console",
            remedy="set GRUB_RECORDFAIL_TIMEOUT=5 in /etc/default/grub and run update-grub",
        )
