"""What operators write: ASCII numbers only, and patterns that are none are refused where they are written."""

import argparse
import fnmatch
import re
from typing import Any

import pytest
from engine_parts import TEXT, Parts
from growth import comes_to_an_end

from agent.cli.flags import parse_count, parse_seconds, parse_size
from agent.domain.host.counters import parse_pairs
from agent.domain.session.kernel_log import parse_record, sequence_of
from agent.domain.session.previous_boot import last_words
from controller.domain.caller import Caller
from controller.domain.errors import InvalidInput
from controller.domain.fleet.denials import check_kernel
from controller.domain.hosts.expressions import ExpressionError, expression, pointed
from controller.domain.spec.parse import parse_spec
from controller.domain.spec.units import count_or_share, duration_s, percent_share, percent_share_or_zero, size_bytes

# Digits of Arabic, Devanagari, full width, and signs that are digits to Python and to nobody else.
FOREIGN = ["٣", "३", "３", "²", "①", "1_0", "٣0"]


@pytest.mark.parametrize("number", [*FOREIGN, " 1", "1 ", "+1", "1e1", "0x1", "nan", "inf", "", "\n1", "1\n", "1\0"])
@pytest.mark.parametrize(
    ("parse", "unit"),
    [
        (duration_s, "s"),
        (duration_s, "h1s"),
        (size_bytes, "GiB"),
        (size_bytes, " GiB"),
        (percent_share, "%"),
        (percent_share, " %"),
        (percent_share_or_zero, "%"),
        (count_or_share, "%"),
        (parse_size, "G"),
        (parse_count(1), ""),
        (parse_seconds, ""),
    ],
)
def test_a_number_is_written_in_ascii_digits(parse: Any, unit: str, number: str) -> None:
    if number.endswith(" ") and unit in ("%", " %", "GiB"):
        # A space before the unit may stand there, where one may.
        return
    with pytest.raises((ValueError, argparse.ArgumentTypeError), match=r"must be|is not a"):
        parse(f"{number}{unit}")


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (duration_s, "1h30m", 5400.0),
        (duration_s, "0.5s", 0.5),
        (size_bytes, "1.5 GiB", 3 << 29),
        (percent_share, "3 %", 0.03),
        (percent_share, "0.5%", 0.005),
        (percent_share, ".5 %", 0.005),
        (percent_share_or_zero, "0 %", 0.0),
        (count_or_share, "2%", 0.02),
        (parse_size, "512M", 512 << 20),
        (parse_seconds, "0.5", 0.5),
        (parse_seconds, "60", 60.0),
    ],
)
def test_numbers_mean_what_they_always_meant(parse: Any, text: str, value: float) -> None:
    assert parse(text) == pytest.approx(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308, -1e308, 10**400])
