"""Go benchmark output as samples."""

import json

import pytest

from controller.adapters.imports.benchstat import plan_of, read_benchmarks
from controller.domain.errors import InvalidInput
from controller.domain.samples.parse import parse_plan, parse_samples, sample_line
from controller.gate.trial.judge import judge_trial
from controller.gate.verdict import Verdict

OLD = """\
goos: linux
goarch: amd64
pkg: example.org/swap
cpu: Some CPU @ 2.00GHz
BenchmarkSwapOut-8   \t    1000\t   1234.5 ns/op\t  12.50 MB/s\t     64 B/op\t       0 allocs/op
BenchmarkSwapOut-8   \t    1000\t   1240 ns/op\t  12.40 MB/s\t     64 B/op\t       0 allocs/op
BenchmarkSwapIn/huge=true-8 \t 500 \t 9e3 ns/op
--- BENCH: BenchmarkSwapIn/huge=true-8
    swap_test.go:12: a note
PASS
ok  \texample.org/swap\t3.210s
"""
NEW = OLD.replace("1234.5", "1100").replace("1240", "1090").replace("9e3", "8800")
NAMES = ("old.txt", "new.txt")


def test_every_result_becomes_a_sample_a_unit() -> None:
    found = read_benchmarks(OLD.splitlines(), NEW.splitlines(), NAMES)
    assert found.metrics == {
        "SwapIn/huge=true-8 ns/op": "ns/op",
        "SwapOut-8 B/op": "B/op",
        "SwapOut-8 MB/s": "MB/s",
        "SwapOut-8 ns/op": "ns/op",
    }
    assert len(found.samples) == 14
    assert found.left_out == ("SwapOut-8 allocs/op",)
    assert found.samples[0] == {
        "host": "benchmark linux/amd64/Some CPU @ 2.00GHz",
        "stratum": "linux/amd64/Some CPU @ 2.00GHz",
        "position": "first",
        "run": 1,
        "metric": "SwapOut-8 ns/op",
        "value": 1234.5,
        "unit": "ns/op",
    }
    assert {sample["position"] for sample in found.samples} == {"first", "second"}


def test_rates_are_better_high() -> None:
    found = plan_of(read_benchmarks(OLD.splitlines(), NEW.splitlines(), NAMES), "3 %")
    better = {name: metric["better"] for name, metric in found["metrics"].items()}
    assert better["SwapOut-8 MB/s"] == "high"
    assert better["SwapOut-8 ns/op"] == "low"


def test_two_files_one_after_the_other_are_never_decided() -> None:
    found = read_benchmarks(OLD.splitlines(), NEW.splitlines(), NAMES)
    plan = parse_plan(json.dumps(plan_of(found, "3 %")), "plan.json")
    samples = parse_samples([sample_line(one) for one in found.samples], "runs.jsonl", plan)
    decision = judge_trial(plan, samples.measurements)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "confounded with time" in decision.sentence


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("BenchmarkA 10 12", "new.txt:2: a value without a unit, or a unit without a value: '12'"),
        ("BenchmarkA 10 x ns/op", "new.txt:2: 'x' is not a number"),
        ("BenchmarkA 10 NaN ns/op", "new.txt:2: 'NaN' is not a number"),
        ("BenchmarkA 10 1e999 ns/op", "new.txt:2: '1e999' is too big"),
    ],
)
def test_what_cannot_be_read_is_located(line: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_benchmarks(OLD.splitlines(), ["", line], NAMES)
    assert said in str(caught.value)


def test_a_file_without_results_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"new\.txt:1: holds no benchmark result"):
        read_benchmarks(OLD.splitlines(), ["PASS"], NAMES)


def texts(head: str, *lines: str) -> list[str]:
    return [*head.splitlines(), *lines]


