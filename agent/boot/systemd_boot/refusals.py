"""What keeps systemd-boot from booting an entry once and then the default again, each with its cause and remedy."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.boot.host import Host
from agent.boot.systemd_boot import variables
from agent.boot.systemd_boot.entries import Offer, chosen, is_pattern
from agent.boot.values import Refusal

_LONGEST_WAIT_S: Final = 30
# What bootctl writes for "menu-force".
_FOR_EVER: Final = (1 << 32) - 1
_NUMBER: Final = re.compile(r"[0-9]{1,20}")
# The first release of a series that takes the counter from an entry's id, as bootctl does.
_NAMES_WITHOUT_COUNTER: Final = (257, 13)
# These do not count boots as they should: systemd#40192, systemd#40405.
_MISCOUNT: Final = range(258, 260)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What was said about the default, and how long the menu waits."""

    # EFI variables, and loader.conf; by name, empty or absent when not set.
    variables: Mapping[str, str]
    configured: Mapping[str, str]

    def default_of(self, found: Sequence[Offer]) -> Offer | None:
        """Return what boots when nothing is armed, in the order in which systemd-boot asks."""
        usable = [one for one in found if not one.is_exhausted]
        for place, name in (
            (usable, self.variables.get("LoaderEntryPreferred", "")),
            (usable, self.configured.get("preferred", "")),
            (found, self.variables.get("LoaderEntryDefault", "")),
            (found, self.configured.get("default", "")),
        ):
            wanted = self.variables.get("LoaderEntryLastBooted", "") if name.lower() == "@saved" else name
            if one := chosen(place, wanted):
                return one
        return found[0] if found else None

    def names(self, one: Offer) -> bool:
        """Whether the variable that outlives new kernels names this entry and no other."""
        said = self.variables.get("LoaderEntryDefault", "")
        return not is_pattern(said) and said.lower() == one.entry.id.lower()


def not_selectable(one: Offer, version: tuple[int, int]) -> Refusal | None:
    """Return why an entry cannot be chosen by its id, or must not be; None when it can."""
    name, told = one.file.rpartition("/")[2], ".".join(str(part) for part in version)
    if is_pattern(one.entry.id):
        return Refusal(
            code="entry-is-pattern",
            cause=f"{name} has signs in its name that systemd-boot takes for a pattern",
            remedy="add the kernel again with kernel-install, by another KERNEL_INSTALL_ENTRY_TOKEN",
        )
    if one.tries_left is None:
        return None
    if one.is_exhausted:
        return Refusal(
            code="no-tries-left",
            cause=f"{name} was booted as often as it may be, and was never marked good",
            remedy="see why, then add the kernel again with kernel-install",
        )
    cause = ""
    if version < _NAMES_WITHOUT_COUNTER:
        cause = f"systemd-boot {told} takes the counter for a part of its name, which changes with every boot"
    elif version[0] in _MISCOUNT:
        cause = f"systemd-boot {told} does not count as it should"
    elif one.entry.id != one.entry.id.lower():
        cause = f"it has capital letters, with which systemd-boot {told} does not find it by its name"
    if not cause:
        return None
    return Refusal(
        code="entry-counted",
        cause=f"{name} counts its boots, and {cause}",
        remedy="remove /etc/kernel/tries and add the kernel again with kernel-install",
    )


def of_variables(host: Host) -> Iterator[Refusal]:
    """Yield what speaks against the firmware's variables, and against who booted the host."""
    if not variables.are_there(host):
        yield Refusal(
            code="variables-missing",
            cause=f"{variables.FOLDER} is empty: nothing can be armed, and what the firmware holds cannot be told",
            remedy=f"mount -t efivarfs efivarfs {variables.FOLDER}, and see that the kernel was not booted with noefi",
        )
        return
    info = variables.text_of(host, "LoaderInfo")
    if not info.startswith("systemd-boot"):
        yield Refusal(
            code="booted-otherwise",
            cause=f"the host was booted by {info or 'a loader that does not tell its name'} and not by systemd-boot: "
            "what bootctl writes would be ignored",
            remedy="make systemd-boot the first in the firmware's order (bootctl install, efibootmgr) and reboot",
        )
    if variables.are_read_only(host):
        yield Refusal(
            code="variables-read-only",
            cause=f"{variables.FOLDER} is mounted read-only: nothing can be armed or taken back",
            remedy=f"mount -o remount,rw {variables.FOLDER}",
        )


