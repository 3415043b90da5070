"""The table of `make noise`: its numbers, and how many hosts it says an effect takes."""

import math
from pathlib import Path

import numpy as np
import pytest
from noise_table import HEADINGS, RULES, Row, shown, write


def drawn(*, run_sd: float, boot_sd: float, boots: int = 40, runs: int = 20) -> Row:
    """Return values whose logarithms scatter by so much between boots, and between the runs of one."""
    generator = np.random.default_rng(20261126)
    logs = generator.normal(0, boot_sd, (boots, 1)) + generator.normal(7, run_sd, (boots, runs))
    return Row(metric="m", unit="s", boots=tuple(tuple(math.exp(value) for value in boot) for boot in logs))


def test_a_row_tells_mean_median_deviation_and_number() -> None:
    row = Row(metric="m", unit="s", boots=((10.0, 11.0), (12.0, 17.0)))
    assert row.cells().startswith("12.50 | 11.50 | 3.109 | 24.9% | 4 | ")
    assert row.cells().count("|") == HEADINGS.count("|") == RULES.count("|")


def test_scatter_between_boots_is_not_made_smaller_by_more_runs_of_a_boot() -> None:
    within = drawn(run_sd=0.05, boot_sd=0.0).pairs_for_effect
    between = drawn(run_sd=0.0005, boot_sd=0.05).pairs_for_effect
    assert within is not None
    assert between is not None
    # The median of four runs has a variance of 0.298 of a run's.
    assert within / between == pytest.approx(0.298, rel=0.4)


def test_twice_the_scatter_takes_four_times_the_hosts() -> None:
    once, twice = (drawn(run_sd=each, boot_sd=0.0).pairs_for_effect for each in (0.05, 0.10))
    assert once is not None
    assert twice is not None
    assert twice / once == pytest.approx(4, rel=0.02)


def test_two_or_three_values_say_nothing_about_hosts() -> None:
    row = Row(metric="m", unit="s", boots=((10.0, 11.0), (12.0,)))
    assert row.pairs_for_effect is None
    assert row.cells().endswith("| 3 | ")


def test_a_single_boot_counts_as_scatter_between_runs() -> None:
    runs = drawn(run_sd=0.05, boot_sd=0.0, boots=1, runs=400).pairs_for_effect
    assert runs == pytest.approx(drawn(run_sd=0.05, boot_sd=0.0).pairs_for_effect, rel=0.2)


def test_values_without_a_share_have_no_number_of_hosts() -> None:
    row = Row(metric="m", unit="pages", boots=((0.0, 0.0),))
    assert row.pairs_for_effect is None
    assert row.cells() == "0 | 0 | 0 | 0.0% | 2 | "


@pytest.mark.parametrize(
    ("number", "text"), [(0.012345, "0.01235"), (1.0, "1.000"), (123.456, "123.5"), (48193.0, "48193"), (0.0, "0")]
)
def test_numbers_have_four_digits_and_no_exponent(number: float, text: str) -> None:
    assert shown(number) == text


def test_a_table_replaces_the_one_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<b>\nold\n<e>\nafter\n")
    write(page, "new", ("<b>", "<e>"))
    assert page.read_text() == "before\n<b>\nnew\n<e>\nafter\n"
    with pytest.raises(SystemExit, match="lacks the lines"):
        write(page, "new", ("<c>", "<e>"))
