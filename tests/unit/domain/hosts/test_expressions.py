"""Expressions over hosts: what matches, what is refused with its place, and what cannot be decided."""

import pytest

from controller.domain.hosts.expressions import ExpressionError, Undecided, expression, pointed, recorded
from controller.domain.hosts.facts import FACTS

FACTS_OF_A = {
    "host": "a",
    "arch": "arm64",
    "kernel_release": "6.12.48+deb13-arm64",
    "swap_total": 2**40,
    "swap_backends": ["zram", "nvme"],
    "memory": 64 * 2**30,
    "zone": "a",
    "rack": "",
    "labels": {"zone": "a", "team/owner": "mm"},
    "connected": True,
}


@pytest.mark.parametrize(
    ("text", "decided"),
    [
        ('arch == "arm64" && swap_total >= TiB(1)', True),
        ("swap_total > TiB(1)", False),
        ("memory == GiB(64) && memory == MiB(65536) && memory == KiB(67108864)", True),
        ('"zram" in swap_backends', True),
        ('"brd" in swap_backends', False),
        ("size(swap_backends) == 2", True),
        ('labels.zone == "a" && labels["team/owner"] == "mm"', True),
        ("has(labels.tier)", False),
        ('has(labels.tier) && labels.tier == "db"', False),
        ('host.startsWith("a") && host.matches("^[a-c]$")', True),
        ('host in ["a", "b"]', True),
        ('zone in ["b"] || !connected || rack != ""', False),
        ('compare_releases(kernel_release, "6.12.5") > 0', True),
        # A version alone stands for every kernel of it.
        ('compare_releases(kernel_release, "6.12.48") == 0', True),
        ('compare_releases("6.12.48", kernel_release) >= 0', True),
        ('compare_releases(kernel_release, "6.12.48-rc1") < 0', False),
        # What decides alone is enough.
        ('firmware == "uefi" || arch == "arm64"', True),
        ('labels.tier == "db" && arch == "x86_64"', False),
    ],
)
def test_a_condition_decides(text: str, decided: bool) -> None:
    assert expression(text).decide(FACTS_OF_A) is decided


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('labels.tier == "db"', "has no label tier"),
        ('labels.tier != "db"', "has no label tier"),
        ('firmware == "uefi"', "does not tell its firmware"),
        ('compare_releases(kernel_release, "next") > 0', "cannot be decided on: "),
        ("memory / (memory - GiB(64)) == 1", "cannot be decided on: "),
    ],
)
def test_what_a_host_does_not_tell_is_neither_yes_nor_no(text: str, why: str) -> None:
    decided = expression(text).decide(FACTS_OF_A)
    assert isinstance(decided, Undecided)
    assert decided.why.startswith(why)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "column 1: is empty"),
        ("x" * 1001, "column 1001: is longer than 1000 characters"),
        ('arch = "arm64"', 'column 6: a comparison is written with two signs: arch == "arm64"'),
        ('arch == "a" && archx == "x"', "column 16: archx is no fact of a host; did you mean arch?"),
        ('architecture == "x"', "column 1: architecture is no fact of a host; did you mean arch?"),
        (
            'tier == "db"',
            "column 1: tier is no fact of a host; a label is written labels.tier; `kernroll hosts facts` lists facts",
        ),
        ("foo(arch)", "column 1: foo is no fact of a host; a label is written labels.foo; `kernroll hosts facts`"),
        ("arch == 5", "column 6: == does not go with a text and a number"),
        ('swap_total >= "1TiB"', "column 12: >= does not go with a number and a text"),
        ("swap_total", "column 1: is a number and not a condition; compare it with something"),
        ('arch == "a" &&', "column 15: ends too early"),
        ('arch == "a" )', "column 13: ) is not expected here"),
        ('arch == "a" @', "column 13: '@' is not understood"),
        ('arch == "a"\n && foo == "x"', "line 2, column 5: foo is no fact"),
        # Loops could take for ever.
        ('swap_backends.exists(one, one == "zram")', "column 22: one is no fact of a host"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        expression(text)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'kernel_release >= "6.12"',
            'column 16: >= compares no texts, "6.9" would follow "6.12"; '
            'write compare_releases(kernel_release, "6.12") >= 0',
        ),
        (
            "'6.12' < kernel_release",
            'column 8: < compares no texts, "6.9" would follow "6.12"; write compare_releases(',
        ),
        ('arch == "arm64" && agent_version<="1.9"', "column 33: <= compares no texts"),
        ('upstream_version > "6.1"', "column 18: > compares no texts"),
        ("kernel_version < kernel_release", "column 16: < compares no texts"),
        (
            'labels.slot > "10"',
            "column 13: > compares no texts; numbers in them are compared so: int(labels.slot) > 10",
        ),
        ('(kernel_release + "x") > "6"', "column 24: > compares no texts"),
        ('host < "m-5"', "column 6: < compares no texts"),
    ],
)
def test_texts_are_put_in_no_order(text: str, said: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        expression(text)
    assert str(caught.value).startswith(said)
    # What was taken once stays what it was.
    assert recorded(text).decide({"kernel_release": "", "host": "m-1"}) is not None


def test_what_hides_its_upstream_version_is_compared_by_what_is_told_of_it() -> None:
    asked = 'compare_releases(kernel_release, "6.1.100") < 0'
    release = {"kernel_release": "6.1.0-44-amd64"}
    assert expression(asked).decide(release | {"upstream_version": "6.1.164"}) is False
    assert expression(asked).decide(release | {"upstream_version": "6.1.90"}) is True
    decided = expression(asked).decide(release)
    assert decided == Undecided(
        "cannot be decided on: whether 6.1.0-44-amd64 is older than 6.1.100 cannot be told from their names"
    )
    assert expression("int(labels.slot) >= 3").decide({"labels": {"slot": "12"}}) is True


def test_a_mark_stands_under_what_is_wrong() -> None:
    text = 'arch == "a"\n  && foo == "x"'
    with pytest.raises(ExpressionError) as caught:
        expression(text)
    assert pointed(text, caught.value).splitlines()[1:] == ['    && foo == "x"', "       ^"]


def test_every_fact_can_be_asked_for() -> None:
    for name in FACTS:
        assert expression(f"{name} == {name}").decide({}) is not False
