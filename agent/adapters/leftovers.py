"""The leftovers on disk: one small file, replaced whole."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.adapters.durable import replace_file
from agent.domain.leftovers import (
    BrdModule,
    Leftover,
    LoopDevice,
    MadeDirectory,
    MadeFile,
    Noted,
    SwapFilesBelow,
    SwapHeader,
    SwapOn,
    Workers,
    ZramAdding,
    ZramDevice,
    ZramModule,
    ZswapSettings,
)

# Names on disk stay as they are: the next version's sweep reads what this one noted.
_KINDS: dict[str, type[Leftover]] = {
    "swap_on": SwapOn,
    "swap_header": SwapHeader,
    "brd": BrdModule,
    "zram_module": ZramModule,
    "zram_adding": ZramAdding,
    "zram_device": ZramDevice,
    "loop_device": LoopDevice,
    "made_file": MadeFile,
    "made_directory": MadeDirectory,
    "swap_files_below": SwapFilesBelow,
    "zswap_settings": ZswapSettings,
    "workers": Workers,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class LeftoversFile:
    """Remembers what was set up, across the death of the agent."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id

    def note(self, leftover: Leftover) -> None:
        """Make it durable that this is about to be set up in the present boot."""
        kept = [noted for noted in self.noted() if noted.leftover != leftover]
        self._write([*kept, Noted(boot_id=self._boot_id, leftover=leftover)])

    def forget(self, leftover: Leftover) -> None:
        """Make it durable that this was taken down."""
        noted = self.noted()
        kept = [each for each in noted if each.leftover != leftover]
        if len(kept) != len(noted):
            self._write(kept)

    def noted(self) -> tuple[Noted, ...]:
        """Return all that is not taken down, in the order of setting up."""
        try:
            lines = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        return tuple(_decode(line) for line in lines)

    def _write(self, noted: list[Noted]) -> None:
        lines = [
            {"boot_id": each.boot_id, "kind": _NAMES[type(each.leftover)], **asdict(each.leftover)} for each in noted
        ]
        replace_file(self._path, json.dumps(lines, indent=1).encode(), mode=0o600)


def _decode(line: dict[str, Any]) -> Noted:
    fields = dict(line)
    boot_id, kind = str(fields.pop("boot_id")), str(fields.pop("kind"))
    return Noted(boot_id=boot_id, leftover=_KINDS[kind](**fields))