@pytest.mark.parametrize(
    ("head", "unit", "better", "guessed"),
    [
        ("Unit hits/op better=higher", "hits/op", "high", False),
        ("Unit qps better=higher assume=exact", "qps", "high", False),
        ("Unit qps assume=exact better=lower", "qps", "low", False),
        # The file's word goes before what is known.
        ("Unit MB/s better=lower", "MB/s", "low", False),
        ("Unit req/s better=lower", "req/s", "low", False),
        # As benchstat knows them: one unit under two names.
        ("Unit sec/op better=higher", "ns/op", "high", False),
        ("Unit p99-sec/op better=higher", "p99-ns/op", "high", False),
        ("Unit B/s better=lower", "MB/s", "low", False),
        ("Unit qps assume=exact", "qps", "low", True),
        ("Unit tests are fine", "hits/op", "low", True),
        ("", "ns/op", "low", False),
        ("", "allocs/op", "low", False),
        ("", "MB/s", "high", False),
        ("", "req/s", "high", True),
        ("", "pages", "low", True),
    ],
)
@pytest.mark.parametrize("where", ["old", "new", "after"])
def test_the_files_say_which_direction_is_better_and_a_guess_is_told(
    head: str, unit: str, better: str, guessed: bool, where: str
) -> None:
    line = f"BenchmarkA 10 12 {unit}"
    old = texts(head if where == "old" else "", line)
    new = [line, head] if where == "after" else texts(head if where == "new" else "", line)
    found = read_benchmarks(old, new, NAMES)
    assert plan_of(found, "3 %")["metrics"][f"A {unit}"]["better"] == better
    assert found.guessed == ((unit,) if guessed else ())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Unit x better=higher", "Unit x better=lower", "new.txt:1: says the opposite of old.txt:1 about x"),
        ("Unit ns better=higher\nUnit sec better=lower", "", "old.txt:2: says the opposite of old.txt:1 about sec"),
        ("Unit x better=more", "", "old.txt:1: of x it says 'better=more'; write better=higher or better=lower"),
        ("Unit x better = higher", "", "old.txt:1: of x it says 'better'; write better=higher or better=lower"),
        ("", "Unit x better=", "new.txt:1: of x it says 'better='; write better=higher"),
    ],
)
def test_a_direction_that_is_none_or_contradicts_another_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_benchmarks(texts(old, "BenchmarkA 10 1 x"), texts(new, "BenchmarkA 10 1 x"), NAMES)
    assert str(caught.value).startswith(said)


def packages(slow: float) -> list[str]:
    lz4 = ["pkg: example.test/lz4", f"BenchmarkCompress-4 100 {slow} ns/op", "PASS", "ok  \texample.test/lz4\t2.1s"]
    return [*lz4, "pkg: example.test/zstd", "BenchmarkCompress-4 100 9000 ns/op"]


@pytest.mark.parametrize("key", ["pkg", "toolchain", "dataset-größe"])
def test_benchmarks_of_one_name_are_told_apart_by_configuration_that_varies(key: str) -> None:
    old, new = ([line.replace("pkg:", f"{key}:") for line in packages(slow)] for slow in (100, 150))
    found = read_benchmarks(old, new, NAMES)
    lz4 = f"Compress-4 {key}=example.test/lz4 ns/op"
    assert list(found.metrics) == [lz4, f"Compress-4 {key}=example.test/zstd ns/op"]
    assert [(one["position"], one["run"], one["value"]) for one in found.samples if one["metric"] == lz4] == [
        ("first", 1, 100.0),
        ("second", 1, 150.0),
    ]
    assert found.remarks == (f"What differs in {key} is told apart, by a metric of its own.",)


def test_a_key_that_is_set_for_some_of_the_results_varies_and_an_empty_one_is_not_set() -> None:
    lines = ["BenchmarkA 1 5 ns/op", "mode: cold", "BenchmarkA 1 9 ns/op", "mode:", "BenchmarkA 1 5 ns/op"]
    found = read_benchmarks(lines, lines, NAMES)
    assert found.metrics == {"A mode=cold ns/op": "ns/op", "A ns/op": "ns/op"}
    assert [one["run"] for one in found.samples if one["metric"] == "A ns/op"] == [1, 2, 1, 2]


def test_machines_are_strata_with_runs_of_their_own() -> None:
    lines = ["cpu: A", "BenchmarkX 1 5 ns/op", "cpu: B", "BenchmarkX 1 6 ns/op"]
    found = read_benchmarks(lines, lines, NAMES)
    assert [(one["stratum"], one["run"]) for one in found.samples] == [("A", 1), ("B", 1)] * 2


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("commit", "The files differ in commit (old.txt has 1 and new.txt has 2): they are compared."),
        ("cpu", "The files differ in cpu (old.txt has 1 and new.txt has 2): nothing of one is compared with the other"),
    ],
)
def test_what_differs_between_the_files_is_told(key: str, said: str) -> None:
    found = read_benchmarks([f"{key}: 1", "BenchmarkX 1 5 ns/op"], [f"{key}: 2", "BenchmarkX 1 5 ns/op"], NAMES)
    assert found.metrics == {"X ns/op": "ns/op"}
    assert found.remarks[0].startswith(said)


