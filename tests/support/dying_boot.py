"""kernroll-boot that dies at one of the moments in which it touches the host: `dying_boot.py POINT ROOT VERB …`.

Points count from 1: before and after each file and each tool in the order in which they come, but for tools that only
look. It exits with 9 where it died, and prints how many there were where it did not.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.boot import main
from agent.boot.host import Host
from agent.boot.trial import status

_DIED = 9
# They look and change nothing: whoever dies beside one dies as before or after what comes next.
_LOOKERS = frozenset({"grub-probe", "grub2-probe", "findmnt"})
_Told = TypeVar("_Told")


class DyingHost(Host):
    """The host, as far as it gets."""

    points = 0
    dies_at = 0
    counts = True

    def _point(self) -> None:
        if not DyingHost.counts:
            return
        DyingHost.points += 1
        if DyingHost.points == DyingHost.dies_at:
            # As a power failure does it: nothing is told to anybody.
            os._exit(_DIED)

    def run(self, *command: str) -> str:
        """See Host."""
        if command[0] in _LOOKERS:
            return super().run(*command)
        self._point()
        told = super().run(*command)
        self._point()
        return told

    def write(self, name: str, text: str) -> None:
        """See Host."""
        self._point()
        super().write(name, text)
        self._point()

    def write_in_place(self, name: str, data: bytes) -> None:
        """See Host."""
        self._point()
        super().write_in_place(name, data)
        self._point()

    def write_variable(self, name: str, data: bytes) -> None:
        """See Host."""
        self._point()
        super().write_variable(name, data)
        self._point()

    def copy(self, source: str, target: str) -> None:
        """See Host."""
        self._point()
        super().copy(source, target)
        self._point()

    def remove(self, name: str) -> None:
        """See Host."""
        self._point()
        super().remove(name)
        self._point()


def uncounted(work: Callable[..., _Told]) -> Callable[..., _Told]:
    """Return the work without moments of its own: what is told to the agent afterwards changes nothing that boots."""

    def done(*given: object, **named: object) -> _Told:
        DyingHost.counts = False
        try:
            return work(*given, **named)
        finally:
            DyingHost.counts = True

    return done


if __name__ == "__main__":
    point, root, *asked = sys.argv[1:]
    DyingHost.dies_at = int(point)
    main.Host = DyingHost  # stands in for it
    status.document, status.keep = uncounted(status.document), uncounted(status.keep)
    code = main.main(["--root", str(Path(root)), *asked])
    print(DyingHost.points)
    sys.exit(code)
