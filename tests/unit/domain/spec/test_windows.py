"""Maintenance windows over the changes of clocks, each bound worked out by hand."""

import math
from datetime import datetime

import pytest
from spec_texts import BODY, HEAD, refusal

from controller.domain.record.windows import MINUTES_A_DAY, Window, next_opening, open_until
from controller.domain.spec.parse import parse_spec

WEEK = tuple(range(7))
BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    """Return a moment written with its offset."""
    return datetime.fromisoformat(text).timestamp()


def window(opens: str, closes: str, *, days: tuple[int, ...] = WEEK, zone: str = BERLIN) -> Window:
    """Return a window from "HH:MM" to "HH:MM"."""
    first, last = (int(text[:2]) * 60 + int(text[3:]) for text in (opens, closes))
    return Window(days=days, opens=first, closes=last, zone=zone)


WEEKEND = window("22:00", "05:00", days=(5, 6))


def test_without_windows_it_is_always_open() -> None:
    assert open_until((), 5.0) == math.inf
    assert next_opening((), 5.0) == 5.0


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    # 2026-06-06 is a Saturday. Monday morning still belongs to Sunday's window; Friday night to none.
    assert open_until((WEEKEND,), at("2026-06-06T22:00+02:00")) == at("2026-06-07T05:00+02:00")
    assert open_until((WEEKEND,), at("2026-06-08T04:59+02:00")) == at("2026-06-08T05:00+02:00")
    assert open_until((WEEKEND,), at("2026-06-08T05:00+02:00")) is None
    assert open_until((WEEKEND,), at("2026-06-06T04:00+02:00")) is None
    assert next_opening((WEEKEND,), at("2026-06-08T05:00+02:00")) == at("2026-06-13T22:00+02:00")
    assert next_opening((WEEKEND,), at("2026-06-07T01:00+02:00")) == at("2026-06-07T01:00+02:00")


def test_the_day_is_the_zones_own() -> None:
    # Saturday 22:00 in Auckland is Saturday 10:00 in UTC, and Sunday's window ends there on Sunday 17:00 UTC.
    auckland = window("22:00", "05:00", days=(5, 6), zone="Pacific/Auckland")
    assert open_until((auckland,), at("2026-06-06T10:00+00:00")) == at("2026-06-06T17:00+00:00")
    assert open_until((auckland,), at("2026-06-07T17:00+00:00")) is None


def test_windows_that_touch_or_overlap_are_one() -> None:
    evening, night, later = window("20:00", "24:00"), window("00:00", "03:00"), window("02:00", "04:00")
    now = at("2026-06-06T21:00+02:00")
    assert open_until((later, evening, night), now) == at("2026-06-07T04:00+02:00")
    assert open_until((later, evening), now) == at("2026-06-07T00:00+02:00")


def test_windows_without_a_pause_have_an_end_all_the_same() -> None:
    now = at("2026-06-06T21:00+02:00")
    always = Window(days=WEEK, opens=0, closes=MINUTES_A_DAY, zone=BERLIN)
    assert open_until((always,), now) == now + 28 * 86_400


@pytest.mark.parametrize(
    ("opens", "closes", "begin", "end"),
    [
        # 2026-03-29, 02:00 becomes 03:00: what is skipped is the moment of the change.
        ("02:30", "04:00", "2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"),
        ("01:00", "02:30", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),
        ("01:00", "03:00", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),
        ("22:00", "05:00", "2026-03-28T22:00+01:00", "2026-03-29T05:00+02:00"),
    ],
)
def test_clocks_set_forward(opens: str, closes: str, begin: str, end: str) -> None:
    one = (window(opens, closes),)
    assert next_opening(one, at("2026-03-28T20:00+01:00") if opens == "22:00" else at("2026-03-29T00:00+01:00")) == at(
        begin
    )
    assert open_until(one, at(begin)) == at(end)
    assert open_until(one, at(begin) - 1) is None
    assert open_until(one, at(end) - 1) == at(end)
    assert open_until(one, at(end)) is None


