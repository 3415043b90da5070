"""`--watch` follows a rollout to its end: through restarts of the controller, on terminals and in pipes."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from operator_server import OperatorServer, operator_server
from patience import PATIENCE_S
from rich.console import Console
from rich.live import Live
from rollout_story import Story
from simulated_fleet import Faults

from controller.adapters.local.clock import SystemClock
from controller.adapters.rpc.fleet_client import FleetClient
from controller.adapters.rpc.messages import to_message
from controller.cli.app import run
from controller.cli.rollouts import watch
from controller.cli.rollouts.live import LineSink, LiveSink, open_sink
from controller.cli.rollouts.log import LogSink
from controller.cli.session import Session
from controller.domain.delivery import BootEnd
from controller.domain.record.journey import Step
from controller.views.models import LiveProgress, RolloutLogView, RolloutView
from controller.views.rollouts.status import rollout_view
from protos.kernroll.v1 import operator_pb2 as pb

Captured = pytest.CaptureFixture[str]
STEPS = (Step.BASELINE, Step.STAGE, Step.VERIFY, Step.PROBATION, Step.BAKE)
RESTARTS = (grpc.StatusCode.UNAVAILABLE, "Socket closed")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorServer]:
    with operator_server(tmp_path_factory.mktemp("controller"), SystemClock().now()) as server:
        yield server


@pytest.fixture
def server(shared: OperatorServer, monkeypatch: pytest.MonkeyPatch) -> OperatorServer:
    shared.answers.clear()
    shared.watches.clear()
    shared.release.clear()
    monkeypatch.setenv("KERNROLL_CONTROLLER", shared.address)
    monkeypatch.setenv("KERNROLL_CLIENT_DIR", str(shared.client_dir))
    monkeypatch.setattr(watch, "_RETRY_S", 0.01)
    return shared


def views(faults: Faults | None = None) -> list[RolloutView]:
    """A rollout of two hosts, step by step to its end."""
    story = Story([["a"], ["b"]], {"a": faults or Faults()})
    seen = []
    for step in STEPS:
        story.run(until=lambda step=step: story.step("a") is step or story.rollout.ended)  # type: ignore[misc]  # binds this step, not the last
        seen.append(rollout_view(story.rollout, story.attempts, {}, story.now))
    story.run()
    return [*seen, rollout_view(story.rollout, story.attempts, {}, story.now)]


def messages(faults: Faults | None = None) -> list[Any]:
    return [to_message(view, pb.Rollout) for view in views(faults)]


def test_a_promotion_is_one_line_per_change(server: OperatorServer, capsys: Captured) -> None:
    server.watches = [messages()]
    assert run(["rollout", "status", "trial", "--watch"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "+00:00 a pending → baseline, 7.0.13-old"
    assert "+00:37 a verify → probation, 7.1.13-new" in lines
    assert lines[-1].startswith("+03:56 trial promoted: every host lives")
    assert len(lines) == len(set(lines))


def test_a_revert_ends_with_its_own_code(server: OperatorServer, capsys: Captured) -> None:
    server.watches = [messages(Faults(trial_end=BootEnd.PANIC))]
    assert run(["rollout", "status", "trial", "--watch"]) == 7
    assert "reverted: a: the kernel panicked" in capsys.readouterr().out


def test_a_revert_that_was_asked_for_is_a_success(server: OperatorServer) -> None:
    script = messages(Faults(trial_end=BootEnd.PANIC))
    server.answers["ControlRollout"] = script[0]
    server.watches = [script]
    assert run(["rollout", "revert", "trial", "--watch"]) == 0


def test_start_watches(server: OperatorServer) -> None:
    script = messages()
    server.answers["StartRollout"] = script[0]
    server.watches = [script]
    spec = Path(__file__).parents[2] / "deploy" / "examples" / "rollout-minimal.yaml"
    assert run(["rollout", "start", str(spec), "--watch"]) == 0


def test_a_restart_of_the_controller_is_said_once_and_survived(server: OperatorServer, capsys: Captured) -> None:
    script = messages()
    server.watches = [[*script[:2], RESTARTS], [RESTARTS], [RESTARTS], script[2:]]
    assert run(["rollout", "status", "trial", "--watch"]) == 0
    out = capsys.readouterr().out
    assert out.count("trying again") == 1
    assert "promoted" in out.splitlines()[-1]


def test_an_unknown_rollout_is_not_waited_for(server: OperatorServer, capsys: Captured) -> None:
    server.watches = [[(grpc.StatusCode.NOT_FOUND, "there is no rollout x")]]
    assert run(["rollout", "status", "x", "--watch"]) == 5
    assert capsys.readouterr().err == "kernroll: there is no rollout x\n"


def test_a_paused_rollout_is_an_end_unless_told_otherwise(server: OperatorServer, capsys: Captured) -> None:
    paused = messages(Faults(new_cost=700.0))[-1]
    server.watches = [[paused]]
    assert run(["rollout", "status", "trial", "--watch"]) == 7
    assert "paused: x86_64/vm swap_mount.cost" in capsys.readouterr().out
    server.watches = [[paused]]
    assert run(["rollout", "status", "trial", "--watch", "--until", "ended", "--timeout", "300ms"]) == 8
    assert "has not ended after 0.3 s; it goes on" in capsys.readouterr().err


def test_json_is_one_document_per_change(server: OperatorServer, capsys: Captured) -> None:
    server.watches = [messages()]
    assert run(["rollout", "status", "trial", "--watch", "--output", "json"]) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [document["state"] for document in documents][-1] == "promoted"
    assert len(documents) == 6


def test_control_c_leaves_the_rollout_alone(
    server: OperatorServer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.watches = [messages()[:2]]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.Follower, "news", interrupted)
    assert run(["rollout", "status", "trial", "--watch"]) == 130
    assert "the rollout goes on" in capsys.readouterr().err


def picture(view: RolloutView, *, height: int, now: float = 1010.0) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=140, height=height, color_system=None)
    with Live(console=console, auto_refresh=False) as live:
        sink = LiveSink(live, console, lambda: now)
        sink.tick()
        sink.show(view)
        sink.unheard("no controller answers")
        sink.show(view)
        sink.tick()
    return out.getvalue()


def test_the_live_picture_has_bars_countdowns_and_the_reason() -> None:
    story = Story([["a"]])
    story.run(until=lambda: story.step("a") is Step.BASELINE)
    view = rollout_view(story.rollout, story.attempts, {"a": LiveProgress("run 2 of 3", 0.4)}, story.now)
    out = picture(view, height=30)
    assert "████░░░░░░  40% run 2 of 3" in out
    assert "Waits: a measures the old kernel" in out
    assert "Next: a: the baseline must be measured within 3 min 30 s" in out
    assert "! no controller answers; trying again" in out


def test_a_large_fleet_is_shortened_to_where_something_happens() -> None:
    names = [f"h{number:03}" for number in range(100)]
    story = Story([names], max_in_flight=2)
    story.run(until=lambda: story.step("h001") is Step.STAGE)
    view = rollout_view(story.rollout, story.attempts, {}, story.now)
    out = picture(view, height=20)
    assert "h000" in out
    assert "and 92 more hosts: 92 pending" in out
    ended = replace(view, terminal=True)
    assert "h099" in picture(ended, height=20)


def test_a_signal_ends_a_real_process_cleanly(server: OperatorServer) -> None:
    server.watches = [messages()[:2]]
    command = [sys.executable, "-c", "from controller.cli import main; main()", "rollout", "status", "trial", "--watch"]
    # A suite that runs in the background of a shell hands an ignored SIGINT down, which Python then leaves ignored.
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, found)
    with process:
        assert process.stdout is not None
        assert "pending → baseline" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert said == "left; the rollout goes on. Follow it again with `kernroll rollout status trial --watch`.\n"


def test_a_terminal_that_cannot_draw_gets_lines(server: OperatorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    session = Session(address=server.address, client_dir=server.client_dir, insecure=False, output="text", now=float)
    with open_sink(session) as sink:
        assert isinstance(sink, LineSink)


def log_of(*texts: str, left_out: int = 0) -> pb.RolloutLog:
    return pb.RolloutLog(
        name="trial",
        lines=[pb.RolloutLogLine(host="a", text=text, offset_s=number) for number, text in enumerate(texts)],
        left_out=left_out,
    )


def test_a_followed_log_shows_each_line_once_until_the_rollout_ends(
    server: OperatorServer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = messages()
    server.watches = [[*script[:2], RESTARTS], script[2:]]
    logs = [log_of("staged", left_out=7), log_of("staged", "armed", "blessed", left_out=7)]
    fetch = FleetClient.rollout_log

    def rollout_log(client: FleetClient, name: str, *, host: str, most: int) -> RolloutLogView:
        server.answers["GetRolloutLog"] = logs.pop(0) if len(logs) > 1 else logs[0]
        return fetch(client, name, host=host, most=most)

    monkeypatch.setattr(FleetClient, "rollout_log", rollout_log)
    monkeypatch.setattr("controller.cli.rollouts.log._GATHER_S", 0.0)
    assert run(["rollout", "log", "trial", "--host", "a", "--last", "1", "--follow"]) == 0
    said = capsys.readouterr()
    assert [line.split()[-1] for line in said.out.splitlines()] == ["staged", "armed", "blessed"]
    assert said.err.count("trying again") == 1
    assert said.err.count("7 older lines are not shown") == 1
    asked = [one for one in server.requests if isinstance(one, pb.GetRolloutLogRequest)]
    assert {(one.host, one.most) for one in asked} == {("a", 1), ("a", 0)}


def test_lines_that_a_followed_log_could_not_show_are_counted(server: OperatorServer, capsys: Captured) -> None:
    client = FleetClient(server.address, client_dir=server.client_dir)
    sink = LogSink(client, "trial", host="", last=1000, as_json=True)
    script = views()
    server.answers["GetRolloutLog"] = log_of("one")
    sink.show(script[0])
    server.answers["GetRolloutLog"] = log_of("five", left_out=4)
    sink.show(script[-1])
    said = capsys.readouterr()
    assert [json.loads(line)["text"] for line in said.out.splitlines()] == ["one", "five"]
    assert said.err == "3 lines came too fast to be shown\n"
    client.close()
