"""The forest of a judgement, as a view and as a picture."""

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from gate_samples import samples
from project import ROOT
from rollout_story import Story

from controller.adapters.local.plots import draw_forest, write_forest
from controller.domain.errors import InvalidInput, Permanent
from controller.domain.samples.parse import parse_plan, parse_samples, sample_line
from controller.gate.trial.judge import judge_trial
from controller.gate.verdict import Verdict
from controller.views.gate.forest import SYMBOLS, ForestRow, ForestView, forest_of_rollout, forest_of_trial
from controller.views.json import view_data
from controller.views.rollouts.status import rollout_view

EXAMPLE = ROOT / "deploy" / "examples" / "gate"


@pytest.fixture(scope="module")
def trial() -> ForestView:
    plan = parse_plan((EXAMPLE / "plan.json").read_text(encoding="utf-8"), "plan.json")
    read = parse_samples([sample_line(one) for one in samples(7)], "runs.jsonl", plan)
    return forest_of_trial(judge_trial(plan, read.measurements), "kernel build", read.remarks)


@pytest.fixture(scope="module")
def rollout() -> ForestView:
    story = Story([["a"], ["b"]])
    story.run()
    return forest_of_rollout(rollout_view(story.rollout, story.attempts, {}, story.now))


def rows(view: ForestView) -> dict[tuple[str, str], ForestRow]:
    return {(row.stratum, row.metric): row for panel in view.panels for row in panel.rows}


def test_every_verdict_has_a_symbol_of_its_own() -> None:
    assert set(SYMBOLS) == {one.name for one in Verdict}
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)


def test_the_example_fails_on_one_stratum_and_passes_on_the_other(trial: ForestView) -> None:
    assert (trial.action, trial.verdict) == ("revert", "FAIL")
    assert {one.stratum: one.verdict for one in trial.strata} == {"arm64/vm": "FAIL", "x86_64/vm": "PASS"}
    failed = rows(trial)["arm64/vm", "kernel_build.system_time"]
    assert failed.low is not None
    assert failed.low > next(line.value for line in failed.lines if line.kind == "tolerated")
    assert [line.kind for line in failed.lines] == ["zero", "tolerated", "margin"]


def test_changes_come_before_what_has_no_scale(trial: ForestView) -> None:
    assert [panel.scale for panel in trial.panels] == ["change for the worse, %", ""]
    assert {row.metric for row in trial.panels[-1].rows} == {"completion"}


def test_a_negative_control_has_a_margin_on_both_sides(trial: ForestView) -> None:
    row = rows(trial)["arm64/vm", "kernel_build.user_time"]
    assert [round(line.value, 6) for line in row.lines] == [-1.0, 0.0, 1.0]


def test_a_rollout_shows_its_claim_as_a_saving(rollout: ForestView) -> None:
    (savings, survival) = rollout.panels
    assert (savings.scale, savings.more_is_better) == ("saving, MiB/TiB", True)
    assert [(line.kind, line.value) for line in savings.rows[0].lines] == [("zero", 0.0), ("claim", 230.4)]
    assert [(row.metric, row.role) for row in survival.rows] == [
        ("survival", "critical"),
        ("swap_mount.swapoff_time", "told"),
        ("swap_mount.swapon_time", "told"),
    ]
    assert rollout.verdict == "PASS"


@pytest.mark.parametrize("name", ["trial", "rollout"])
def test_the_picture_says_what_the_text_says(name: str, request: pytest.FixtureRequest) -> None:
    view: ForestView = request.getfixturevalue(name)
    picture = draw_forest(view, "svg")
    assert picture == draw_forest(view, "svg")
    root = ET.fromstring(picture)
    said = " ".join("".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text"))
    for row in rows(view).values():
        # Word and symbol, never a colour alone.
        assert f"{row.symbol} {row.verdict}" in said
        assert f"{row.stratum}  {row.metric}" in " ".join(said.split("\n")) or row.metric in said
    assert draw_forest(view, "png").startswith(b"\x89PNG\r\n")


def test_no_name_is_taken_for_a_formula_and_nothing_to_draw_is_drawn(trial: ForestView) -> None:
    empty = dataclasses.replace(trial, title="a $x_1$ & <b>", panels=())
    root = ET.fromstring(draw_forest(empty, "svg"))
    assert "a $x_1$ & <b>: FAIL" in "".join(root.itertext())


def test_endless_bounds_are_arrows(trial: ForestView) -> None:
    panel = trial.panels[0]
    row = dataclasses.replace(panel.rows[0], low=None, high=None)
    view = dataclasses.replace(trial, panels=(dataclasses.replace(panel, rows=(row,)),))
    assert draw_forest(view, "svg") != draw_forest(
        dataclasses.replace(trial, panels=(dataclasses.replace(panel, rows=(panel.rows[0],)),)), "svg"
    )


def test_files_are_written_whole_or_refused(trial: ForestView, tmp_path: Path) -> None:
    write_forest(trial, tmp_path / "forest.PNG")
    assert [one.name for one in tmp_path.iterdir()] == ["forest.PNG"]
    with pytest.raises(InvalidInput, match=r"must end in \.svg or \.png"):
        write_forest(trial, tmp_path / "forest.pdf")
    with pytest.raises(Permanent, match="cannot be written"):
        write_forest(trial, tmp_path / "nowhere" / "forest.svg")


def test_the_view_is_plain_data(trial: ForestView) -> None:
    data = view_data(trial)
    assert data["panels"][0]["rows"][0]["verdict"] == "FAIL"
    assert set(data) == {"title", "action", "verdict", "sentence", "strata", "panels", "remarks"}
