"""What kernroll-boot needs of a boot loader."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from agent.boot.values import BootState, Entry, Refusal


class Loader(Protocol):
    """One boot loader. Every change is on disk when the call returns; all raise BootError with what to do."""

    @property
    def adds_argument(self) -> str:
        """How every kernel is given another argument, for a person to do; {} stands for the argument."""

    def images(self) -> list[Path]:
        """Return the files that the loader itself consists of, by which it is told from another version of it."""

    def read(self) -> BootState:
        """Return what it would do, read anew."""

    def refusals(self) -> Iterator[Refusal]:
        """Yield why it cannot be trusted to boot an entry once and then the default again."""

    def pin(self, entry: Entry) -> None:
        """Make the entry the default, and see to it that a newly installed kernel does not become it."""

    def set_default(self, entry: Entry) -> None:
        """Make the entry the default."""

    def set_next(self, entry: Entry) -> None:
        """Let the entry boot once, the next time, and never again."""

    def clear_next(self) -> None:
        """Let nothing boot once, and leave nothing behind that was needed for it only."""
