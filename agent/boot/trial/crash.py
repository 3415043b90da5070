"""What is left of a kernel that panicked: the lines that it wrote into the machine's own store."""

import re
from typing import Final

from agent.boot.host import Host

# Where the kernel shows its store, and where systemd moves what is in it at the beginning of a boot.
_STORES: Final = ("sys/fs/pstore", "var/lib/systemd/pstore")
_PANIC: Final = re.compile(r"(Kernel panic - not syncing[^\n]{0,300})")
_MOST_BYTES: Final = 1 << 20
_MOST_FILES: Final = 200


def panic_line(host: Host, since: float) -> str:
    """Return what a kernel said that panicked after a moment, in seconds since 1970; empty when nothing is left."""
    newest, line = since, ""
    for store in _STORES:
        for path in sorted(host.path(store).rglob("dmesg*"))[:_MOST_FILES]:
            try:
                at = path.stat().st_mtime
                said = path.read_bytes()[-_MOST_BYTES:].decode(errors="replace") if at >= newest else ""
            except OSError:
                # Moved since it was listed, or compressed in a way that this kernel cannot undo.
                continue
            if found := _PANIC.search(said):
                newest, line = at, found[1].strip()
    return line
