"""`kernroll sim` as an operator calls it."""

import json

import pytest
from project import ROOT

from controller.cli.app import run
from controller.cli.exit_codes import ExitCode
from controller.domain.deciding import waves as advance_rollout

Captured = pytest.CaptureFixture[str]
EXAMPLES = ROOT / "deploy" / "examples"
PHASE3 = str(EXAMPLES / "rollout-swap-table-phase3.yaml")
FAULTS = str(EXAMPLES / "faults.yaml")


def test_one_run_tells_waves_hosts_and_the_truth(capsys: Captured) -> None:
    assert run(["sim", PHASE3, "--faults", FAULTS, "--hosts", "6"]) == ExitCode.OK
    told = capsys.readouterr()
    assert "promoted after" in told.out
    assert "6 hosts: 6 done" in told.out
    assert "Wave" in told.out
    assert "In truth nothing is wrong with the kernel" in told.out
    assert "simulating 6 hosts, seed 1" in told.err


def test_many_seeds_give_shares_and_json(capsys: Captured) -> None:
    assert run(["sim", PHASE3, "--hosts", "4", "--seeds", "3", "--jobs", "1", "-o", "json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert found["distribution"]["states"] == {"promoted": 3}
    assert [one["seed"] for one in found["runs"]] == ["1", "2", "3"]
    assert run(["sim", PHASE3, "--hosts", "4", "--seeds", "3", "--jobs", "1"]) == ExitCode.OK
    assert "100.0 %" in capsys.readouterr().out


def test_a_breach_is_told_with_the_smallest_command_and_fails(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advance_rollout, "_free", lambda _rollout, _moving: 99)
    assert run(["sim", PHASE3, "--hosts", "8"]) == ExitCode.FAILURE
    told = capsys.readouterr().err
    assert "kernroll breaks a rule of its own: the disruption budget is never exceeded" in told
    assert f"again:    kernroll sim {PHASE3} --hosts 8 --seed 1" in told
    assert f"smallest: kernroll sim {PHASE3} --hosts 5 --seed 1\n" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--faults", FAULTS], "--faults needs a rollout file"),
        ([PHASE3, "--then", "reboot"], "--then reboot: no such verb; there are pause, resume"),
        ([PHASE3, "--without", "hosts.dead_disk"], "--without hosts.dead_disk: no such fault"),
        (["no-such-file.yaml"], "no-such-file.yaml: no such file"),
    ],
)
def test_what_makes_no_sense_is_refused(capsys: Captured, arguments: list[str], told: str) -> None:
    assert run(["sim", *arguments]) == ExitCode.INPUT
    assert told in capsys.readouterr().err
