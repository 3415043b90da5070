"""The count of kernel-log records that are in no report, on disk: a hole that is forgotten looks like none."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from agent.adapters.state.durable import replace_file
from agent.adapters.state.state_files import LAYOUT, kept_aside, load_json
from agent.domain.session.losses import BootLosses, Losses
from agent.domain.tagged import Unreadable, number_of, text_of

log = structlog.get_logger(__name__)


class LostRecords:
    """Keeps the count; what a full disk does not take of it is written later."""

    def __init__(self, path: Path) -> None:
        """Read what is known. Raises NewerState, RigError."""
        self._path = path
        self._on_disk = True
        kept = load_json(path, _parsed)
        self.losses = Losses() if kept is None else kept
        if kept is None and (kept_aside(path) or kept_aside(path.parent)):
            # Whatever it counted, or the reports beside it, nobody knows it any more.
            self.count({"": 1})

    @property
    def durable(self) -> bool:
        """Return whether a crash would forget nothing."""
        return self._on_disk

    def count(self, records: Mapping[str, int]) -> None:
        """Add lost records by boot; the empty name stands for a boot that nobody knows."""
        if any(records.values()):
            self._keep(self.losses.counted(records))

    def begin(self, boot_id: str) -> None:
        """Take note of the boot in which this agent runs."""
        self._keep(self.losses.begun(boot_id))

    def told(self, boot_id: str, lost: int) -> None:
        """Take note that a report on disk tells of so many lost records of a boot."""
        self._keep(self.losses.told(boot_id, lost))

    def persist(self) -> None:
        """Try once more to write what the disk has not taken."""
        if not self._on_disk:
            self._write()

    def _keep(self, losses: Losses) -> None:
        if losses != self.losses:
            self.losses = losses
            self._write()

    def _write(self) -> None:
        boots = [{"boot_id": each.boot_id, "lost": each.lost, "told": each.told} for each in self.losses.boots]
        document = {"version": LAYOUT, "unplaced": self.losses.unplaced, "boots": boots}
        try:
            replace_file(self._path, json.dumps(document).encode(), mode=0o600)
            self._on_disk = True
        except OSError as error:
            self._on_disk = False
            log.error("lost_records_not_saved", error=str(error), effect="a crash now would forget them")


def _parsed(document: dict[str, Any]) -> Losses:
    boots = document["boots"]
    if not isinstance(boots, list):
        raise Unreadable("its boots are no list")
    return Losses(boots=tuple(map(_boot, boots)), unplaced=_count(document["unplaced"]))


def _boot(told: Any) -> BootLosses:
    if not isinstance(told, dict):
        raise Unreadable("one of its boots is no object")
    boot = BootLosses(boot_id=text_of(told["boot_id"]), lost=_count(told["lost"]), told=_count(told["told"]))
    if not boot.boot_id or boot.told > boot.lost:
        raise Unreadable("it tells of more than was lost")
    return boot


def _count(value: Any) -> int:
    return max(0, number_of(value))
