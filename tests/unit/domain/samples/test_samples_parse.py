"""Plans and samples as people write them: what is read, and how what is wrong is located."""

import json
import math
import random
from collections.abc import Iterable
from typing import Any

import pytest
from gate_samples import samples
from hypothesis import given, settings
from hypothesis import strategies as st
from project import ROOT

from controller.domain.errors import InvalidInput
from controller.domain.samples.parse import (
    MAX_LINE_CHARACTERS,
    Samples,
    parse_plan,
    parse_samples,
    plan_json_schema,
    sample_line,
    samples_json_schema,
)
from controller.gate.evidence.seen import Outcome
from controller.gate.statistics.cells import Design
from controller.gate.trial.model import Arm, TrialPlan
from controller.gate.verdict import MetricRole

EXAMPLE = ROOT / "deploy" / "examples" / "gate"
BUILD = {"unit": "s", "better": "low", "margin": "3 %"}
LINE: dict[str, Any] = {
    "host": "a",
    "stratum": "x86_64/vm",
    "arm": "treated",
    "position": "first",
    "boot": "b1",
    "run": 1,
    "metric": "build",
    "value": 67.5,
    "unit": "s",
    "status": "ok",
    "time": "2026-03-01T12:00:00Z",
}


def test_a_lost_host_and_its_kernel_log_are_read() -> None:
    log = ["[   12.3] Kernel panic - not syncing: Fatal exception"]
    lost = {**LINE, "position": "second", "boot": "b2", "status": "lost", "value": None, "kernel_log": log}
    (one,) = read(lost).measurements
    assert (one.outcome, one.kernel_log) == (Outcome.LOST, tuple(log))
    with pytest.raises(InvalidInput, match="kernel_log"):
        read({**LINE, "kernel_log": "one text"})


def plan(**changes: Any) -> TrialPlan:
    return parse_plan(json.dumps({"design": "two_arms", "metrics": {"build": BUILD}, **changes}), "plan.json")


def read(*lines: dict[str, Any] | str, by: TrialPlan | None = None) -> Samples:
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return parse_samples(written, "runs.jsonl", by or plan())


def refused(*lines: dict[str, Any] | str, by: TrialPlan | None = None) -> str:
    with pytest.raises(InvalidInput) as caught:
        read(*lines, by=by)
    return str(caught.value)


