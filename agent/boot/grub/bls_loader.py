"""GRUB on Fedora and its relatives: the environment of others, and entries in files of their own."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from agent.boot.grub.bls import CALLS, bls_menu
from agent.boot.grub.loader import Grub, Layout
from agent.boot.grub.menu import Menu
from agent.boot.host import Host
from agent.boot.values import BootError, BrokenHost, Entry, Refusal

_LAYOUT: Final = Layout(configuration="/boot/grub2/grub.cfg", environment="/boot/grub2/grubenv", probe="grub2-probe")
# GRUB's own module for entries, which Fedora's former GRUBs have under another name: where it is, a name that begins
# with a digit is a position, as everywhere else in GRUB.
_OWN_MODULES: Final = ("boot/grub2/*/blsuki.mod", "usr/lib/grub/*/blsuki.mod")
_ENTRIES: Final = "/boot/loader/entries"
_USUAL_PLACES: Final = frozenset({"", "/loader/entries", "/boot/loader/entries"})
# Says whether a newly installed kernel becomes the default.
_NEW_KERNELS: Final = "/etc/sysconfig/kernel"
_UPDATES: Final = re.compile(r"^[ \t]*UPDATEDEFAULT=.*$", re.MULTILINE)
_KEPT: Final = "UPDATEDEFAULT=no"
_SETTINGS: Final = "/etc/default/grub"
_PANIC: Final = re.compile(r"^[ \t]*GRUB_CMDLINE_LINUX(?:_DEFAULT)?=.*\bpanic=-?[1-9]", re.MULTILINE)


def is_there(host: Host) -> bool:
    """Whether this loader's configuration is on the host."""
    return host.has("grub2-editenv") and CALLS.search(host.text(_LAYOUT.configuration) or "") is not None


class BlsGrub(Grub):
    """See Loader."""

    adds_argument = "grubby --update-kernel=ALL --args={}"

    def __init__(self, host: Host) -> None:
        super().__init__(host, _LAYOUT)

    def refusals(self) -> Iterator[Refusal]:
        """See Loader."""
        for one in super().refusals():
            yield replace(one, remedy=_as_here(one.remedy))
        try:
            environment, menu = self._environment(), self._menu()
        except BootError:
            # Told above.
            return
        if mistaken := [one.id for one in menu.entries if one.release and menu.resolved(one.id) != one.id]:
            yield Refusal(
                code="names-are-positions",
                cause="this GRUB takes an entry's name that begins with a digit for a position in its menu, as in "
                f"{mistaken[0]}",
                remedy="write a word that begins with a letter to /etc/kernel/entry-token and add the kernels again by "
                "kernel-install",
            )
        if environment.get("menu_show_once") or environment.get("menu_show_once_timeout"):
            yield Refusal(
                code="menu-waits",
                cause="menu_show_once is set: at the next boot the menu waits for somebody at the console",
                remedy="grub2-editenv - unset menu_show_once menu_show_once_timeout",
            )
        if (place := environment.get("blsdir", "")) not in _USUAL_PLACES:
            yield Refusal(
                code="entries-elsewhere",
                cause=f"blsdir says that GRUB takes its entries from {place}, which are not read here",
                remedy="leave this host out",
            )
        if "GRUB2_PASSWORD=" in (self._host.text("/boot/grub2/user.cfg") or "") and not self._are_open():
            yield Refusal(
                code="menu-asks",
                cause="a password is set in /boot/grub2/user.cfg, and entries boot only once somebody has given it",
                remedy=f"add the line “grub_arg --unrestricted” to the entries in {_ENTRIES}",
            )
        arguments = [word for one in menu.entries if one.release for word in one.arguments]
        if any(word.startswith("panic=") for word in arguments) and not self._keeps_panic():
            yield Refusal(
                code="arguments-not-kept",
                cause=f"panic= is on the entries' command lines and not in {_SETTINGS}, from which grub2-mkconfig "
                "writes them anew when that file is newer",
                remedy=f"add panic=10 to GRUB_CMDLINE_LINUX in {_SETTINGS}",
            )

    def pin(self, entry: Entry) -> None:
        """See Loader."""
        # In this order: whenever the power fails, the default is the entry or what it was before.
        self._write_default(entry)
        if not self._menu().is_saved:
            raise BootError(
                f"{_LAYOUT.configuration} does not take the default from saved_entry: set GRUB_DEFAULT=saved in "
                f"{_SETTINGS} and run grub2-mkconfig -o {_LAYOUT.configuration}"
            )
        if not self._leaves_default():
            text = self._host.text(_NEW_KERNELS) or ""
            replaced = _UPDATES.sub(_KEPT, text)
            self._host.write(_NEW_KERNELS, replaced if _KEPT in replaced else f"{text.rstrip()}\n{_KEPT}\n".lstrip())
        self._expect_default(entry)

    def _leaves_default(self) -> bool:
        found = _UPDATES.findall(self._host.text(_NEW_KERNELS) or "")
        return not found or found[-1].partition("=")[2].strip("\"' \t") != "yes"

    def _keeps_panic(self) -> bool:
        return _PANIC.search(self._host.text(_SETTINGS) or "") is not None

    def _are_open(self) -> bool:
        return all("--unrestricted" in text for text in self._texts().values())

    def _menu(self) -> Menu:
        text = self._host.text(_LAYOUT.configuration)
        if text is None:
            raise BrokenHost(f"{_LAYOUT.configuration} is not there: run grub2-mkconfig -o {_LAYOUT.configuration}")
        own = any(True for pattern in _OWN_MODULES for _ in self._host.root.glob(pattern))
        return bls_menu(text, self._texts(), self._environment(), ids_first=not own)

    def _texts(self) -> dict[str, str]:
        folder = self._host.path(_ENTRIES)
        try:
            names = sorted(path.name for path in folder.iterdir() if path.is_file())
        except OSError as error:
            raise BrokenHost(f"{_ENTRIES} cannot be read: {error.strerror}") from error
        return {name: self._host.text(f"{_ENTRIES}/{name}") or "" for name in names if name.endswith(".conf")}


def _as_here(remedy: str) -> str:
    """Return a remedy with the tools by the names that they have here."""
    named = re.sub(r"\bgrub-(?=editenv|probe|set-default|install)", "grub2-", remedy)
    return named.replace("update-grub", f"grub2-mkconfig -o {_LAYOUT.configuration}")