def test_what_only_one_file_has_is_told() -> None:
    date = [["date: 1", "BenchmarkX 1 5 ns/op", f"date: {day}", "BenchmarkX 1 5 ns/op"] for day in (2, 3)]
    found = read_benchmarks(*date, NAMES)
    assert found.remarks[1:] == (
        "Only in old.txt, so that there is nothing to compare: X date=2 ns/op.",
        "Only in new.txt, so that there is nothing to compare: X date=3 ns/op.",
    )


def test_what_a_benchmark_logs_is_no_configuration() -> None:
    lines = ["BenchmarkX 1 5 ns/op", "    swap_test.go:12: first", "swap_test.go:12:second", "BenchmarkX 1 5 ns/op"]
    assert read_benchmarks(lines, lines, NAMES).remarks == ()


def test_a_name_that_no_plan_takes_is_located() -> None:
    with pytest.raises(InvalidInput, match=r"old\.txt:1: the name of a metric has at most 253 characters"):
        read_benchmarks([f"Benchmark{'x' * 250} 1 5 ns/op"], NEW.splitlines(), NAMES)


def test_a_mark_at_the_beginning_hides_nothing() -> None:
    lines = [f"\ufeff{line}" for line in OLD.splitlines()]
    found = read_benchmarks(lines, NEW.splitlines(), NAMES)
    assert found.samples == read_benchmarks(OLD.splitlines(), NEW.splitlines(), NAMES).samples


@pytest.mark.parametrize(
    "torn",
    [
        ["BenchmarkX-8   \t2026/03/02 10:11:12 started", "1000\t 12 ns/op"],
        ["BenchmarkX-8", "1000\t 12 ns/op"],
        ["BenchmarkX-8   \tstarted1000\t 12 ns/op"],
    ],
)
def test_a_result_that_is_torn_by_output_is_told(torn: list[str]) -> None:
    found = read_benchmarks(["BenchmarkX-8 1000 11 ns/op", *torn], ["BenchmarkX-8 1000 11 ns/op"], NAMES)
    assert found.remarks[0].startswith("1 line begins like a result and is none, the first at old.txt:")
    many = read_benchmarks(["BenchmarkX-8 1000 11 ns/op"], ["BenchmarkX-8 1000 11 ns/op", *torn, *torn], NAMES)
    assert many.remarks[0].startswith("2 lines begin like results and are none, the first at new.txt:")


def test_names_alone_and_prose_are_no_torn_results() -> None:
    lines = ["BenchmarkX", "BenchmarkX-8 1000 11 ns/op", "Benchmarks are fun", "Benchmarking 10 12 things"]
    assert read_benchmarks(lines, lines, NAMES).remarks == ()


def test_one_unit_in_two_spellings_is_compared() -> None:
    old = ["BenchmarkX 1 12 ns/op 3 MB/s 7 p99-ns/op", "BenchmarkY 1 5 ns/op"]
    new = ["BenchmarkX 1 1.1e-08 sec/op 4e6 B/s 8 p99-ns/op", "BenchmarkY 1 6e-09 sec/op"]
    found = read_benchmarks(old, new, NAMES)
    assert [(one["position"], one["metric"], one["value"]) for one in found.samples if one["metric"][0] == "X"] == [
        ("first", "X sec/op", pytest.approx(1.2e-08)),
        ("first", "X B/s", 3e6),
        ("first", "X p99-ns/op", 7.0),
        ("second", "X sec/op", 1.1e-08),
        ("second", "X B/s", 4e6),
        ("second", "X p99-ns/op", 8.0),
    ]
    assert (found.remarks, found.better) == ((), {"B/s": "high", "p99-ns/op": "low", "sec/op": "low"})


def test_what_is_told_in_both_spellings_at_once_stays_as_it_is() -> None:
    line = ["BenchmarkX 1 12 ns/op 1.2e-08 sec/op"]
    assert list(read_benchmarks(line, line, NAMES).metrics) == ["X ns/op", "X sec/op"]


def test_what_is_negative_is_not_called_zero() -> None:
    lines = ["BenchmarkX 1 12 ns/op -3 drift 0 B/op"]
    found = read_benchmarks(lines, lines, NAMES)
    assert (found.left_out, found.negative, list(found.metrics)) == (("X B/op",), ("X drift",), ["X ns/op"])
