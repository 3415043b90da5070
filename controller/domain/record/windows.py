"""Maintenance windows: when hosts may be taken down, on the clocks of an IANA time zone.

A bound of a window is the first moment at which the zone's clock has reached it on that day. That settles both days on
which clocks are changed: a time that is skipped is the moment of the change, a time that comes twice is the first of
the two, and a window in which the clocks change is an hour shorter or longer than written.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

# As in `date.weekday`.
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 24 * 60
# How far ahead is looked. Every window that is not empty opens within a week, or two where a change of clocks swallows
# it once; and nobody needs to know of a later end.
_HORIZON_DAYS = 28
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of the week that repeats."""

    # Days on which it opens, 0 for Monday, sorted.
    days: tuple[int, ...]
    # Minutes after midnight.
    opens: int
    # Minutes after midnight, at most 1440; on the next day when it is not after `opens`.
    closes: int
    # A name of the IANA time zone database, for example "Europe/Berlin".
    zone: str


def open_until(windows: Sequence[Window], now: float) -> float | None:
    """Return when hosts must be back, in epoch seconds; None when no window is open.

    Windows that overlap or touch count as one. The answer is infinite without windows, and cut off at four weeks where
    they leave no pause.
    """
    if not windows:
        return math.inf
    limit = now + _HORIZON_DAYS * _DAY.total_seconds()
    end = None
    for opens, closes in _stretches(windows, now):
        if opens > (now if end is None else end):
            break
        if closes > now:
            end = closes if end is None else max(end, closes)
    return None if end is None else min(end, limit)


def next_opening(windows: Sequence[Window], now: float) -> float | None:
    """Return the first moment from `now` on at which a window is open, in epoch seconds; `now` itself when one is.

    None when none opens within four weeks.
    """
    if not windows:
        return now
    return next((max(opens, now) for opens, closes in _stretches(windows, now) if closes > now), None)


def _stretches(windows: Iterable[Window], now: float) -> Iterator[tuple[float, float]]:
    """Yield all that may matter at `now`, in the order in which they open; empty ones are left out."""
    found = [stretch for window in windows for stretch in _of_window(window, now)]
    yield from sorted(found)


def _of_window(window: Window, now: float) -> Iterator[tuple[float, float]]:
    zone = ZoneInfo(window.zone)
    today = datetime.fromtimestamp(now, tz=zone).date()
    for ahead in range(-2, _HORIZON_DAYS + 1):
        day = today + ahead * _DAY
        if day.weekday() in window.days:
            last = day if window.closes > window.opens else day + _DAY
            opens, closes = _moment(day, window.opens, zone), _moment(last, window.closes, zone)
            if opens < closes:
                yield opens, closes


def _moment(day: date, minutes: int, zone: tzinfo) -> float:
    """Return the first moment at which the zone's clock has reached that time of that day, in epoch seconds."""
    shown = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001 - a clock's face has none
    earlier, later = shown.replace(tzinfo=zone, fold=0), shown.replace(tzinfo=zone, fold=1)
    before, after = earlier.utcoffset(), later.utcoffset()
    assert before is not None and after is not None, "a zone of the database always has an offset"
    if before >= after:
        return earlier.timestamp()
    # The time is skipped. The offset from before the change leads to a moment after it, and the other way round.
    return _change_between(later.timestamp(), earlier.timestamp(), zone)


def _change_between(low: float, high: float, zone: tzinfo) -> float:
    """Return when the clocks change, to the second."""
    first, last = math.floor(low), math.ceil(high)
    offset = datetime.fromtimestamp(first, tz=UTC).astimezone(zone).utcoffset()
    while last - first > 1:
        middle = (first + last) // 2
        if datetime.fromtimestamp(middle, tz=UTC).astimezone(zone).utcoffset() == offset:
            first = middle
        else:
            last = middle
    return float(last)
