"""Text of unknown origin is one line that can only be read."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.errors import InvalidInput
from controller.domain.fleet.inventory import check_label
from controller.domain.printable import is_plain, printable, printable_lines

_HOSTILE = st.text(
    st.characters() | st.sampled_from("\x1b\x9b\u202e\u2066\u2028\u2029\r\n\t\u0301\u200b\ufeff\x85\U000e0041")
)


MISSING = "\ufffd"


def test_what_a_terminal_obeys_is_shown() -> None:
    assert printable("\x1b[2J\x9b31m ok") == r"\x1b[2J\x9b31m ok"
    assert printable("a\u202egnp.exe") == r"a\u202egnp.exe"


def test_line_breaks_of_every_kind_are_spaces() -> None:
    assert printable("7.1\r\n# forged: promoted\u2028x\u2029y\x0bz\x85w") == "7.1 # forged: promoted x y z w"


def test_what_is_left_out_is_marked() -> None:
    assert printable("x" * 20, 10) == "x" * 9 + "…"
    assert printable("x" * 10_000_000, 10) == "x" * 9 + "…"
    assert printable(" " * 10_000 + "x", 10) == "…"


def test_accents_stay_and_towers_of_them_do_not() -> None:
    assert printable("Zürich e\u0301 हिन्दी") == "Zürich e\u0301 हिन्दी"
    assert printable("a" + "\u0301" * 500) == "a" + "\u0301" * 4


def test_what_is_printed_and_not_seen_is_shown() -> None:
    for unseen in "\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u180b\ufe0f\U000e0100":
        told = unseen.encode("unicode_escape").decode()
        assert printable(f"canary{unseen}") == f"canary{told}"
        assert printable_lines(f"canary{unseen}") == "canary\ufffd"


def test_towers_beyond_the_first_plane_are_none() -> None:
    for mark in "\U0001d167\U00011100\U00016af0":
        assert printable("a" + mark * 3) == "a" + mark.encode("unicode_escape").decode() * 3
        assert printable_lines("a" + mark * 500) == "a" + "\ufffd" * 500


def test_lines_and_columns_are_kept() -> None:
    assert printable_lines("a   b\r\n\tc\x1b[0m\n") == "a   b\n c�[0m\n"
    assert printable_lines("a\nb\nc", lines=2) == "a\nb…"


@given(_HOSTILE, st.integers(1, 80))
def test_nothing_but_signs_comes_out(text: str, most: int) -> None:
    line = printable(text, most)
    assert line.isprintable()
    assert len(line) <= most
    assert printable(line, most) == line
    lines = printable_lines(text, most, 3)
    assert len(lines) <= most
    assert all(part.isprintable() for part in lines.split("\n"))
    assert not any(unicodedata.category(sign) in ("Cc", "Cf") for sign in lines.replace("\n", ""))


@given(st.text(max_size=60))
def test_what_stands_beside_it_changes_no_sign(text: str) -> None:
    # Few signs that are none are searched for, many are looked up: both ways show the same.
    many = "".join(map(chr, range(1, 10)))
    alone, beside = printable_lines(f"{text}\n", 200, 200), printable_lines(f"{text}\n{many}", 200, 200)
    assert beside == f"{alone}{MISSING * 8} "


@given(st.text(max_size=40))
def test_plain_is_what_is_shown_as_it_is(text: str) -> None:
    assert not is_plain(text) or printable(text, 100).split() == text.split()


@pytest.mark.parametrize("unseen", ["\u034f", "\u3164", "\u2800", "\ufe0f", "\u202e", "\x1b", "\n", "e" + "\u0301" * 9])
def test_what_is_not_seen_is_not_plain(unseen: str) -> None:
    assert not is_plain(f"a{unseen}b")
    assert is_plain("Zürich, 東京, e\u0301")
    with pytest.raises(InvalidInput):
        check_label("key", f"a{unseen}b")
