"""What kernroll-boot has written down of this host; it is passed on as it is."""

from pathlib import Path
from typing import Final

# As agent.boot.trial.status writes it. It is a program of its own, and may be of another version.
STATUS: Final = Path("/var/lib/kernroll-boot/status.json")
_MOST_BYTES: Final = 256 << 10


def read_boot_status(path: Path = STATUS) -> str:
    """Return the document's text; empty where there is none, and where it cannot be what that program writes."""
    try:
        with path.open("rb") as file:
            found = file.read(_MOST_BYTES + 1)
        return found.decode() if len(found) <= _MOST_BYTES else ""
    except (OSError, ValueError):
        return ""
