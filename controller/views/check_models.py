"""What a plan shows of checks, values only; the other view models are in `models`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCheckView:
    """What else must pass at the end of every wave."""

    name: str
    kind: str
    dry_run: bool
    every_s: float
    # From the verdict of the wave.
    deadline_s: float
    # "pause" or "revert".
    on_fail: str
    on_timeout: str
    sentence: str