def refused_plan(text: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse_plan(text, "plan.json")
    return str(caught.value)


def test_a_sample_is_read_in_full() -> None:
    (one,) = read(LINE).measurements
    assert (one.host, one.stratum, one.arm, one.position, one.cycle) == ("a", "x86_64/vm", Arm.TREATED, 1, 1)
    assert (one.boot, one.run, one.metric, one.value, one.outcome) == ("b1", "1", "build", 67.5, Outcome.OK)
    assert one.time == 1772366400.0


def test_old_and_new_are_first_and_second() -> None:
    found = read({**LINE, "position": "old"}, {**LINE, "position": "new", "boot": "b2", "time": None}).measurements
    assert sorted(one.position for one in found) == [1, 2]


def test_a_value_of_a_run_that_did_not_end_is_not_used() -> None:
    (one,) = read({**LINE, "status": "timed_out"}).measurements
    assert one.value is None
    assert one.outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": "67"}, "runs.jsonl:2: value: must be a number (got '67')"),
        ({"value": None}, "runs.jsonl:2: ended ok and needs a value"),
        ({"value": -1}, "runs.jsonl:2: value: must be more than 0, because build is judged by ratios (got -1)"),
        ({"value": 0}, "runs.jsonl:2: value: must be more than 0"),
        ({"host": ""}, "runs.jsonl:2: host: must not be empty"),
        ({"host": "a\nb"}, "runs.jsonl:2: host: must hold printable characters only"),
        ({"unit": "ms"}, "runs.jsonl:2: unit: must be s, as the plan says of build (got 'ms'); convert the values"),
        ({"status": "okay"}, "runs.jsonl:2: status: must be ok"),
        ({"arm": "treatet"}, "did you mean treated?"),
        ({"position": 3}, "runs.jsonl:2: position: must be 1 or 2"),
        ({"position": "third"}, "runs.jsonl:2: position: must be first or second"),
        ({"position": True}, "runs.jsonl:2: position: must be first or second"),
        ({"time": "yesterday"}, "runs.jsonl:2: time: must be a time such as"),
        ({"time": "2026-03-01T12:00:00"}, "runs.jsonl:2: time: must be a time such as"),
        ({"metrik": "build"}, "runs.jsonl:2: metrik: is not a known field; did you mean metric?"),
        ({"run": True}, "runs.jsonl:2: run: must be text"),
        ({"value": 68.0, "run": 1, "boot": "b1", "host": "a"}, "runs.jsonl:2: run: '1' was written in line 1"),
        ({"stratum": "arm64/vm", "run": 2}, "runs.jsonl:2: stratum: a has 'x86_64/vm' in line 1 (got 'arm64/vm')"),
        ({"arm": "control", "run": 2}, "runs.jsonl:2: arm: a has 'treated' in line 1 (got 'control')"),
        ({"position": "second"}, "runs.jsonl:2: boot: 'b1' is also the boot of another position of a (line 1)"),
        (
            {"position": "second", "boot": "b2", "time": "2026-03-01T11:00:00Z"},
            "runs.jsonl:2: time: position 2 of a begins before position 1 ends (line 1)",
        ),
        ({"host": "b", "arm": "control", "position": "new"}, "a control host never runs the new kernel"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_field(change: dict[str, Any], said: str) -> None:
    assert said in refused(LINE, {**LINE, **change})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused_where_they_stand(number: str) -> None:
    text = refused(LINE, json.dumps(LINE).replace("67.5", number))
    assert text.startswith("runs.jsonl:2: value: must be a finite number")


def test_huge_and_tiny_numbers_are_numbers() -> None:
    found = read({**LINE, "value": 1e300}, {**LINE, "run": 2, "value": 1e-300}).measurements
    assert sorted(one.value or 0.0 for one in found) == [1e-300, 1e300]


@pytest.mark.parametrize("line", ["{", "[]", '"text"', "null", '{"host": "a"', "{} {}", "\x00"])
def test_a_line_that_is_no_sample_is_located(line: str) -> None:
    assert refused(LINE, line).startswith("runs.jsonl:2: ")


def test_a_line_without_end_is_not_read() -> None:
    assert "is longer than" in refused("x" * (MAX_LINE_CHARACTERS + 1))


def test_an_empty_file_is_no_evidence() -> None:
    assert refused() == "runs.jsonl:1: holds no sample"
    assert refused("", "  \n") == "runs.jsonl:1: holds no sample"


def test_many_wrong_lines_are_told_up_to_a_limit() -> None:
    assert 40 < len(refused(*["{}"] * 500).splitlines()) < 100


def test_a_repeated_line_counts_once_and_is_told() -> None:
    found = read(LINE, LINE)
    assert len(found.measurements) == 1
    assert found.remarks == ("1 repeated lines say what others say and were counted once.",)


def test_a_metric_outside_the_plan_is_left_out_and_told() -> None:
    found = read(LINE, {**LINE, "metric": "other", "unit": "K"})
    assert [one.metric for one in found.measurements] == ["build"]
    assert found.remarks == ("other is not in the plan and was left out.",)


def test_a_stratum_outside_the_plan_is_refused() -> None:
    assert "stratum: is not a stratum of the plan" in refused(LINE, by=plan(strata=["arm64/vm"]))


def test_abba_wants_numbers_and_has_no_control_hosts() -> None:
    abba = plan(design="abba")
    assert "position: must be 1 to 4 for abba (got 'first')" in refused(LINE, by=abba)
    assert "arm: this design has no control hosts" in refused({**LINE, "position": 1, "arm": "control"}, by=abba)


def test_a_pair_is_one_treated_and_one_control_host_of_a_stratum() -> None:
    pairs = plan(design="matched_pairs")
    assert "pair: is missing" in refused(LINE, by=pairs)
    first = {**LINE, "pair": "p"}
    second = {**first, "host": "b", "arm": "control"}
    assert len(read(first, second, by=pairs).measurements) == 2
    assert "pair: 'p' must be one treated and one control host (got a, b)" in refused(
        first, {**second, "arm": "treated"}, by=pairs
    )
    assert "pair: 'p' joins hosts of different strata" in refused(first, {**second, "stratum": "arm64/vm"}, by=pairs)


def test_the_plan_is_read_in_full() -> None:
    found = plan(
        design="matched_pairs",
        strata=["b", "a"],
        alpha={"revert": 0.005, "promote": 0.1},
        sigma="2 %",
        runs=3,
        budget={"blocks": 16},
        quarantined=["sick"],
        metrics={
            "build": BUILD,
            "get": {"unit": "requests/s", "better": "high", "margin": 1.05, "role": "guard", "sigma": "learn"},
            "cost": {"unit": "MiB", "better": "low", "claim": {"saves_at_least": 230, "sigma_run": 2}},
            "user": {"unit": "s", "margin": "1%", "role": "negative_control"},
            "faults": {"unit": "pages", "role": "explain"},
        },
    )
    assert (found.design, found.strata, found.runs, found.budget_blocks) == (Design.PAIRS, ("a", "b"), 3, 16)
    assert (found.alpha_revert, found.alpha_promote, found.quarantined) == (0.005, 0.1, ("sick",))
    by_name = {metric.name: metric for metric in found.metrics}
    assert by_name["build"].margin == pytest.approx(0.03)
    assert by_name["build"].sigma == pytest.approx(0.02)
    assert by_name["get"].margin == pytest.approx(0.05)
    assert by_name["get"].sigma is None
    assert by_name["get"].higher_is_better
    assert by_name["cost"].claim is not None
    assert by_name["user"].role is MetricRole.NEGATIVE_CONTROL
    # A known sigma plans looks, so more data may come.
    assert not found.final
    assert plan().final
    assert plan(sigma="2 %", final=True).final


def test_a_plan_may_be_written_as_yaml_and_json_may_be_indented_by_tabs() -> None:
    yaml = "design: abba\nmetrics:\n  build: {unit: s, better: low, margin: 3 %}\n"
    assert parse_plan(yaml, "plan.yaml").design is Design.ABBA
    tabs = json.dumps({"design": "abba", "metrics": {"build": BUILD}}, indent="\t")
    assert parse_plan(tabs, "plan.json") == parse_plan(yaml, "plan.yaml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"design": "aba"}, "plan.json:1: design: must be two_arms or matched_pairs or abba or before_after"),
        ({"metrics": {}}, "plan.json:1: metrics: must have at least 1 entries"),
        ({"metrics": {"m": {"unit": "s", "better": "low"}}}, 'needs a margin such as "3 %" or a claim'),
        ({"metrics": {"m": {**BUILD, "margin": 3}}}, "margin: must be a percentage such as"),
        ({"metrics": {"m": {**BUILD, "margin": 0.03}}}, "margin: must be a percentage such as"),
        ({"metrics": {"m": {**BUILD, "margin": "-3 %"}}}, "margin: must be a percentage such as"),
        ({"metrics": {"m": {**BUILD, "margin": "nan %"}}}, "margin: must be a percentage such as"),
        ({"metrics": {"m": {**BUILD, "margin": True}}}, "margin: must be a percentage such as"),
        ({"metrics": {"m": {"unit": "s", "margin": "3 %"}}}, "needs better: low or high"),
        ({"metrics": {"m": {**BUILD, "role": "guard"}}}, "needs at least one metric whose role is critical"),
        ({"metrics": {"m": {**BUILD, "beter": "low"}}}, "beter: is not a known field; did you mean better?"),
        ({"looks": [4, 3]}, "looks must ascend"),
        ({"looks": [8, 16], "budget": {"blocks": 12}}, "looks end at 16 blocks, more than the budget of 12"),
        ({"alpha": {"revert": 0}}, "alpha.revert: must be more than 0 (got 0)"),
        ({"runs": 0}, "runs: must be at least 1 (got 0)"),
    ],
)
def test_what_is_wrong_in_a_plan_is_told_with_its_field(changes: dict[str, Any], said: str) -> None:
    text = refused_plan(json.dumps({"design": "two_arms", "metrics": {"build": BUILD}, **changes}))
    assert text.startswith("plan.json:1: ")
    assert said in text


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "design: abba\ndesign: abba", "a: &b 1", "\x00"])
def test_a_plan_that_is_none_is_located(text: str) -> None:
    assert refused_plan(text).startswith("plan.json:")


