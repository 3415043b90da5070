"""`kernroll gate` as people and programs call it: files in, verdict, picture and exit code out."""

import io
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from controller.cli.app import run
from controller.cli.exit_codes import ExitCode
from controller.cli.gate import code_of
from controller.domain.samples import sample_line

EXAMPLE = Path(__file__).parents[2] / "deploy" / "examples" / "gate"
PLAN, RUNS = str(EXAMPLE / "plan.json"), str(EXAMPLE / "runs.jsonl")
Captured = pytest.CaptureFixture[str]
JUDGE = ["gate", "judge", "--plan", PLAN, "--samples"]


def test_the_example_is_told_with_its_reason_and_code(capsys: Captured) -> None:
    assert run([*JUDGE, RUNS]) == ExitCode.UNSUCCESSFUL
    out = capsys.readouterr().out
    assert "✗  arm64/vm   kernel_build.system_time" in out
    assert out.splitlines()[-1].startswith("REVERT: arm64/vm kernel_build.system_time: ")


def test_json_is_the_same_for_every_order_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    lines = Path(RUNS).read_text(encoding="utf-8").splitlines(keepends=True)
    outputs = []
    for seed in range(3):
        shuffled = random.Random(seed).sample(lines, len(lines))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(shuffled).encode())))
        assert run(["--output", "json", *JUDGE, "-"]) == ExitCode.UNSUCCESSFUL
        outputs.append(capsys.readouterr().out)
    assert len(set(outputs)) == 1
    assert json.loads(outputs[0])["verdict"] == "FAIL"


def test_a_stratum_that_passes_ends_with_0(tmp_path: Path, capsys: Captured) -> None:
    lines = Path(RUNS).read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "runs.jsonl").write_text("".join(line for line in lines if "x86_64" in line), encoding="utf-8")
    plan = {**json.loads(Path(PLAN).read_text(encoding="utf-8")), "strata": ["x86_64/vm"]}
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    arguments = ["--plan", str(tmp_path / "plan.json"), "--samples", str(tmp_path / "runs.jsonl")]
    assert run(["gate", "judge", *arguments]) == ExitCode.OK
    # The other stratum was planned and is not there: no data is never a pass.
    assert run([*JUDGE, str(tmp_path / "runs.jsonl")]) == ExitCode.UNDECIDED


def test_every_verdict_has_its_code() -> None:
    codes = {verdict: code_of(verdict) for verdict in ("PASS", "MARGINAL", "NEED_MORE_DATA", "INCONCLUSIVE", "FAIL")}
    assert list(codes.values()) == [0, 0, 9, 9, 7]
    assert code_of("FATAL") == 7


@pytest.mark.parametrize("name", ["forest.svg", "forest.png"])
def test_the_plot_is_written_beside_the_verdict(name: str, tmp_path: Path, capsys: Captured) -> None:
    assert run([*JUDGE, RUNS, "--plot", str(tmp_path / name)]) == ExitCode.UNSUCCESSFUL
    captured = capsys.readouterr()
    assert (tmp_path / name).stat().st_size > 5000
    assert name in captured.err
    assert "REVERT" in captured.out


def test_wrong_files_are_located(tmp_path: Path, capsys: Captured) -> None:
    wrong = tmp_path / "runs.jsonl"
    wrong.write_bytes(Path(RUNS).read_bytes() + b'{"host": "a"}\n')
    assert run([*JUDGE, str(wrong)]) == ExitCode.INPUT
    assert f"{wrong}:641: stratum: is missing" in capsys.readouterr().err
    wrong.write_bytes(b"\xff\xfe\n")
    assert run([*JUDGE, str(wrong)]) == ExitCode.INPUT
    assert f"{wrong}:1: is not UTF-8 text" in capsys.readouterr().err
    assert run([*JUDGE, str(tmp_path / "missing.jsonl")]) == ExitCode.INPUT
    assert "no such file" in capsys.readouterr().err
    assert run(["gate", "judge", "--plan", "-", "--samples", "-"]) == ExitCode.INPUT
    assert run([*JUDGE, RUNS, "--plot", str(tmp_path / "forest.gif")]) == ExitCode.INPUT


def test_a_half_measured_trial_waits_unless_it_is_final(tmp_path: Path, capsys: Captured) -> None:
    plan = {**json.loads(Path(PLAN).read_text(encoding="utf-8")), "looks": [20, 40]}
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    arguments = ["gate", "judge", "--plan", str(tmp_path / "plan.json"), "--samples", RUNS, "--output", "json"]
    assert run(arguments) == ExitCode.UNDECIDED
    assert json.loads(capsys.readouterr().out)["verdict"] == "NEED_MORE_DATA"
    assert run([*arguments, "--final"]) == ExitCode.UNSUCCESSFUL


@pytest.mark.parametrize("which", ["plan", "samples"])
def test_schemas_are_printed(which: str, capsys: Captured) -> None:
    assert run(["gate", "schema", which]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].endswith("2020-12/schema")


def test_benchmarks_are_imported_judged_and_never_decided(tmp_path: Path, capsys: Captured) -> None:
    for name, value in (("old.txt", 1200), ("new.txt", 900)):
        lines = [f"BenchmarkSwap-8 100 {value + index} ns/op 0 allocs/op" for index in range(10)]
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    old, new, plan, samples = (str(tmp_path / name) for name in ("old.txt", "new.txt", "plan.json", "runs.jsonl"))
    assert run(["gate", "import", "benchstat", old, new, "--output-samples", samples, "--output-plan", plan]) == 0
    told = capsys.readouterr().err
    assert "INCONCLUSIVE (confounded with time)" in told
    assert "abba" in told
    assert "Swap-8 allocs/op" in told
    assert run(["gate", "judge", "--plan", plan, "--samples", samples]) == ExitCode.UNDECIDED
    assert "confounded with time" in capsys.readouterr().out
    assert run(["gate", "import", "benchstat", old, new]) == 0
    assert capsys.readouterr().out == Path(samples).read_text(encoding="utf-8")
    assert run(["gate", "import", "benchstat", old, new, "--margin", "3"]) == ExitCode.INPUT


def test_interleaved_benchmarks_are_decided_as_abba(tmp_path: Path, capsys: Captured) -> None:
    """What the importer advises: the same machine walks old, new, new, old, several times."""
    rng = random.Random(5)
    lines = [
        sample_line(
            {
                "host": "bench",
                "stratum": "all",
                "position": position,
                "cycle": cycle,
                "run": index,
                "metric": "Swap ns/op",
                "unit": "ns/op",
                "value": 1000 * (0.9 if position in (2, 3) else 1) * (1 + cycle / 50) * rng.uniform(0.99, 1.01),
            }
        )
        for cycle in range(1, 11)
        for position in range(1, 5)
        for index in range(4)
    ]
    (tmp_path / "runs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    plan = {"design": "abba", "metrics": {"Swap ns/op": {"unit": "ns/op", "better": "low", "margin": "3 %"}}}
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    arguments = ["--plan", str(tmp_path / "plan.json"), "--samples", str(tmp_path / "runs.jsonl")]
    assert run(["gate", "judge", *arguments]) == ExitCode.OK
    assert "10 cycles" in capsys.readouterr().out


def test_judging_needs_neither_grpc_nor_a_picture_library() -> None:
    script = (
        "import sys; from controller.cli.app import run;"
        f"run(['gate', 'judge', '--plan', {PLAN!r}, '--samples', {RUNS!r}]);"
        "print([name for name in ('grpc', 'matplotlib', 'sqlalchemy') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"
