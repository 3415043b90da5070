"""GRUB with the firmware's BootNext before it: the default is GRUB's, and what boots once the firmware starts itself.

The firmware clears BootNext before it boots what that names, and then follows its own order, which leads to GRUB. So a
kernel that panics is followed by GRUB's default also where GRUB can write nothing.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.boot.firmware import copies, option, partition, record, variables
from agent.boot.firmware.record import Given
from agent.boot.firmware.refusals import of_firmware, of_partition, of_staleness, own_numbers, told, why_not
from agent.boot.grub.loader import Grub
from agent.boot.host import Host
from agent.boot.port import Loader
from agent.boot.systemd_boot.variables import are_there
from agent.boot.values import BootError, BootState, BrokenHost, Entry, Refusal

_FIRMWARE: Final = "/sys/firmware/efi"
_LABEL: Final = "kernroll trial"
# What keeps GRUB from clearing what is armed, and nothing else.
_ANSWERED: Final = frozenset({"environment-on-lvm", "environment-on-diskfilter", "environment-file-system"})
_PROGRAMS: Final = ("EFI/*/grub*.efi", "EFI/*/shim*.efi")


def suited(host: Host, loader: Grub) -> Loader:
    """Return the loader, with the firmware before it where GRUB alone could not clear what is armed."""
    if not host.path(_FIRMWARE).is_dir():
        return loader
    try:
        # What was given to the firmware is taken back from it, whatever has become of the disk.
        given = host.path(record.FILE).exists()
        if given or (not _is_plain(host, loader.environment) and loader.cannot_clear()):
            return FirmwareOnce(host, loader)
    except BootError:
        # The loader's own refusals say it.
        pass
    return loader


def _is_plain(host: Host, environment: str) -> bool:
    """Whether a file lies on a partition of a disk, as most do: that costs nothing to see, and grub-probe a while."""
    try:
        device = host.path(environment).stat().st_dev
    except OSError:
        return False
    folder = host.path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    # Parts of a software RAID are partitions, too; of btrfs the kernel shows no device at all.
    return (folder / "partition").exists() and not (folder / ".." / "md").exists()


class FirmwareOnce:
    """See Loader."""

    def __init__(self, host: Host, loader: Grub) -> None:
        self._host, self._loader = host, loader

    @property
    def adds_argument(self) -> str:
        """See Loader."""
        return self._loader.adds_argument

    def images(self) -> list[Path]:
        """See Loader."""
        place = self._host.path(partition.esp(self._host).place)
        return sorted({*self._loader.images(), *(one for name in _PROGRAMS for one in place.glob(name))})

    def read(self) -> BootState:
        """See Loader."""
        state = replace(self._loader.read(), one_shot="firmware")
        if not are_there(self._host):
            return state
        pending = variables.number(self._host, variables.NEXT)
        armed = state.next if pending is None else self._armed(pending)
        return replace(state, next=armed, booted=self._booted(state))

    def _armed(self, number: int) -> str:
        """Return the entry that boots once, or in words why what does is none that was armed here."""
        given, name = record.read(self._host), told(self._host, number)
        if given is None or number != given.number:
            return f"{name}, set by somebody else"
        if (variables.value(self._host, variables.name_of(number)) or b"").hex() != given.option:
            return f"{name}, which is not as it was written"
        if number in variables.numbers(self._host, variables.ORDER):
            return f"{name}, which somebody put into the firmware's order"
        if changed := copies.changed(self._host, given.place, given.copies):
            return f"{name}, whose {changed} is not as it was written"
        return given.entry

    def _booted(self, state: BootState) -> str:
        """Return the entry by which the firmware booted the host, by the kernel's own word; else what did in words."""
        running, current = self._host.running_release, variables.number(self._host, variables.CURRENT)
        try:
            entry = state.of_release(running)
        except BootError:
            # Which is refused.
            return ""
        if copies.is_running(self._host) or (len(entry.files) == 1 and current in own_numbers(self._host)):
            return entry.id
        return "what stands in the firmware's order" if current is None else told(self._host, current)

    def refusals(self) -> Iterator[Refusal]:
        """See Loader."""
        yield from (one for one in self._loader.refusals() if one.code not in _ANSWERED)
        yield from of_staleness(self._host, self._loader.environment)
        found = list(of_firmware(self._host))
        yield from found
        if any(one.code == "variables-missing" for one in found):
            return
        try:
            state = self._loader.read()
        except BootError:
            # Told by whoever asks for it.
            return
        if state.next:
            yield Refusal(
                code="next-in-environment",
                cause=f"next_entry is set to {state.next} in {self._loader.environment}, where GRUB cannot clear it: "
                "it would boot again and again",
                remedy="kernroll-boot disarm",
            )
        yield from of_partition(self._host, state)

    def pin(self, entry: Entry) -> None:
        """See Loader."""
        self._loader.pin(entry)
        self._settle()

    def set_default(self, entry: Entry) -> None:
        """See Loader."""
        self._loader.set_default(entry)
        self._settle()

    def set_next(self, entry: Entry) -> None:
        """See Loader."""
        host, place = self._host, partition.esp(self._host)
        if why := why_not(host, entry):
            raise BootError(f"the firmware cannot start {entry.release or entry.title}: {why}")
        if missing := copies.missing_room(host, place.place, copies.size_of(host, entry)):
            raise BootError(f"{missing} for {entry.release or entry.title}: remove what nobody needs there")
        self._take_back_next()
        if (pending := variables.number(host, variables.NEXT)) is not None:
            raise BootError(f"BootNext names {told(host, pending)}, set by somebody else: reboot into that first")
        kernel, own = copies.path(next(iter(copies.names(entry).values()))), own_numbers(host)
        data = option.made(_LABEL, place.partition, kernel, copies.told(entry))
        given = Given(
            number=own[0] if own else variables.unused(host),
            option=data.hex(),
            entry=entry.id,
            place=place.place,
            copies=copies.digests(host, entry),
        )
        # First what it will be: whatever is left of it is found again, and nothing boots before the last step.
        record.keep(host, given)
        copies.put(host, place.place, entry)
        for number in own[1:]:
            variables.remove(host, variables.name_of(number))
        variables.set_to(host, variables.name_of(given.number), data)
        variables.set_number(host, variables.NEXT, given.number)
        if (found := self.read().next) != entry.id:
            self.clear_next()
            raise BootError(f"the firmware would boot {found or 'nothing'} once and not {entry.id}")

    def clear_next(self) -> None:
        """See Loader."""
        before = self._loader.read().next
        self._loader.clear_next()
        if before:
            self._settle()
        if not are_there(self._host):
            return
        # BootNext first: nothing boots once any more, whatever of the rest is still there.
        self._take_back_next()
        for number in own_numbers(self._host):
            variables.remove(self._host, variables.name_of(number))
        if (given := record.read(self._host)) is not None:
            copies.remove(self._host, given.place)
            record.forget(self._host)

    def _take_back_next(self) -> None:
        """Take back what boots once, if it is ours; what somebody else wants to boot once is left and told."""
        host, pending = self._host, variables.number(self._host, variables.NEXT)
        given = record.read(host)
        gone = pending is not None and variables.value(host, variables.name_of(pending)) is None
        ours = given is not None and pending == given.number and gone
        if pending is not None and (ours or pending in own_numbers(host)):
            variables.remove(host, variables.NEXT)

    def _settle(self) -> None:
        """Have the file system commit what was written: GRUB reads no log, and btrfs keeps one of what was synced."""
        try:
            self._host.run("sync", "--file-system", self._loader.environment)
        except BrokenHost as error:
            raise BrokenHost(f"what GRUB reads as its default may not be on the disk yet: {error}") from error
