"""Maintenance windows against a clock that is read second by second, over every change of clocks of many zones."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.record.windows import Window, next_opening, open_until

# One of each kind: none, north, south, half an hour, at midnight, backwards in winter, half-hour offset.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Pacific/Auckland",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Beirut",
    "Atlantic/Azores",
    "Europe/Dublin",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Africa/Casablanca",
)
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2010, 2030))


def changes(zone: str) -> list[int]:
    """Return the hours around which the zone's clocks are changed between FIRST and LAST."""
    clock = ZoneInfo(zone)
    found = []
    before = datetime.fromtimestamp(FIRST, tz=UTC).astimezone(clock).utcoffset()
    for day in range(FIRST, LAST, 86_400):
        after = datetime.fromtimestamp(day, tz=UTC).astimezone(clock).utcoffset()
        if after != before:
            found.append(day - 43_200)
        before = after
    return found


CHANGES = {zone: changes(zone) for zone in ZONES}


def windows_of(zone: str) -> st.SearchStrategy[Window]:
    """Return any window of the zone, most of them where clocks are changed."""
    minute = st.one_of(st.sampled_from((0, 60, 119, 120, 121, 150, 179, 180, 1439)), st.integers(0, 1439))
    return st.builds(
        lambda days, opens, closes: Window(
            days=tuple(sorted(days)), opens=opens, closes=closes if closes != opens else 1440, zone=zone
        ),
        st.sets(st.integers(0, 6), min_size=1),
        minute,
        st.one_of(minute, st.just(1440)),
    )


@st.composite
def moments(draw: st.DrawFn) -> tuple[tuple[Window, ...], int]:
    """Return windows of one zone and a moment, most of them within a day of a change of clocks."""
    zone = draw(st.sampled_from(ZONES))
    near = CHANGES[zone] or [FIRST]
    far = st.integers(FIRST, LAST)
    close = st.builds(lambda change, off: change + off, st.sampled_from(near), st.integers(-100_000, 100_000))
    return tuple(draw(st.lists(windows_of(zone), min_size=1, max_size=3))), draw(st.one_of(close, far))


def is_open(windows: tuple[Window, ...], moment: int) -> bool:
    """Decide by the definition: between the first moments at which the clock has come to each bound of some day.

    The clock is read every minute from two days before, and nothing is calculated with offsets.
    """
    for window in windows:
        clock = ZoneInfo(window.zone)
        start = (moment - 2 * 86_400) // 60 * 60
        faces = [
            datetime.fromtimestamp(t, tz=UTC).astimezone(clock).replace(tzinfo=None)
            for t in range(start, moment // 60 * 60 + 1, 60)
        ]
        now = datetime.fromtimestamp(moment, tz=UTC).astimezone(clock).date()
        for ahead in (-2, -1, 0, 1):
            day = datetime.combine(now + timedelta(days=ahead), datetime.min.time())
            opens = day + timedelta(minutes=window.opens)
            last = window.closes + (0 if window.closes > window.opens else 1440)
            closes = day + timedelta(minutes=last)
            seen = any(face >= opens for face in faces)
            over = any(face >= closes for face in faces)
            if day.weekday() in window.days and seen and not over:
                return True
    return False


@given(moments())
@settings(max_examples=150, deadline=None)
def test_open_is_what_the_clock_says(given_: tuple[tuple[Window, ...], int]) -> None:
    windows, moment = given_
    assert (open_until(windows, moment) is not None) == is_open(windows, moment)


@given(moments())
@settings(max_examples=300, deadline=None)
def test_the_answers_agree_with_each_other(given_: tuple[tuple[Window, ...], int]) -> None:
    windows, moment = given_
    end, opening = open_until(windows, moment), next_opening(windows, moment)
    if end is not None:
        assert opening == moment
        assert end > moment
        # Nothing within it is closed, and at its end it is, unless it was cut off.
        assert open_until(windows, (moment + end) / 2) is not None
        assert open_until(windows, end) is None or end == moment + 28 * 86_400
    elif opening is not None:
        assert opening > moment
        assert open_until(windows, opening) is not None
        assert open_until(windows, opening - 1) is None
        assert open_until(windows, (moment + opening) / 2) is None


@given(moments(), st.integers(0, 86_400))
@settings(max_examples=300, deadline=None)
def test_time_passing_changes_no_answer_early(given_: tuple[tuple[Window, ...], int], later: int) -> None:
    windows, moment = given_
    end, opening = open_until(windows, moment), next_opening(windows, moment)
    if end is not None and moment + later < end < moment + 27 * 86_400:
        assert open_until(windows, moment + later) == end
    if end is None and opening is not None and moment + later <= opening:
        assert next_opening(windows, moment + later) == opening
