"""systemd-boot: read as it would read itself, changed through bootctl, and read back from the firmware's variables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.boot.host import Host
from agent.boot.systemd_boot import variables
from agent.boot.systemd_boot.entries import Offer, chosen, offers, settings
from agent.boot.systemd_boot.refusals import (
    Preferences,
    not_selectable,
    of_default,
    of_offers,
    of_variables,
    of_waiting,
)
from agent.boot.values import BootError, BootState, BrokenHost, Entry, Refusal

_DEFAULT, _ONCE = "LoaderEntryDefault", "LoaderEntryOneShot"
# Where systemd-boot lies on the ESP, and what may stand before it.
_PROGRAMS: Final = ("systemd/systemd-boot*.efi", "boot/boot*.efi", "*/shim*.efi")


def loader_info(host: Host) -> str:
    """Return what the loader that booted the host calls itself; empty when it does not tell."""
    return variables.text_of(host, "LoaderInfo")


def is_there(host: Host) -> bool:
    """Whether this loader is installed on the host, whichever booted it."""
    return host.has("bootctl") and any(
        host.path(f"{place}/loader/entries").is_dir() for place in ("/efi", "/boot", "/boot/efi")
    )


class SystemdBoot:
    """See Loader."""

    adds_argument = (
        "add {} to /etc/kernel/cmdline and add the kernels again: kernel-install add-all, or kernel-install add "
        "RELEASE IMAGE for each"
    )

    def __init__(self, host: Host) -> None:
        self._host = host
        # Where the partitions are does not change while something is done.
        self._places: list[str] = []

    def read(self) -> BootState:
        """See Loader."""
        found, wanted = self._offers(), self._preferences()
        default = wanted.default_of(found)
        armed = variables.text_of(self._host, _ONCE)
        once = chosen(found, armed)
        booted = chosen(found, variables.text_of(self._host, "LoaderEntrySelected"))
        return BootState(
            loader="systemd-boot",
            entries=tuple(one.entry for one in found),
            default=default.entry.id if default else "",
            next=once.entry.id if once else armed,
            pinned=default is not None and wanted.names(default) and self._persists(_DEFAULT),
            booted=booted.entry.id if booted else "",
        )

    def refusals(self) -> Iterator[Refusal]:
        """See Loader."""
        unusable = list(of_variables(self._host))
        yield from unusable
        if unusable:
            return
        try:
            found, wanted = self._offers(), self._preferences()
        except BootError as error:
            yield Refusal(
                code="entries-unreadable",
                cause=f"what systemd-boot offers cannot be told: {error}",
                remedy="mount the EFI system partition at /efi, /boot or /boot/efi, and see what bootctl status says",
            )
            return
        yield from of_offers(found, self._host.running_release, variables.version_of(loader_info(self._host)))
        yield from of_default(found, wanted, variables.text_of(self._host, _ONCE))
        yield from of_waiting(self._host, wanted)

    def pin(self, entry: Entry) -> None:
        """See Loader."""
        # The variable outweighs loader.conf and the order of the entries, so that no kernel becomes it by being new.
        self.set_default(entry)
        if not self.read().pinned:
            raise BootError(f"{_DEFAULT} names {entry.id} and would not outlive a reboot: see what bootctl status says")

    def set_default(self, entry: Entry) -> None:
        """See Loader."""
        self._require_selectable(entry)
        self._set("set-default", _DEFAULT, entry.id)
        if (found := self.read().default) != entry.id:
            raise BootError(
                f"systemd-boot would boot {found or 'nothing that it offers'} by default and not {entry.id}: "
                "kernroll-boot check says what decides in its place"
            )

    def set_next(self, entry: Entry) -> None:
        """See Loader."""
        self._require_selectable(entry)
        self._set("set-oneshot", _ONCE, entry.id)
        if (found := self.read().next) != entry.id:
            self._set("set-oneshot", _ONCE, "")
            raise BootError(f"systemd-boot would boot {found or 'nothing'} once and not {entry.id}")

    def clear_next(self) -> None:
        """See Loader."""
        if variables.read(self._host, _ONCE) is not None:
            self._set("set-oneshot", _ONCE, "")

    def images(self) -> list[Path]:
        """See Loader."""
        esp = self._host.path(self._partitions()[0])
        found = {path for pattern in _PROGRAMS for path in esp.glob(_any_case(f"efi/{pattern}")) if path.is_file()}
        own = variables.text_of(self._host, "LoaderImageIdentifier").replace("\\", "/").lstrip("/")
        if own and (esp / own).is_file():
            found.add(esp / own)
        if not found:
            raise BootError(
                "systemd-boot itself is not below EFI on the EFI system partition, so that nobody could tell when it "
                "changes: bootctl install, or mount the partition by which the host boots"
            )
        return sorted(found)

    def _set(self, verb: str, name: str, value: str) -> None:
        self._host.run("bootctl", verb, value)
        found = variables.read(self._host, name)
        if (found.text if found else "") != value or (found is not None and not found.persists):
            told = f"{found.text!r}{'' if found.persists else ', until the next reboot'}" if found else "nothing"
            raise BootError(f"the EFI variable {name} holds {told} where bootctl {verb} wrote {value!r}")

    def _persists(self, name: str) -> bool:
        found = variables.read(self._host, name)
        return found is not None and found.persists

    def _require_selectable(self, entry: Entry) -> None:
        version = variables.version_of(loader_info(self._host))
        for one in self._offers():
            if one.entry.id == entry.id and (why := not_selectable(one, version)):
                raise BootError(f"{why.cause}: {why.remedy}")

    def _preferences(self) -> Preferences:
        said = settings(self._host.text(f"{self._partitions()[0]}/loader/loader.conf") or "")
        return Preferences(
            variables={
                name: variables.text_of(self._host, name)
                for name in (_DEFAULT, "LoaderEntryPreferred", "LoaderEntrySysFail", "LoaderEntryLastBooted")
            },
            configured={key: values[-1] for key, values in said.items()},
        )

    def _offers(self) -> list[Offer]:
        return offers(self._host, self._partitions())

    def _partitions(self) -> list[str]:
        """Return where the ESP is mounted, and where entries of another partition are."""
        if not self._places:
            told = [self._host.run("bootctl", option).strip() for option in ("--print-esp-path", "--print-boot-path")]
            if not all(told):
                raise BrokenHost("bootctl does not say where the EFI system partition is: mount it at /efi")
            self._places = list(dict.fromkeys(told))
        return self._places


def _any_case(pattern: str) -> str:
    """FAT knows no case, and file systems on which a copy lies do."""
    return "".join(f"[{one.lower()}{one.upper()}]" if one.isalpha() else one for one in pattern)
