"""Go benchmark output as samples."""

import json

import pytest

from controller.adapters.benchstat import plan_of, read_benchmarks
from controller.domain.errors import InvalidInput
from controller.domain.samples import parse_plan, parse_samples, sample_line
from controller.gate.trial_judge import judge_trial
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
