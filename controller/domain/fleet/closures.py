"""When hosts may not begin to move: the fleet is frozen, or what is left of the maintenance window is too short."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.domain.fleet.decided import Fleet
from controller.domain.record.windows import Window, next_opening, open_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Why no host may start or reboot now."""

    # A sentence without a full stop.
    why: str
    # When that may be over, in seconds since the epoch; None when only a person ends it.
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldUp:
    """Who waits for something that is closed."""

    # Hosts that are measured and may not be taken down now.
    hosts: Mapping[str, Closed] = field(default_factory=dict)
    # When further hosts may start; None where nothing but room keeps them, or only a person ends it.
    starts_at: float | None = None


def closed(fleet: Fleet, windows: Sequence[Window], needed_s: float, now: float) -> Closed | None:
    """Return why a boot that takes `needed_s` may not begin now; None when it may."""
    freeze = fleet.frozen(now)
    if freeze is not None:
        remark = f": {freeze.remark}" if freeze.remark else ""
        return Closed(why=f"the fleet is frozen by {freeze.by}{remark}", until=freeze.until)
    if not windows:
        return None
    end = open_until(windows, now)
    if end is None:
        return Closed(why="no maintenance window is open", until=next_opening(windows, now))
    if end - now >= needed_s:
        return None
    left = f"the maintenance window closes in {end - now:.0f} s, and a boot takes {needed_s:.0f} s"
    return Closed(why=left, until=next_opening(windows, end))
