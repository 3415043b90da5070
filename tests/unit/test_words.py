"""Numbers read the same everywhere."""

import pytest

from controller.words import (
    bytes_text,
    count_text,
    duration_text,
    names_text,
    number_text,
    offset_text,
    signed_text,
    time_iso,
    time_text,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (80, "1 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86_400 * 3 + 3600 * 4, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (4096, "4 KiB"), (1.5 * 2**30, "1.5 GiB"), (2**40, "1 TiB")]
)
def test_sizes(count: float, text: str) -> None:
    assert bytes_text(count) == text


def test_times() -> None:
    assert time_text(1_772_366_405.0) == "2026-03-01 12:00:05 UTC"
    assert time_iso(1_772_366_405.25) == "2026-03-01T12:00:05.250Z"
    assert [offset_text(s) for s in (-1, 5, 205, 3723)] == ["+00:00", "+00:05", "+03:25", "+1:02:03"]


def test_numbers() -> None:
    assert number_text(-0.04) == "0.0"
    assert [signed_text(value) for value in (-252.04, 0.04, 3.0)] == ["−252.0", "0.0", "+3.0"]


def test_names_and_counts() -> None:
    assert [names_text(list(names)) for names in ("", "a", "ab", "abc", "abcdefg")] == [
        "",
        "a",
        "a and b",
        "a, b and c",
        "a, b, c, d, e and 2 others",
    ]
    assert (count_text(1, "host"), count_text(0, "host")) == ("1 host", "0 hosts")
