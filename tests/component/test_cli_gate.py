"""`kernroll gate` as people and programs call it: files in, verdict, picture and exit code out."""

import io
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from operator_server import OperatorServer, operator_server
from patience import PATIENCE_S
from rollout_story import Story

from controller.adapters.local.clock import SystemClock
from controller.adapters.rpc.messages import to_message
from controller.cli.app import run
from controller.cli.exit_codes import ExitCode
from controller.cli.gate.gate import code_of
from controller.domain.samples.parse import sample_line
from controller.services.operating.replay import replay
from controller.services.records import Logged
from controller.views.rollouts.status import rollout_view
from protos.kernroll.v1 import operator_pb2 as pb

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
        lines = [f"BenchmarkSwap-8 100 {value + index} ns/op 0 allocs/op 5 hits/op" for index in range(10)]
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    old, new, plan, samples = (str(tmp_path / name) for name in ("old.txt", "new.txt", "plan.json", "runs.jsonl"))
    assert run(["gate", "import", "benchstat", old, new, "--output-samples", samples, "--output-plan", plan]) == 0
    told = capsys.readouterr().err
    assert "INCONCLUSIVE (confounded with time)" in told
    assert "abba" in told
    assert "Swap-8 allocs/op" in told
    assert "Guessed: less is better of hits/op. A line `Unit hits/op better=higher`" in told
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
    assert "10 cycles on 1 host (says nothing of others)" in capsys.readouterr().out


def test_judging_needs_neither_grpc_nor_a_picture_library() -> None:
    script = (
        "import sys; from controller.cli.app import run;"
        f"run(['gate', 'judge', '--plan', {PLAN!r}, '--samples', {RUNS!r}]);"
        "print([name for name in ('grpc', 'matplotlib', 'sqlalchemy') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stderr == "[]\n"


def test_what_if_the_margin_were_another(capsys: Captured) -> None:
    arguments = [*JUDGE, RUNS, "--output", "json", "--margin", "kernel_build.system_time=20%"]
    assert run(arguments) in (ExitCode.OK, ExitCode.UNDECIDED)
    data = json.loads(capsys.readouterr().out)
    assert data["remarks"][0] == "What if: kernel_build.system_time has a margin of 20 % instead of 3 %."
    assert "FAIL" not in {row["verdict"] for panel in data["panels"] for row in panel["rows"]}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--margin", "kernel_build.system_time", "--margin: must be METRIC=VALUE"),
        ("--margin", "kernel_build.system_time=3", "--margin: kernel_build.system_time: must be a percentage"),
        ("--margin", "build=3%", "--margin: the plan has no margin of build; it has those of kernel_build.system_time"),
        ("--claim", "kernel_build.system_time=3", "--claim: the plan claims nothing of kernel_build.system_time"),
        ("--claim", "cost=much", "--claim: cost: must be a number (got 'much')"),
        ("--claim", "cost=nan", "--claim: cost: must be a finite number"),
    ],
)
def test_wrong_what_ifs_are_told(option: str, value: str, said: str, capsys: Captured) -> None:
    assert run([*JUDGE, RUNS, option, value]) == ExitCode.INPUT
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorServer]:
    with operator_server(tmp_path_factory.mktemp("controller"), SystemClock().now()) as server:
        yield server


@pytest.fixture
def server(shared: OperatorServer, monkeypatch: pytest.MonkeyPatch) -> OperatorServer:
    shared.answers.clear()
    shared.requests.clear()
    monkeypatch.setenv("KERNROLL_CONTROLLER", shared.address)
    monkeypatch.setenv("KERNROLL_CLIENT_DIR", str(shared.client_dir))
    return shared


def replay_of(claims: dict[str, float]) -> pb.Replay:
    story = Story([["a"], ["b"]])
    story.run()
    logged = [Logged(number=1, stream=stream, revision=0, event=event) for stream, event in story.events]
    return to_message(replay(story.rollout, logged, claims, {}), pb.Replay)


