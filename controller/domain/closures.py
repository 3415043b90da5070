"""When hosts may not begin to move: the fleet is frozen, or no maintenance window is open."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Why no host may start or reboot now."""

    # A sentence without a full stop, for example "no maintenance window is open".
    why: str
    # When that may be over, in seconds since the epoch; None when only a person ends it.
    until: float | None = None
