"""What is missing of kernel logs that this agent read: counted by boot, and told until a controller can know of it.

The count of a boot only grows, and so every telling has a name of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

# Enough for every boot of one rollout; those that have something to tell are kept however many they are.
_MOST_BOOTS = 8
# What a message and a file hold.
_HIGHEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BootLosses:
    """How many records of one boot are in no report."""

    boot_id: str
    lost: int = 0
    # How many of them are in a report that is, or was, on disk.
    told: int = 0

    @property
    def untold(self) -> int:
        """Return how many records nobody has been told of."""
        return self.lost - self.told

    def more(self, records: int) -> "BootLosses":
        """Return this with further lost records."""
        return replace(self, lost=_sum(self.lost, records))


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """All that is known to be missing, by boot, the newest boot last."""

    boots: tuple[BootLosses, ...] = ()
    # Of boots that nobody knows: what a damaged report held cannot be asked.
    unplaced: int = 0

    @property
    def untold(self) -> tuple[BootLosses, ...]:
        """Return the boots of which something is to be told."""
        return tuple(each for each in self.boots if each.untold)

    def counted(self, records: Mapping[str, int]) -> "Losses":
        """Return this with further lost records by boot; the empty name stands for a boot that nobody knows."""
        after = replace(self, unplaced=_sum(self.unplaced, records.get("", 0)))
        for boot_id, lost in records.items():
            if boot_id:
                after = after._with(after._of(boot_id).more(lost))
        return after

    def begun(self, boot_id: str) -> "Losses":
        """Return this with a boot that is known from now on; what has no place is missing of every known boot.

        Each of them may be the one, and a log that may have a hole is not a whole one.
        """
        others = tuple(each for each in self.boots if each.boot_id != boot_id)
        after = replace(self, boots=(*others, self._of(boot_id)))
        boots = tuple(each.more(after.unplaced) for each in after.boots)
        done = [each.boot_id for each in boots[:-1] if not each.untold]
        leave = {*done[: max(0, len(boots) - _MOST_BOOTS)]}
        return Losses(boots=tuple(each for each in boots if each.boot_id not in leave))

    def told(self, boot_id: str, lost: int) -> "Losses":
        """Return this after a report that tells of so many lost records of a boot is on disk."""
        return self._with(replace(self._of(boot_id), told=lost))

    def _of(self, boot_id: str) -> BootLosses:
        return next((each for each in self.boots if each.boot_id == boot_id), BootLosses(boot_id=boot_id))

    def _with(self, one: BootLosses) -> "Losses":
        if any(each.boot_id == one.boot_id for each in self.boots):
            return replace(self, boots=tuple(one if each.boot_id == one.boot_id else each for each in self.boots))
        return replace(self, boots=(*self.boots, one))


def _sum(one: int, other: int) -> int:
    return min(one + other, _HIGHEST)