def test_a_replay_is_told_with_its_code(server: OperatorServer, tmp_path: Path, capsys: Captured) -> None:
    server.answers["ReplayGate"] = replay_of({})
    assert run(["gate", "replay", "trial"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "Wave 1, recorded: " in out
    assert out.count("replayed: the same, to the last digit.") == 2
    server.answers["ReplayGate"] = replay_of({"swap_mount.cost": 300.0})
    arguments = ["gate", "replay", "trial", "--claim", "swap_mount.cost=300", "--plot", str(tmp_path / "what-if.svg")]
    assert run(arguments) == ExitCode.UNDECIDED
    assert dict(server.requests[-1].claims) == {"swap_mount.cost": 300.0}
    assert "What if: swap_mount.cost: claim ≥ 300 MiB/TiB instead of ≥ 230.4." in capsys.readouterr().out
    assert (tmp_path / "what-if.svg").exists()
    assert run(["gate", "replay", "trial", "--output", "json"]) == ExitCode.UNDECIDED
    assert json.loads(capsys.readouterr().out)["waves"][0]["same"] is False


def test_a_rollout_is_drawn(server: OperatorServer, tmp_path: Path, capsys: Captured) -> None:
    story = Story([["a"], ["b"]])
    server.answers["GetRollout"] = lambda _: to_message(
        rollout_view(story.rollout, story.attempts, {}, story.now), pb.Rollout
    )
    assert run(["rollout", "report", "trial", "--plot", str(tmp_path / "forest.svg")]) == ExitCode.CONFLICT
    assert "no verdict to draw yet" in capsys.readouterr().err
    story.run()
    assert run(["rollout", "report", "trial", "--plot", str(tmp_path / "forest.svg")]) == ExitCode.OK
    assert "CONFIRMED".lower() in (tmp_path / "forest.svg").read_text(encoding="utf-8")
    assert capsys.readouterr().out == ""


def test_a_plan_says_what_it_can_decide_before_anything_is_measured(tmp_path: Path, capsys: Captured) -> None:
    metrics = {
        "build": {"unit": "s", "better": "low", "margin": "3 %"},
        "user": {"unit": "s", "margin": "1 %", "role": "negative_control", "sigma": "learn"},
        "cost": {"unit": "MiB", "better": "low", "claim": {"saves_at_least": 230, "sigma_run": 2}},
    }
    (tmp_path / "plan.json").write_text(
        json.dumps({"design": "matched_pairs", "sigma": "3 %", "metrics": metrics}), encoding="utf-8"
    )
    assert run(["gate", "plan", str(tmp_path / "plan.json")]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "build: 22 host pairs, margin 3 %, noise 3 % each." in out
    assert "the first that can FAIL is one at" in out
    assert "cost: a claim, decided from one host on by its declared errors (2 MiB a run, 0 MiB a host)." in out
    assert "user: one look at everything there is; below 7 blocks a stratum ranks cannot decide." in out
    assert run(["gate", "plan", str(tmp_path / "plan.json"), "--output", "json"]) == ExitCode.OK
    assert len(json.loads(capsys.readouterr().out)["sentences"]) >= 4


def test_the_ledger_is_a_table_and_names_what_is_suspended(server: OperatorServer, capsys: Captured) -> None:
    server.answers["GetLedger"] = pb.Ledger()
    assert run(["gate", "ledger"]) == ExitCode.OK
    assert "kernroll rollout start FILE --aa" in " ".join(capsys.readouterr().out.split())
    cell = pb.LedgerCell(
        stratum="arm64/vm", metric="kernel_build.system_time", boots=40, hosts=20, noise=2.5, unit="%", noise_hosts=20
    )
    cell.judgements, cell.false_reverts, cell.suspended = 10, 5, "5 of 10 old-vs-old judgements failed"
    server.answers["GetLedger"] = pb.Ledger(cells=[cell])
    assert run(["gate", "ledger", "--output", "json"]) == ExitCode.OK
    (found,) = json.loads(capsys.readouterr().out)["cells"]
    assert (found["noise_hosts"], found["suspended"]) == (20, "5 of 10 old-vs-old judgements failed")
    assert run(["gate", "ledger"]) == ExitCode.OK
    assert "2.50 %" in capsys.readouterr().out


def test_a_replay_may_take_another_margin(server: OperatorServer, capsys: Captured) -> None:
    server.answers["ReplayGate"] = replay_of({})
    assert run(["gate", "replay", "trial", "--margin", "swap_mount.swapoff_time=0.5%"]) == ExitCode.OK
    assert dict(server.requests[-1].margins) == {"swap_mount.swapoff_time": pytest.approx(0.005)}
    capsys.readouterr()
    assert run(["gate", "replay", "trial", "--margin", "swap_mount.swapoff_time=half"]) == ExitCode.INPUT
    assert "--margin: swap_mount.swapoff_time: must be a percentage" in capsys.readouterr().err