def test_the_line_of_a_wrong_field_is_told() -> None:
    text = json.dumps({"design": "abba", "metrics": {"build": {**BUILD, "margin": "3"}}}, indent=1)
    line = next(number for number, one in enumerate(text.splitlines(), start=1) if "margin" in one)
    assert refused_plan(text).startswith(f"plan.json:{line}: metrics.build.margin: ")


def test_the_schemas_know_every_field_and_describe_it() -> None:
    lines, document = samples_json_schema(), plan_json_schema()
    assert set(LINE) <= set(lines["properties"])
    assert {"host", "stratum", "position", "run", "metric", "unit"} == set(lines["required"])
    for schema in (lines, document):
        assert schema["$schema"].endswith("2020-12/schema")
        assert schema["additionalProperties"] is False
        json.dumps(schema, allow_nan=False)


def test_the_example_is_what_its_seed_gives() -> None:
    written = (EXAMPLE / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in written] == list(samples(7))


def test_the_order_of_lines_changes_nothing() -> None:
    by = parse_plan((EXAMPLE / "plan.json").read_text(encoding="utf-8"), "plan.json")
    lines = (EXAMPLE / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    shuffled = random.Random(3).sample(lines, len(lines))
    first, second = (parse_samples(some, "runs.jsonl", by) for some in (lines, shuffled))
    assert sorted(first.measurements, key=str) == sorted(second.measurements, key=str)


def test_a_name_that_stands_twice_is_refused() -> None:
    line = json.dumps(LINE)[:-1] + ', "value": 12.0}'
    assert refused(LINE, line) == "runs.jsonl:2: value: is written twice"


def test_names_of_any_script_survive_being_written_and_read() -> None:
    sample = {**LINE, "host": "Straße-東京", "time": None}
    assert sample_line(sample).isascii()
    assert read(sample_line(sample)).measurements[0].host == "Straße-東京"


@given(st.text(max_size=120))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_sample_or_refused_by_its_number(text: str) -> None:
    for mangled in (text, json.dumps(LINE)[: len(text)] + text, json.dumps(LINE).replace('"a"', json.dumps(text))):
        try:
            parse_samples([mangled], "runs.jsonl", plan())
        except InvalidInput as error:
            assert all(line.startswith("runs.jsonl:1: ") for line in str(error).splitlines())
            assert all(line.isprintable() for line in str(error).splitlines())


@given(st.text(max_size=60), st.integers(0, 60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_plan_or_refused_with_a_line(text: str, at: int) -> None:
    whole = json.dumps({"design": "abba", "metrics": {"build": BUILD}})
    for mangled in (text, whole[:at] + text + whole[at:]):
        try:
            parse_plan(mangled, "plan.json")
        except InvalidInput as error:
            assert all(line.startswith("plan.json:") for line in str(error).splitlines())


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=2)
)


@given(st.lists(st.dictionaries(st.sampled_from(sorted(LINE)), VALUES), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_line_is_read_or_refused_by_its_number(changes: Iterable[dict[str, Any]]) -> None:
    lines = [json.dumps({**LINE, "run": index, **change}) for index, change in enumerate(changes)]
    try:
        found = parse_samples(lines, "runs.jsonl", plan())
    except InvalidInput as error:
        assert all(line.startswith("runs.jsonl:") for line in str(error).splitlines())
    else:
        assert all(one.value is None or math.isfinite(one.value) for one in found.measurements)
