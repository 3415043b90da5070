"""Words for sentences: durations, sizes, times, numbers as people read them, and lists of names."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

# 31 December 9999, in seconds since the epoch: the last that a calendar can tell.
LAST_MOMENT = 253_402_300_000.0
_UNTOLD = "?"
_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
# A sentence names this many hosts and counts the others.
NAMED_HOSTS = 5


def names_text(names: Sequence[str]) -> str:
    """Return names as part of a sentence: "a, b and c", or the first five and how many others there are."""
    if len(names) > NAMED_HOSTS:
        return f"{', '.join(names[:NAMED_HOSTS])} and {len(names) - NAMED_HOSTS} others"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def are(count: int) -> str:
    """Return the verb that goes with so many."""
    return "is" if count == 1 else "are"


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units, for example "2 h 5 min"; less than nothing counts as nothing."""
    if not math.isfinite(seconds):
        return _UNTOLD
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    for size, unit, smaller_size, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    raise AssertionError("unreachable: every duration of a minute or more has a unit")


def bytes_text(count: float) -> str:
    """Return a size in the largest binary unit that keeps it at 1 or more, for example "1.5 GiB"."""
    value = float(count)
    unit = 0
    while abs(value) >= 1024 and unit + 1 < len(_SIZE_UNITS):
        value /= 1024
        unit += 1
    return f"{value:.4g} {_SIZE_UNITS[unit]}"


def time_text(epoch_s: float) -> str:
    """Return a moment in UTC, for example "2026-03-01 12:00:05 UTC"."""
    return _moment(epoch_s).strftime("%Y-%m-%d %H:%M:%S UTC")


def time_iso(epoch_s: float) -> str:
    """Return a moment as RFC 3339 in UTC to the millisecond, for other programs."""
    return _moment(epoch_s).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(epoch_s: float) -> datetime:
    """Return the moment, or the nearest one that a calendar can tell: hosts' clocks say anything."""
    if math.isnan(epoch_s):
        epoch_s = 0.0
    return datetime.fromtimestamp(min(max(epoch_s, 0.0), LAST_MOMENT), tz=UTC)


def offset_text(seconds: float) -> str:
    """Return the time since a beginning as a clock shows it, for example "+03:25" or "+1:02:03"."""
    if not math.isfinite(seconds):
        return f"+{_UNTOLD}"
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"+{hours}:{minutes:02}:{rest:02}" if hours else f"+{minutes:02}:{rest:02}"


def number_text(value: float, digits: int = 1) -> str:
    """Return a number with that many digits after the point and without a negative zero."""
    if not math.isfinite(value):
        return _UNTOLD
    return f"{value:.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"


def signed_text(value: float, digits: int = 1) -> str:
    """Return a change with its sign; the minus is the typographic one, as in tables for people."""
    if not math.isfinite(value):
        return _UNTOLD
    text = number_text(abs(value), digits)
    if float(text) == 0:
        return text
    return f"{'−' if value < 0 else '+'}{text}"


def count_text(count: int, noun: str) -> str:
    """Return a number with its noun, for example "1 host" or "3 hosts"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
