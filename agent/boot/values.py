"""What a boot loader knows, and what speaks against leaving a host to it."""

from dataclasses import dataclass
from typing import Final

_SINGLE_USER: Final = frozenset({"single", "recovery", "systemd.unit=rescue.target", "systemd.unit=emergency.target"})


class BootError(Exception):
    """It cannot be done; the text says what is wrong and what to do."""


class Busy(BootError):
    """Not now; the same asked again a little later may be done."""


class BrokenHost(BootError):
    """A tool or a file of the host does not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One way to boot that the loader offers."""

    # As the loader takes it; of an entry in a submenu with what stands above it.
    id: str
    title: str
    # Empty for what is no Linux kernel.
    release: str
    # The kernel's command line.
    arguments: tuple[str, ...] = ()
    # The files that it loads, as the host names them.
    files: tuple[str, ...] = ()
    # Whether it ends in a single-user shell.
    recovery: bool = False


def is_single_user(arguments: tuple[str, ...]) -> bool:
    """Whether a kernel with this command line ends in a single-user shell."""
    return not _SINGLE_USER.isdisjoint(arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootState:
    """What the loader would do."""

    loader: str
    entries: tuple[Entry, ...]
    # Id of the entry that boots when nothing else is asked for; empty when what is asked for resolves to none.
    default: str
    # Id of the entry that boots once, or the name that is in no menu; empty when nothing is armed.
    next: str
    # Whether the default is one kernel's own entry, which a newly installed kernel leaves alone.
    pinned: bool
    # Id of the entry by which the host was booted; empty where the loader does not tell.
    booted: str = ""
    # Who lets an entry boot once and forgets it before: "loader", or "firmware" by its BootNext.
    one_shot: str = "loader"

    def of_release(self, release: str) -> Entry:
        """Return the entry that boots a kernel normally; raises BootError where there is not exactly one."""
        found = [one for one in self.entries if one.release == release and not one.recovery]
        # The menu's first entry stands again among the others, under a name that will be another kernel's one day.
        nested = [one for one in found if ">" in one.id] or found
        if len(nested) == 1:
            return nested[0]
        offered = ", ".join(sorted({one.release for one in self.entries if one.release})) or "no kernel"
        if not nested:
            raise BootError(f"the loader has no entry for {release}; it offers {offered}. Install the kernel first.")
        raise BootError(
            f"the loader has {len(nested)} entries for {release} ({', '.join(one.id for one in nested)}): "
            "which one is meant cannot be told. Remove all but one."
        )

    def entry(self, entry_id: str) -> Entry | None:
        """Return the entry of this id, or None."""
        return next((one for one in self.entries if one.id == entry_id), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why nothing may be risked on this host."""

    # For programs: "environment-on-lvm".
    code: str
    # What is so, and what follows from it.
    cause: str
    # What to do.
    remedy: str
