"""The leftovers on disk: one small file, replaced whole."""

import json
from pathlib import Path
from typing import Any

import structlog

from agent.adapters.state.durable import replace_file
from agent.adapters.state.state_files import check_layout, kept_aside, parse_json, read_regular, record_of, set_aside
from agent.domain.tagged import Tagged, Unreadable, text_of
from agent.domain.work.leftovers import (
    BrdModule,
    KernelSettings,
    Leftover,
    LoopDevice,
    LoopModule,
    MadeDirectory,
    MadeFile,
    Noted,
    SelftestCgroups,
    SwapFilesBelow,
    SwapHeader,
    SwapOn,
    Workers,
    ZramAdding,
    ZramDevice,
    ZramModule,
    ZswapSettings,
)

log = structlog.get_logger(__name__)

# Names on disk stay as they are: the next version's sweep reads what this one noted.
_KINDS: Tagged[Leftover] = Tagged(
    {
        "swap_on": SwapOn,
        "swap_header": SwapHeader,
        "brd": BrdModule,
        "zram_module": ZramModule,
        "zram_adding": ZramAdding,
        "zram_device": ZramDevice,
        "loop_device": LoopDevice,
        "loop_module": LoopModule,
        "made_file": MadeFile,
        "made_directory": MadeDirectory,
        "swap_files_below": SwapFilesBelow,
        "zswap_settings": ZswapSettings,
        "kernel_settings": KernelSettings,
        "selftest_cgroups": SelftestCgroups,
        "workers": Workers,
    }
)


class LeftoversFile:
    """Remembers what was set up, across the death of the agent."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        # Taken down while the disk was too full to write so: for this process it is forgotten all the same.
        self._forgotten: list[Leftover] = []

    def note(self, leftover: Leftover) -> None:
        """Make it durable that this is about to be set up in the present boot."""
        kept = [noted for noted in self.noted() if noted.leftover != leftover]
        self._write([*kept, Noted(boot_id=self._boot_id, leftover=leftover)])

    def forget(self, leftover: Leftover) -> None:
        """Make it durable that this was taken down; on a full disk with the next change that finds room.

        A sweep must come to its end there too: what it removes is what may give the room back.
        """
        noted = self.noted()
        kept = [each for each in noted if each.leftover != leftover]
        if len(kept) == len(noted):
            return
        try:
            self._write(kept)
        except OSError as error:
            self._forgotten.append(leftover)
            log.error("leftover_not_forgotten", leftover=repr(leftover), error=str(error))

    def noted(self) -> tuple[Noted, ...]:
        """Return all that is known and not taken down, in the order of setting up. Raises NewerState, RigError."""
        return tuple(each for each in self._read() if each.leftover not in self._forgotten)

    def unknown(self) -> str:
        """See Leftovers.unknown."""
        aside = kept_aside(self._path)
        if not aside:
            return ""
        return (
            f"what an earlier run left on this host is not known: {', '.join(aside)} cannot be read; look for swap, "
            "zram, brd and loop devices and files of it, take them down, then remove that file"
        )

    def _read(self) -> list[Noted]:
        noted: list[Noted] = []
        wrong = ""
        try:
            content = read_regular(self._path)
            lines = [] if content is None else parse_json(content)
            if isinstance(lines, dict):
                check_layout(self._path, lines)
            if not isinstance(lines, list):
                raise Unreadable("it holds no list")
        except Unreadable as error:
            lines, wrong = [], str(error)
        for line in lines:
            try:
                noted.append(_decode(self._path, line))
            except Unreadable as error:
                wrong = wrong or str(error)
        if wrong:
            set_aside(self._path, wrong)
            # What is readable of it is taken down as ever.
            self._write(noted)
        return noted

    def _write(self, noted: list[Noted]) -> None:
        lines = [{"boot_id": each.boot_id, **_KINDS.plain(each.leftover)} for each in noted]
        replace_file(self._path, json.dumps(lines, indent=1).encode(), mode=0o600)
        self._forgotten.clear()


def _decode(path: Path, line: Any) -> Noted:
    if not isinstance(line, dict):
        raise Unreadable("an entry of it is no object")
    fields = dict(line)
    boot_id = text_of(fields.pop("boot_id", None))
    return Noted(boot_id=boot_id, leftover=record_of(path, _KINDS, fields))
