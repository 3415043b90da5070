"""GRUB with a generated configuration: read from its own files, changed where they lie, and read back."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.boot.grub.environment import changed, parse_environment
from agent.boot.grub.menu import Menu, parse_menu
from agent.boot.grub.refusals import is_read_only, of_environment, of_menu, of_place
from agent.boot.host import Host
from agent.boot.values import BootError, BootState, BrokenHost, Entry, Refusal

_SETS_DEFAULT: Final = re.compile(r"^[ \t]*(?:set[ \t]+)?default=", re.MULTILINE)
# Read after /etc/default/grub, so that what stands there is left as it is.
_PINNED: Final = "/etc/default/grub.d/zz-kernroll.cfg"
_PIN_TEXT: Final = (
    "# Written by kernroll-boot: the default is what grub-set-default wrote down, not the newest kernel.\n"
    "GRUB_DEFAULT=saved\n"
    "GRUB_SAVEDEFAULT=false\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a distribution has GRUB's files, and what it calls the tool that looks at disks."""

    configuration: str
    environment: str
    probe: str

    @property
    def custom(self) -> str:
        """What the configuration reads at its end."""
        return self.configuration.replace("grub.cfg", "custom.cfg")


_LAYOUT: Final = Layout(configuration="/boot/grub/grub.cfg", environment="/boot/grub/grubenv", probe="grub-probe")
# What GRUB consists of before it reads its configuration, by platform.
_IMAGES: Final = (
    "boot/grub*/*/core.img",
    "boot/grub*/*/core.efi",
    "boot/efi/EFI/*/grub*.efi",
    "boot/efi/EFI/*/shim*.efi",
)


def is_there(host: Host) -> bool:
    """Whether this loader's configuration is on the host."""
    return host.path(_LAYOUT.configuration).exists() and host.has("grub-editenv") and host.has("update-grub")


class Grub:
    """See Loader."""

    adds_argument = "add {} to GRUB_CMDLINE_LINUX in /etc/default/grub and run update-grub"

    def __init__(self, host: Host, layout: Layout = _LAYOUT) -> None:
        self._host, self._layout = host, layout

    def images(self) -> list[Path]:
        """See Loader."""
        found = sorted(path for pattern in _IMAGES for path in self._host.root.glob(pattern))
        if not found:
            raise BootError(
                "GRUB's own image is neither below /boot/grub nor below /boot/efi/EFI, so that nobody could tell when "
                "it changes: mount /boot/efi, or run grub-install"
            )
        return found

    def read(self) -> BootState:
        """See Loader."""
        menu, environment = self._menu(), self._environment()
        saved, armed = environment.get("saved_entry", ""), environment.get("next_entry", "")
        default = menu.resolved(saved if menu.is_saved else menu.default)
        return BootState(
            loader="grub",
            entries=menu.entries,
            default=default,
            next=(menu.resolved(armed) or armed) if armed else "",
            # A position or a title is whichever kernel stands there.
            pinned=menu.is_saved and bool(saved) and default == saved and self._leaves_default(),
        )

    def refusals(self) -> Iterator[Refusal]:
        """See Loader."""
        menu = self._menu()
        yield from of_menu(menu, self._host.running_release)
        if _SETS_DEFAULT.search(self._host.text(self._layout.custom) or ""):
            yield Refusal(
                code="custom-default",
                cause=f"{self._layout.custom} sets the default after everything else, armed or not",
                remedy=f"remove that line from {self._layout.custom}",
            )
        try:
            environment = self._environment()
        except BootError as error:
            yield Refusal(
                code="environment-damaged",
                cause=str(error),
                remedy=f"grub-editenv {self._layout.environment} create, and pin the default again",
            )
            return
        yield from of_environment(environment, menu)
        if not self._host.path(self._layout.environment).exists():
            yield Refusal(
                code="environment-missing",
                cause=f"{self._layout.environment} is not there, so nothing can be armed or written down",
                remedy=f"grub-editenv {self._layout.environment} create",
            )
            return
        try:
            abstractions, file_system = self._place()
        except BootError as error:
            yield Refusal(
                code="environment-place-unknown",
                cause=f"where GRUB's environment lies cannot be told, nor whether GRUB can write there: {error}",
                remedy=f"see what grub-probe says of {self._layout.environment}; /boot may not be mounted",
            )
            return
        yield from of_place(abstractions, file_system, environment)

    @property
    def environment(self) -> str:
        """The file of GRUB's environment."""
        return self._layout.environment

    def cannot_clear(self) -> bool:
        """Whether GRUB reads its environment as the host wrote it, and cannot clear what boots once in it.

        Raises BootError where that cannot be told.
        """
        return is_read_only(*self._place(), self._environment())

    def _place(self) -> tuple[str, str]:
        """Return what lies between the environment and its disks, and its file system."""
        found = (
            self._host.run(self._layout.probe, f"--target={one}", self.environment) for one in ("abstraction", "fs")
        )
        abstractions, file_system = found
        return abstractions, file_system.strip()

    def pin(self, entry: Entry) -> None:
        """See Loader."""
        # In this order: whenever the power fails, the default is the entry or what it was before.
        self._write_default(entry)
        if not self._menu().is_saved or self._host.text(_PINNED) != _PIN_TEXT:
            self._host.write(_PINNED, _PIN_TEXT)
            self._host.run("update-grub")
            self._host.sync_file(self._layout.configuration)
        if not self._menu().is_saved:
            raise BootError(
                f"GRUB_DEFAULT=saved in {_PINNED} had no effect on {self._layout.configuration}: something else in "
                "/etc/default/grub.d or /etc/grub.d sets the default; remove it"
            )
        self._expect_default(entry)

    def set_default(self, entry: Entry) -> None:
        """See Loader."""
        self._write_default(entry)
        self._expect_default(entry)

    def _write_default(self, entry: Entry) -> None:
        self._set("saved_entry", entry.id)
        if (saved := self._environment().get("saved_entry", "")) != entry.id:
            raise BootError(f"{self._layout.environment} says {saved!r} where {entry.id!r} was written")

    def _expect_default(self, entry: Entry) -> None:
        if (found := self.read().default) != entry.id:
            raise BootError(f"GRUB would boot {found or 'nothing that is in its menu'} by default and not {entry.id}")

    def set_next(self, entry: Entry) -> None:
        """See Loader."""
        self._set("next_entry", entry.id)
        if (found := self.read().next) != entry.id:
            self._set("next_entry", None)
            raise BootError(f"GRUB would boot {found or 'nothing'} once and not {entry.id}")

    def clear_next(self) -> None:
        """See Loader."""
        if "next_entry" not in self._environment():
            return
        self._set("next_entry", None)
        if found := self.read().next:
            raise BootError(f"{found} is still armed in {self._layout.environment} after it was taken back")

    def _leaves_default(self) -> bool:
        """Whether a newly installed kernel leaves saved_entry as it is."""
        return True

    def _set(self, name: str, value: str | None) -> None:
        """Change the environment where it lies: its tools empty the file first, and GRUB replays no journal."""
        place = self._layout.environment
        block = self._host.data(place)
        if block is None:
            raise BootError(f"{place} is not there: `grub-editenv {place} create`")
        self._host.write_in_place(place, changed(block, name, value, place))

    def _menu(self) -> Menu:
        text = self._host.text(self._layout.configuration)
        if text is None:
            raise BrokenHost(f"{self._layout.configuration} is not there: run update-grub")
        return parse_menu(text)

    def _environment(self) -> Mapping[str, str]:
        block = self._host.data(self._layout.environment)
        return {} if block is None else parse_environment(block, self._layout.environment)