def test_a_window_that_is_skipped_altogether_does_not_open_that_day() -> None:
    sunday = (window("02:10", "02:50", days=(6,)),)
    assert next_opening(sunday, at("2026-03-29T00:00+01:00")) == at("2026-04-05T02:10+02:00")


@pytest.mark.parametrize(
    ("opens", "closes", "begin", "end", "hours"),
    [
        # 2026-10-25, 03:00 becomes 02:00: what comes twice is the first of the two.
        ("02:30", "04:00", "2026-10-25T02:30+02:00", "2026-10-25T04:00+01:00", 2.5),
        ("01:00", "02:30", "2026-10-25T01:00+02:00", "2026-10-25T02:30+02:00", 1.5),
        ("02:00", "03:00", "2026-10-25T02:00+02:00", "2026-10-25T03:00+01:00", 2.0),
        ("02:15", "02:45", "2026-10-25T02:15+02:00", "2026-10-25T02:45+02:00", 0.5),
    ],
)
def test_clocks_set_back(opens: str, closes: str, begin: str, end: str, hours: float) -> None:
    one = (window(opens, closes),)
    assert next_opening(one, at("2026-10-25T00:30+02:00")) == at(begin)
    assert open_until(one, at(begin)) == at(end)
    assert (at(end) - at(begin)) / 3600 == hours
    # The second 02:15 of the night opens nothing.
    assert open_until(one, at(end)) is None


def test_a_change_of_half_an_hour() -> None:
    # Lord Howe sets its clocks by 30 minutes: on 2026-10-04 02:00 becomes 02:30.
    one = (window("02:10", "04:00", zone="Australia/Lord_Howe"),)
    assert next_opening(one, at("2026-10-04T00:00+10:30")) == at("2026-10-04T02:30+11:00")


def windows_of(text: str) -> tuple[Window, ...]:
    return tuple(one.window for one in parse_spec(text, "rollout.yaml").windows)


def test_a_rollout_file_has_windows() -> None:
    text = HEAD + BODY + '  windows: [{days: [sun, sat], from: "22:00", to: "05:00", zone: Europe/Berlin}]\n'
    assert windows_of(text) == (WEEKEND,)
    text = HEAD + BODY + '  windows: [{from: "00:00", to: "24:00", zone: UTC}]\n'
    assert windows_of(text) == (Window(days=WEEK, opens=0, closes=1440, zone="UTC"),)
    assert windows_of(HEAD + BODY) == ()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            'from: "22:00", to: "05:00", zone: Europe/Berlim',
            '.zone: must be an IANA time zone, for example "Europe/Berlin"; did you mean "Europe/Berlin"? '
            "(got 'Europe/Berlim')",
        ),
        (
            'from: "22:00", to: "05:00", zone: ../../etc/passwd',
            ".zone: must be an IANA time zone, for example \"Europe/Berlin\" (got '../../etc/passwd')",
        ),
        ('from: "22:00", to: "24:01", zone: UTC', '.to: must be a time from "00:00" to "24:00" (got \'24:01\')'),
        ('from: "22:00", to: 5, zone: UTC', '.to: must be a time from "00:00" to "24:00" (got 5)'),
        ('from: "22:00", zone: UTC', ".to: is missing"),
        ('from: "22:00", to: "05:00"', ".zone: is missing"),
        (
            'from: "22:00", to: "22:00", zone: UTC',
            ': is empty: it ends when it begins; a whole day is from "00:00" to "24:00"',
        ),
        (
            'from: "24:00", to: "22:00", zone: UTC',
            ': begins at the end of a day; write from "00:00" and the next day',
        ),
        (
            'days: [saturday], from: "22:00", to: "05:00", zone: UTC',
            ".days[0]: must be mon or tue or wed or thu or fri or sat or sun (got 'saturday')",
        ),
        ('days: [], from: "22:00", to: "05:00", zone: UTC', ".days: must have at least 1 entries"),
    ],
)
def test_a_wrong_window_is_refused_with_its_line(written: str, said: str) -> None:
    (line,) = refusal(HEAD + BODY + "  windows:\n" + f"    - {{{written}}}\n")
    assert line == f"rollout.yaml:11: spec.windows[0]{said}"