def test_a_ratio_is_a_number_that_is_one(value: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        percent_share(value)


def test_the_kernels_numbers_are_its_own() -> None:
    assert parse_pairs("a 1\nb ²\nc ٣\nd " + "9" * 5000 + "\n") == {"a": 1}
    assert parse_record("4,²,1,-;text".encode()) is None
    assert sequence_of(b"4," + b"9" * 5000 + b",1,-;text") is None
    hostile = "Panic#" + "9" * 5000 + " Part1\n<4>[" + "9" * 5000 + ".000001] x\n"
    assert last_words({"a": hostile}, ()).records == ()


def test_a_kept_log_is_read_in_time_that_grows_with_its_length() -> None:
    line = "[    1.000001] Tainted: " + "a " * 500_000
    with comes_to_an_end():
        assert len(last_words({"a": line}, ()).records) == 1


@pytest.mark.parametrize(
    "kernel",
    [
        "[",
        "7.1[",
        "7.1.[13",
        "[]",
        "[!]",
        "7.1]x[",
        "ü",
        "7/1",
        "(7.1)",
        "7.1.13\n",
        "a" * 129,
        "",
        "٧.1",
        "7.1 12",
        "\x1b[2J",
    ],
)
async def test_a_pattern_that_can_meet_no_kernel_is_refused_by_name(kernel: str) -> None:
    parts = await Parts().start()
    with pytest.raises(InvalidInput, match=r"^kernel ") as raised:
        await parts.operations.fleet.deny(kernel, "", "hangs", Caller("olga"))
    assert str(raised.value).isprintable()
    assert parts.operations.fleet.fleet().denials == ()


@pytest.mark.parametrize(
    "kernel", ["7.1.13", "7.1.13+deb13*", "7.[12].*", "7.1.1[!3]", "[]7].1*", "ab" * 32, "7.1.?~rc1-amd64_x"]
)
def test_a_pattern_that_can_is_taken(kernel: str) -> None:
    check_kernel(kernel)


def test_patterns_take_no_time() -> None:
    pattern = "*a" * 63 + "*b"
    check_kernel(pattern)
    with comes_to_an_end():
        assert not fnmatch.fnmatchcase("a" * 10_000, pattern)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ('arch.matches("[")', 14),
        ("arch.matches('(')", 14),
        ('host == "x" || host.matches(r"*a")', 29),
        ('matches(host, "a{2000}")', 15),
        ('arch == "a" &&\nhost.matches("""(""")', 14),
        ('host.matches("ok") && arch.matches( "\\\\" )', 37),
    ],
)
def test_a_regular_expression_that_is_none_is_refused_with_its_place(text: str, column: int) -> None:
    with pytest.raises(ExpressionError, match="is no regular expression") as raised:
        expression(text)
    assert raised.value.column == column
    assert pointed(text, raised.value).splitlines()[-1].endswith(" ^")


@pytest.mark.parametrize(
    "text",
    [
        'host.matches("^db-[0-9]+$")',
        "host.matches('a(b|c)*')",
        "host.matches(r'\\d+')",
        'labels["a"] == "matches(\\"[\\")"',
        "host.matches(zone)",
        'host == "[" || arch.startsWith("(")',
    ],
)
def test_other_texts_are_taken(text: str) -> None:
    expression(text)


async def test_denying_where_a_pattern_is_none_blames_the_pattern() -> None:
    parts = await Parts().start()
    with pytest.raises(InvalidInput, match=r"^where: column 14: is no regular expression"):
        await parts.operations.fleet.deny("7.1.13", 'host.matches("[")', "hangs", Caller("olga"))


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85", "\r", "\0", "\x1b[2J", "\u202e"])
def test_strange_signs_in_an_expression_have_a_place(sign: str) -> None:
    for text in (f"a{sign}b", f"{sign}{sign}foo(", f'"{sign}', f"arch{sign}\n== xx()", f"host.matches({sign}"):
        with pytest.raises(ExpressionError) as raised:
            expression(text)
        assert all(line.isprintable() for line in pointed(text, raised.value).split("\n")[1:])


@pytest.mark.parametrize("until", [float("nan"), float("inf"), 1e300, 999.0])
async def test_a_freeze_ends_at_a_time_that_there_is(until: float) -> None:
    parts = await Parts().start()
    with pytest.raises(InvalidInput, match="must be ahead"):
        await parts.operations.fleet.freeze("maintenance", until, Caller("olga"))


def test_every_pattern_for_numbers_of_ours_is_ascii() -> None:
    for pattern in ("_DURATION", "_SIZE", "_PERCENT"):
        compiled: re.Pattern[str] = vars(__import__("controller.domain.spec.units", fromlist=["x"]))[pattern]
        assert "\\d" not in compiled.pattern


@pytest.mark.parametrize("release", ["[", "7.0.[13", "7.0 .13", "٧.0.*", "7.0/*", "ü*"])
def test_an_expected_release_that_no_host_can_run_is_refused_in_its_field(release: str) -> None:
    text = TEXT.replace("spec:\n", f"spec:\n  from: {{x86_64: {{release: '{release}'}}}}\n", 1)
    with pytest.raises(InvalidInput, match=r"spec\.from\.x86_64\.release: is no pattern over `uname -r`"):
        parse_spec(text, "trial")
