"""What keeps GRUB from booting an entry once and then the default again. Each is told with its cause and its remedy."""

from collections.abc import Iterator, Mapping
from typing import Final

from agent.boot.grub.menu import Menu
from agent.boot.values import Refusal

# GRUB reads from these and cannot write to them: what boots "once" boots for ever.
_UNWRITABLE: Final = {"lvm": "LVM", "diskfilter": "a software RAID", "cryptodisk": "an encrypted disk", "luks": "LUKS"}
# Others have no place of their own for a block that GRUB writes in place.
_WRITABLE_FILE_SYSTEMS: Final = frozenset({"ext2", "ext3", "ext4", "fat", "vfat", "msdos", "xfs"})
# These GRUB reads as the host wrote them, below any of them: several disks as one, and several pieces as one.
_PASSED_THROUGH: Final = frozenset({"lvm", "diskfilter", "mdraid09", "mdraid1x", "raid5rec", "raid6rec"})
_LONGEST_WAIT_S: Final = 30
_FOR_EVER_S: Final = 1 << 31


def is_read_only(abstractions: str, file_system: str, environment: Mapping[str, str]) -> bool:
    """Whether GRUB reads there what the host wrote last, and cannot clear it; both as `grub-probe` says them.

    An encrypted disk waits for somebody who opens it; ZFS and others show GRUB what they had committed before that.
    """
    words = set(abstractions.split())
    if not words <= _PASSED_THROUGH or "env_block" in environment:
        return False
    return file_system == "btrfs" or (bool(words) and file_system in _WRITABLE_FILE_SYSTEMS)


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
    armed = environment.get("next_entry", "")
    if armed and not menu.resolved(armed):
        yield Refusal(
            code="dangling-next",
            cause=f"{armed!r} is armed, which is not in the menu: GRUB would boot the first entry, the newest kernel",
            remedy="kernroll-boot disarm",
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
    longest_s = max(menu.waits_s, key=lambda one: _FOR_EVER_S if one < 0 else one, default=0)
    if not 0 <= longest_s <= _LONGEST_WAIT_S:
        told = "for ever" if longest_s < 0 else f"for {longest_s} s"
        yield Refusal(
            code="menu-waits",
            cause=f"the menu may wait {told} for somebody at the console",
            remedy="set GRUB_TIMEOUT=5 and GRUB_RECORDFAIL_TIMEOUT=5 in /etc/default/grub and run update-grub",
        )
    if menu.asks:
        yield Refusal(
            code="menu-asks",
            cause="superusers is set, and entries boot only once somebody has given a password",
            remedy="add --unrestricted to CLASS in /etc/grub.d/10_linux and run update-grub",
        )
    if menu.tries_twice:
        yield Refusal(
            code="boots-twice",
            cause="entries call initrdfail: after a trial that panics GRUB boots it a second time",
            remedy="remove GRUB_FORCE_PARTUUID from /etc/default/grub and its folder, and run update-grub",
        )
