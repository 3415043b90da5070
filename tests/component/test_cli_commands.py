"""Every command against an operator service on the loopback interface: output, errors and exit codes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.shell_completion import CompletionItem, ShellComplete
from operator_server import OperatorServer, operator_server
from own_boot import own_boot
from patience import PATIENCE_S
from rollout_story import Story
from simulated_fleet import Faults

from controller.adapters.local.clock import SystemClock
from controller.adapters.rpc.messages import to_message
from controller.cli.app import root, run
from controller.cli.hosts.tables import host_rows
from controller.cli.lab import fleet as lab_fleet
from controller.cli.rollouts.tables import rollouts_table
from controller.domain.delivery import BootEnd
from controller.domain.record.journey import Step
from controller.views.hosts.listing import host_view
from controller.views.rollouts.status import rollout_view
from protos.kernroll.v1 import operator_pb2 as pb

SPEC = Path(__file__).parents[2] / "deploy" / "examples" / "rollout-minimal.yaml"
Captured = pytest.CaptureFixture[str]


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


def rollout(step: Step | None = None, faults: Faults | None = None) -> pb.Rollout:
    story = Story([["a"], ["b"]], {"a": faults or Faults()})
    story.run(until=lambda: story.step("a") is step)
    return to_message(rollout_view(story.rollout, story.attempts, {}, story.now), pb.Rollout)


def host() -> pb.Host:
    story = Story([["a"]])
    return to_message(host_view(story.world.hosts["a"], story.attempts["a"]), pb.Host)


def test_hosts_list(server: OperatorServer, capsys: Captured) -> None:
    server.answers["ListHosts"] = pb.ListHostsResponse(hosts=[host()])
    assert run(["hosts", "list", "--selector", "zone=a", "--where", 'arch == "arm64"']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["HOST", "STRATUM", "KERNEL", "MEMORY", "CONNECTED", "ROLLOUT", "STEP"]
    assert lines[1].split() == ["a", "x86_64/vm", "7.0.13-old", "2", "GiB", "yes", "trial", "pending"]
    assert (server.requests[0].selector, server.requests[0].where) == ("zone=a", 'arch == "arm64"')


def test_hosts_list_as_json(server: OperatorServer, capsys: Captured) -> None:
    server.answers["ListHosts"] = pb.ListHostsResponse(hosts=[host()])
    for arguments in (["--output", "json", "hosts", "list"], ["hosts", "list", "--output", "json"]):
        assert run(arguments) == 0
        found = json.loads(capsys.readouterr().out)["hosts"]
        assert set(found[0]) == {
            "name", "stratum", "connected", "last_seen", "facts", "rollout", "step", "labels", "attention",
            "quarantine", "spooled_reports", "boot",
        }  # fmt: skip
        assert found[0]["facts"]["memory_bytes"] == 2**31


def test_no_host_points_to_the_join_token(server: OperatorServer, capsys: Captured) -> None:
    server.answers["ListHosts"] = pb.ListHostsResponse()
    assert run(["hosts", "list"]) == 0
    assert "kernroll controller token create" in capsys.readouterr().out


def test_hosts_show(server: OperatorServer, capsys: Captured) -> None:
    server.answers["GetHost"] = host()
    assert run(["hosts", "show", "a"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"Page size +4 KiB", out)
    assert re.search(r"Rollout +trial, pending", out)


def test_hosts_show_tells_of_the_boot_where_the_host_tells_it(server: OperatorServer, capsys: Captured) -> None:
    server.answers["GetHost"] = host()
    assert run(["hosts", "show", "a"]) == 0
    assert "Pinned" not in capsys.readouterr().out
    known = replace(Story([["a"]]).world.hosts["a"], boot=own_boot())
    server.answers["GetHost"] = to_message(host_view(known), pb.Host)
    assert run(["hosts", "show", "a"]) == 0
    out = capsys.readouterr().out.partition("\nBoot\n")[2]
    assert re.search(r"Default +7.0.13-old \(aaaaaaaaaaaa\)", out)
    assert re.search(r"Armed +nothing", out)
    assert re.search(r"Proven +2026-03-01 11:36:40.*, by loader 537087644082, firmware SeaBIOS 1.16", out)
    assert re.search(r"Refused +menu-waits: the menu waits. Set GRUB_TIMEOUT", out)
    assert re.search(r"Watchdog +watchdog0 iTCO_wdt, which resets the machine after 30 s", out)
    assert re.search(r"Hang +the driver comes late. add it to the RAM disk", out)
    assert re.search(r"8 +7.1.13-new \(bbbbbbbbbbbb\) +trial .* panic +Kernel panic - not syncing", out)
    unproven = replace(known, boot=own_boot(proven_at=None, watchdog=None, withdrawn="the image is another"))
    server.answers["GetHost"] = to_message(host_view(unproven), pb.Host)
    assert run(["hosts", "show", "a"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"Proven +no: `kernroll hosts rehearse -i INVENTORY a`", out)
    assert re.search(r"Armed +nothing any more: the image is another", out)
    assert re.search(r"Watchdog +not told: `kernroll hosts enroll`", out)


def test_plan_prints_waves_and_blockers_and_tells_by_its_code(server: OperatorServer, capsys: Captured) -> None:
    plan = pb.Plan(name="x", seed="s", host_count=1, waves=[pb.PlannedWave(number=1, hosts=["a"], bake_s=90)])
    server.answers["PlanRollout"] = plan
    assert run(["rollout", "plan", str(SPEC)]) == 0
    assert "Nothing has been changed." in capsys.readouterr().out
    assert server.requests[0].spec_yaml == SPEC.read_text()
    plan.blockers.append("a is not connected.")
    assert run(["rollout", "plan", str(SPEC)]) == 6
    assert "✗ Blocker: a is not connected." in capsys.readouterr().out
    assert run(["rollout", "plan", str(SPEC), "-o", "json"]) == 6
    assert json.loads(capsys.readouterr().out)["blockers"] == ["a is not connected."]


def test_plan_prints_what_the_fleet_can_see(server: OperatorServer, capsys: Captured) -> None:
    design = pb.PlannedDesign(design="matched_pairs", hosts_needed=64, blocks_needed=32, blocks_there=1, first_fail=9)
    cell = pb.PlannedCell(
        stratum="arm64/vm", metric="swap_mount.swapoff_time", role="guard", margin=10, noise=7.9, hosts=3, runs=3
    )
    cell.fewest_runs = 4
    cell.designs.append(design)
    server.answers["PlanRollout"] = pb.Plan(name="x-aa", seed="s", host_count=3, aa=True, cells=[cell])
    assert run(["rollout", "plan", str(SPEC), "--aa"]) == 0
    assert server.requests[0].aa
    out = " ".join(capsys.readouterr().out.split())
    assert "swap_mount.swapoff_time (guard)" in out
    assert "With 3 runs a boot nothing can be judged on swap_mount.swapoff_time: a block needs 4." in out
    assert "matched_pairs 32 pairs 3 hosts 9 nothing" in out
    cell.suspended, cell.noise_hosts = "5 of 10 old-vs-old judgements failed", 12
    cell.designs[0].detectable = 21.25
    server.answers["PlanRollout"] = pb.Plan(name="x", cells=[cell])
    assert run(["rollout", "plan", str(SPEC)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "(12 hosts)" in out
    assert "21.2 %" in out
    assert "Suspended: arm64/vm swap_mount.swapoff_time: 5 of 10 old-vs-old judgements failed." in out


def test_start_shows_the_rollout(server: OperatorServer, capsys: Captured) -> None:
    server.answers["StartRollout"] = rollout(Step.BASELINE)
    assert run(["rollout", "start", str(SPEC)]) == 0
    assert "Waits: a measures the old kernel" in capsys.readouterr().out


def test_status_shows_hosts_reason_and_deadline(server: OperatorServer, capsys: Captured) -> None:
    server.answers["GetRollout"] = rollout(Step.VERIFY)
    assert run(["rollout", "status", "trial"]) == 0
    out = capsys.readouterr().out
    assert "▶ verify" in out
    assert "Waits: a boots the kernel on trial" in out
    assert "Next: a: a healthy agent must answer" in out


def test_status_without_a_name_takes_the_active_rollout(server: OperatorServer, capsys: Captured) -> None:
    ended, active = rollout(), rollout(Step.VERIFY)
    ended.name, ended.started_at.seconds = "old", active.started_at.seconds + 500
    server.answers["ListRollouts"] = pb.ListRolloutsResponse(rollouts=[ended, active])
    assert run(["rollout", "status"]) == 0
    assert capsys.readouterr().out.startswith("trial is")
    server.answers["ListRollouts"] = pb.ListRolloutsResponse()
    assert run(["rollout", "status"]) == 5


def test_list_tells_what_each_waits_for(server: OperatorServer, capsys: Captured) -> None:
    server.answers["ListRollouts"] = pb.ListRolloutsResponse(rollouts=[rollout(), rollout(Step.VERIFY)])
    assert run(["rollout", "list"]) == 0
    out = capsys.readouterr().out
    assert "✓ promoted" in out
    assert "a boots the kernel on trial" in out


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["pause", "trial", "--remark", "incident"], {"verb": pb.ROLLOUT_VERB_PAUSE, "remark": "incident"}),
        (["resume", "trial"], {"verb": pb.ROLLOUT_VERB_RESUME}),
        (["promote", "trial"], {"verb": pb.ROLLOUT_VERB_PROMOTE}),
        (
            ["promote", "trial", "--skip", "--remark", "seen"],
            {"verb": pb.ROLLOUT_VERB_PROMOTE, "skip": True, "remark": "seen"},
        ),
        (
            ["promote", "trial", "--full", "--remark", "fix"],
            {"verb": pb.ROLLOUT_VERB_PROMOTE, "full": True, "remark": "fix"},
        ),
        (["approve", "trial", "--remark", "well"], {"verb": pb.ROLLOUT_VERB_APPROVE, "remark": "well"}),
        (["retry", "trial", "a", "b"], {"verb": pb.ROLLOUT_VERB_RETRY, "hosts": ["a", "b"]}),
        (["skip", "trial", "a"], {"verb": pb.ROLLOUT_VERB_SKIP, "hosts": ["a"]}),
        (["abort", "trial", "--remark", "wrong kernel"], {"verb": pb.ROLLOUT_VERB_ABORT, "remark": "wrong kernel"}),
        (["revert", "trial"], {"verb": pb.ROLLOUT_VERB_REVERT}),
        (["revert", "trial", "--emergency"], {"verb": pb.ROLLOUT_VERB_REVERT, "emergency": True}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_verbs_pass_what_was_asked(
    server: OperatorServer, capsys: Captured, arguments: list[str], sent: dict[str, Any]
) -> None:
    server.answers["ControlRollout"] = rollout(Step.VERIFY)
    assert run(["rollout", *arguments]) == 0
    assert server.requests == [pb.ControlRolloutRequest(name="trial", **sent)]
    assert "trial is" in capsys.readouterr().out


def test_explain(server: OperatorServer, capsys: Captured) -> None:
    server.answers["ExplainRollout"] = pb.Explanation(sentence="It panicked.", evidence=["one"], next_command="ls")
    assert run(["rollout", "explain", "trial"]) == 0
    assert capsys.readouterr().out == "It panicked.\n  - one\nNext: ls\n"
    assert run(["rollout", "explain", "trial", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "sentence": "It panicked.",
        "evidence": ["one"],
        "next_command": "ls",
    }


def test_log(server: OperatorServer, capsys: Captured) -> None:
    lines = [pb.RolloutLogLine(offset_s=65.0, host="a", text="by ssh, stage begins")]
    now = [pb.RolloutLogLine(offset_s=90.0, host="a", text="by ssh: kernroll-boot, for 25 s")]
    server.answers["GetRolloutLog"] = pb.RolloutLog(name="trial", lines=lines, left_out=3, under_way=now)
    assert run(["rollout", "log", "trial", "--host", "a", "--last", "1"]) == 0
    assert server.requests == [pb.GetRolloutLogRequest(name="trial", host="a", most=1)]
    printed = capsys.readouterr()
    assert [line.split(maxsplit=2) for line in printed.out.splitlines()] == [
        ["+01:05", "a", "by ssh, stage begins"],
        ["now", "a", "by ssh: kernroll-boot, for 25 s"],
    ]
    assert printed.err == "3 older lines are not shown\n"
    assert run(["rollout", "log", "trial", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["under_way"][0]["text"] == "by ssh: kernroll-boot, for 25 s"


def test_report_prints_and_writes_every_form(server: OperatorServer, capsys: Captured, tmp_path: Path) -> None:
    server.answers["ReportRollout"] = pb.RolloutReport(text="plain\n", markdown="# md\n", json='{"a": 1}\n')
    assert run(["rollout", "report", "trial"]) == 0
    assert run(["rollout", "report", "trial", "--format", "markdown"]) == 0
    assert run(["rollout", "report", "trial", "--output", "json"]) == 0
    assert capsys.readouterr().out == 'plain\n# md\n{"a": 1}\n'
    file = tmp_path / "report.md"
    assert run(["rollout", "report", "trial", "--write", str(file)]) == 0
    assert file.read_text() == "# md\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    assert run(["rollout", "report", "trial", "--write", str(tmp_path / "none" / "x.json")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_only_a_cover_letter_joins_several_rollouts(server: OperatorServer, capsys: Captured) -> None:
    server.answers["ReportRollout"] = pb.RolloutReport(text="plain\n", letter="letter\n")
    assert run(["rollout", "report", "one", "two", "--format", "cover-letter"]) == 0
    assert capsys.readouterr().out == "letter\n"
    assert (server.requests[0].name, list(server.requests[0].beside)) == ("one", ["two"])
    assert run(["rollout", "report", "one", "two"]) != 0
    assert "only --format cover-letter joins several rollouts" in capsys.readouterr().err


def test_token_create(server: OperatorServer, capsys: Captured) -> None:
    server.answers["CreateJoinToken"] = pb.JoinToken(token="kr1.x")
    assert run(["controller", "token", "create", "--uses", "3", "--valid", "2h"]) == 0
    assert capsys.readouterr().out == "kr1.x\n"
    assert (server.requests[0].uses, server.requests[0].valid_s) == (3, 7200.0)


@pytest.mark.parametrize(
    ("status", "details", "code", "said"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "x.yaml:3: spec: wrong\nx.yaml:9: spec: worse", 3, "x.yaml:9: spec: worse"),
        (grpc.StatusCode.NOT_FOUND, "there is no rollout trial", 5, "there is no rollout trial"),
        (grpc.StatusCode.FAILED_PRECONDITION, "it has ended", 6, "it has ended"),
        (grpc.StatusCode.ALREADY_EXISTS, "the name is used", 6, "the name is used"),
        (grpc.StatusCode.UNAVAILABLE, "the mirror does not answer", 4, "the mirror does not answer"),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", 1, "speaks another version of the protocol"),
        (grpc.StatusCode.PERMISSION_DENIED, "an agent", 1, "refuses GetRollout to this certificate: an agent"),
        (grpc.StatusCode.INTERNAL, "oops", 1, "failed on the controller"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", 8, "did not answer within 30 s"),
    ],
)
def test_errors_are_one_message_and_a_code(
    server: OperatorServer, capsys: Captured, *, status: grpc.StatusCode, details: str, code: int, said: str
) -> None:
    server.answers["GetRollout"] = (status, details)
    assert run(["rollout", "status", "trial"]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.startswith("kernroll: ")
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_panic_is_readable_without_colour(server: OperatorServer, capsys: Captured) -> None:
    server.answers["GetRollout"] = rollout(None, Faults(trial_end=BootEnd.PANIC))
    assert run(["rollout", "status", "trial"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "✗ failed" in out
    assert "reverted: a: the kernel panicked: “Kernel panic - not syncing: simulated”" in out


def test_a_locale_without_utf_8_loses_signs_and_no_words(server: OperatorServer) -> None:
    server.answers["GetRollout"] = rollout(Step.BAKE)
    command = [sys.executable, "-m", "controller", "rollout", "status", "trial"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "trial is ? running" in done.stdout


def test_a_fleet_does_not_take_the_names_of_another(
    server: OperatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    known = host()
    known.name = "x86-64-1"
    server.answers["ListHosts"] = pb.ListHostsResponse(hosts=[known])
    monkeypatch.setattr(lab_fleet, "available_memory_mib", lambda _: 1 << 20)
    assert run(["lab", "up", "--arm64", "0", "--fleet-dir", str(tmp_path)]) == 6
    said = capsys.readouterr()
    assert "x86-64-1 is enrolled at this controller by another fleet" in said.err
    assert not list(tmp_path.iterdir())


def test_shells_complete_what_the_controller_knows(
    server: OperatorServer, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    server.answers["ListRollouts"] = pb.ListRolloutsResponse(rollouts=[rollout()])
    server.answers["ListHosts"] = pb.ListHostsResponse(hosts=[host()])
    assert completed("rollout", "explain", "t") == ["trial"]
    assert completed("rollout", "abort", "x") == []
    assert completed("hosts", "show", "") == ["a"]
    assert completed("--controller", "127.0.0.1:1", "hosts", "show", "") == []
    assert [item.type for item in items("spec", "check", "roll")] == ["file"]


def items(*words: str) -> list[CompletionItem]:
    return ShellComplete(root, {}, "kernroll", "_KERNROLL_COMPLETE").get_completions(list(words[:-1]), words[-1])


def completed(*words: str) -> list[str]:
    return [item.value for item in items(*words)]


def test_a_narrow_terminal_gets_fewer_columns_and_whole_words() -> None:
    story = Story([["a"]])
    seen = host_view(story.world.hosts["a"], story.attempts["a"])
    titles = {width: list(host_rows([seen], 0.0, width)[0]) for width in (80, 160)}
    assert titles[160] == ["HOST", "STRATUM", "KERNEL", "MEMORY", "CONNECTED", "ROLLOUT", "STEP"]
    assert titles[80] == ["HOST", "KERNEL", "CONNECTED", "ROLLOUT", "STEP"]
    view = rollout_view(story.rollout, story.attempts, {}, story.now)
    assert len(rollouts_table([view], 80).columns) == len(rollouts_table([view], 160).columns) - 1


def test_a_reader_who_leaves_early_is_no_failure(server: OperatorServer) -> None:
    server.answers["GetRollout"] = rollout(Step.BAKE)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "controller", "rollout", "status", "trial"]
    try:
        done = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
