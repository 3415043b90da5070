"""The mark that an agent leaves of its boot, and the logs that kernels keep across a reboot (pstore)."""

import json
from pathlib import Path

from agent.adapters.durable import replace_file
from agent.domain.previous_boot import BootMark

# Where the kernel shows its store, and where systemd moves what is in it at the beginning of a boot.
STORES = (Path("/sys/fs/pstore"), Path("/var/lib/systemd/pstore"))
_MOST_BYTES = 1 << 20


class BootMarkFile:
    """One small file, replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> BootMark | None:
        """Return the mark; None when there is none that can be read."""
        try:
            saved = json.loads(self._path.read_bytes())
            return BootMark(
                boot_id=str(saved["boot_id"]),
                stopped=bool(saved["stopped"]),
                known=tuple(str(each) for each in saved["known"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, mark: BootMark) -> None:
        """Make the mark durable. Raises OSError."""
        content = {"boot_id": mark.boot_id, "stopped": mark.stopped, "known": mark.known}
        replace_file(self._path, json.dumps(content).encode())


def kept_logs(stores: tuple[Path, ...] = STORES) -> dict[str, str]:
    """Return the kept logs that this process may read, by path."""
    found = {}
    for store in stores:
        for path in sorted(store.rglob("dmesg-*")) if store.is_dir() else ():
            try:
                found[str(path)] = path.read_bytes()[:_MOST_BYTES].decode("utf-8", "replace")
            except OSError:
                # Removed since it was listed, or compressed in a way this kernel cannot undo.
                continue
    return found