def of_offers(found: Sequence[Offer], running: str, version: tuple[int, int]) -> Iterator[Refusal]:
    """Yield what speaks against the entries themselves."""
    twice = [name for name, count in Counter(one.entry.id.lower() for one in found).items() if count > 1]
    for name in twice:
        files = ", ".join(one.file for one in found if one.entry.id.lower() == name)
        yield Refusal(
            code="entry-twice",
            cause=f"{files} are one entry to systemd-boot: which of them boots, or is marked good, cannot be told",
            remedy="remove all but the one that was written last",
        )
    own = [one for one in found if one.entry.release == running and not one.entry.recovery]
    if not own:
        yield Refusal(
            code="running-kernel-not-offered",
            cause=f"no entry has the running kernel {running}, so there would be no way back to it",
            remedy=f"kernel-install add {running} /boot/vmlinuz-{running}, or boot a kernel that is in the menu",
        )
    for one in own:
        if why := not_selectable(one, version):
            yield why
    for one in found:
        if not one.entry.release and one.file.lower().endswith(".efi"):
            yield Refusal(
                code="image-without-release",
                cause=f"{one.file} does not say which kernel it has, in a section .uname",
                remedy="make it with ukify build --uname=RELEASE, or remove it",
            )


def of_default(found: Sequence[Offer], wanted: Preferences, armed: str) -> Iterator[Refusal]:
    """Yield through what something else decides what boots."""
    if name := wanted.variables.get("LoaderEntryPreferred", ""):
        yield Refusal(
            code="preferred-entry",
            cause=f"the EFI variable LoaderEntryPreferred names {name!r}, which outweighs the default",
            remedy='bootctl set-preferred ""',
        )
    if name := wanted.configured.get("preferred", ""):
        yield Refusal(
            code="preferred-entry",
            cause=f"loader.conf prefers {name!r}, which outweighs the default",
            remedy="remove the line “preferred” from loader/loader.conf on the EFI system partition",
        )
    if name := wanted.variables.get("LoaderEntrySysFail", ""):
        yield Refusal(
            code="failure-entry",
            cause=f"the EFI variable LoaderEntrySysFail names {name!r}, which boots in the place of all others when "
            "the firmware tells of a failure",
            remedy='bootctl set-sysfail ""',
        )
    default = wanted.variables.get("LoaderEntryDefault", "")
    if default and default.lower() != "@saved" and chosen(found, default) is None:
        yield Refusal(
            code="dangling-default",
            cause=f"the default is {default!r}, which is not offered: systemd-boot would boot what it sorts first",
            remedy="set it to an entry that is there: bootctl list, bootctl set-default ID",
        )
    if armed and chosen(found, armed) is None:
        yield Refusal(
            code="dangling-next",
            cause=f"{armed!r} is armed, which is not offered: nothing would be tried",
            remedy="kernroll-boot disarm",
        )


def of_waiting(host: Host, wanted: Preferences) -> Iterator[Refusal]:
    """Yield why the menu may wait for somebody at the console."""
    if once := variables.text_of(host, "LoaderConfigTimeoutOneShot"):
        yield Refusal(
            code="menu-waits",
            cause=f"the menu is asked for at the next boot, for {once} s",
            remedy='bootctl set-timeout-oneshot ""',
        )
    said = variables.text_of(host, "LoaderConfigTimeout")
    timeout = said or wanted.configured.get("timeout", "")
    # What is no number is hidden, disabled, or not understood and left aside.
    longest_s = _FOR_EVER if timeout == "menu-force" else int(timeout) if _NUMBER.fullmatch(timeout) else 0
    if longest_s > _LONGEST_WAIT_S:
        told = "for ever" if longest_s >= _FOR_EVER else f"for {longest_s} s"
        yield Refusal(
            code="menu-waits",
            cause=f"the menu waits {told} for somebody at the console",
            remedy=f"bootctl set-timeout 5{'' if said else ', or timeout 5 in loader/loader.conf'}",
        )
