"""`kernroll hosts enroll` against an operator service, with plays in its place."""

import asyncio
import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from operator_server import OperatorServer, operator_server
from rollout_story import Story

from controller.adapters.local.clock import SystemClock
from controller.adapters.plays import enrolling
from controller.adapters.plays.bundle import Bundle
from controller.adapters.plays.outcomes import HostOutcome, PlayEvent
from controller.adapters.plays.runner import Plays
from controller.adapters.rpc.messages import to_message
from controller.cli.app import run
from controller.cli.exit_codes import ExitCode
from controller.views.hosts.listing import host_view
from protos.kernroll.v1 import operator_pb2 as pb

INVENTORY = {
    "all": {"children": ["berlin", "paris"]},
    "berlin": {"hosts": ["b-1", "b-2"]},
    "paris": {"hosts": ["p-1"]},
    "_meta": {"hostvars": {"b-1": {}, "b-2": {}, "p-1": {}}},
}
REFUSAL = {"code": "menu-waits", "cause": "the menu waits", "remedy": "set GRUB_TIMEOUT"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OperatorServer]:
    story = Story([["a"]])
    one = host_view(story.world.hosts["a"], story.attempts["a"])
    with operator_server(tmp_path, SystemClock().now()) as made:
        made.answers["CreateJoinToken"] = pb.JoinToken(token="kr1.secret")
        hosts = [to_message(replace(one, name=name, connected=True), pb.Host) for name in ("b-1", "p-1", "another")]
        made.answers["ListHosts"] = pb.ListHostsResponse(hosts=hosts)
        yield made


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, tuple[str, ...], Mapping[str, Any]]]:
    """Answer plays in Ansible's place; return what was asked: b-2 cannot be reached, p-1 is enrolled already."""
    asked: list[tuple[str, tuple[str, ...], Mapping[str, Any]]] = []

    async def run(
        _: Plays, playbook: str, hosts: Sequence[str], variables: Mapping[str, Any], **options: Any
    ) -> Mapping[str, HostOutcome]:
        asked.append((playbook, tuple(hosts), variables))
        found = {}
        for host in hosts:
            bad = "cannot be reached: ssh: Connection refused" if host == "b-2" else ""
            options["told"](
                PlayEvent(host=host, task="t", status="unreachable" if bad else "ok", seconds=1.0, sentence=bad)
            )
            answer = {"architecture": "x86_64", "python": "3.11", "enrolled": host == "p-1"}
            found[host] = HostOutcome(
                host=host,
                done=not bad,
                unreachable=bool(bad),
                task="t",
                sentence=bad,
                answer={**answer, "refusals": [REFUSAL] if host == "p-1" else []},
            )
        return found

    monkeypatch.setattr(Plays, "run", run)
    bundle = Bundle(path=tmp_path / "agent.tar.gz", sha256="0" * 64, compiled=True)
    monkeypatch.setattr(enrolling, "agent_bundle", lambda *_: bundle)
    monkeypatch.setenv("KERNROLL_CACHE_DIR", str(tmp_path / "cache"))
    return asked


class Cli:
    """The command line as an operator uses it."""

    def __init__(self, server: OperatorServer, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self._capsys = capsys
        self._inventory = directory / "inventory.json"
        self._inventory.write_text(json.dumps(INVENTORY))

    def enroll(self, *words: str) -> tuple[int, str, str]:
        """Return the exit code and what was printed, on standard output and standard error."""
        shared = ["--controller", self.server.address, "--client-dir", str(self.server.client_dir)]
        code = run(["hosts", "enroll", "-i", str(self._inventory), *shared, *words])
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err


@pytest.fixture
def cli(server: OperatorServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(server, tmp_path, capsys)


def test_the_table_says_what_became_of_each_host(cli: Cli, played: list[Any]) -> None:
    code, out, err = cli.enroll("--controller-address", "10.0.0.5:7443", "--wait", "1s")
    assert code == 1
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["b-1"].split(maxsplit=1)[1].split("  ")[0] == "enrolled"
    assert "cannot be reached: ssh: Connection refused" in lines["b-2"]
    assert "enrolled before" in lines["p-1"]
    assert "the menu waits (set GRUB_TIMEOUT)" in lines["p-1"]
    assert "b-2: t: unreachable (1 s): cannot be reached" in err
    assert "kr1.secret" not in out + err
    (look, enrolling_play) = played
    assert look[:2] == ("look.yml", ("b-1", "b-2", "p-1"))
    assert enrolling_play[:2] == ("enroll.yml", ("b-1", "p-1"))
    variables = enrolling_play[2]
    assert (variables["kernroll_controller"], variables["kernroll_enroll"]) == ("10.0.0.5:7443", "10.0.0.5:7444")
    assert (variables["kernroll_join_token"], set(variables["kernroll_bundles"])) == ("kr1.secret", {"x86_64-3.11"})
    (made,) = [one for one in cli.server.requests if isinstance(one, pb.CreateJoinTokenRequest)]
    assert made.uses == 1


@pytest.mark.parametrize(
    ("limit", "hosts"),
    [("berlin", ("b-1", "b-2")), ("p-*", ("p-1",)), ("b-1,paris", ("b-1", "p-1")), ("all", ("b-1", "b-2", "p-1"))],
)
def test_a_limit_names_hosts_and_groups(cli: Cli, played: list[Any], limit: str, hosts: tuple[str, ...]) -> None:
    words = ("--controller-address", "c:1", "--wait", "0s", "--limit", limit, "--output", "json")
    _, out, _ = cli.enroll(*words)
    assert played[0][1] == hosts
    assert {one["name"]: one["done"] for one in json.loads(out)["hosts"]} == {host: host != "b-2" for host in hosts}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "hosts do not reach the controller at 127.0.0.1:"),
        (("--controller-address", "10.0.0.5"), "'10.0.0.5' is no HOST:PORT"),
        (("--controller-address", "c:1", "--limit", "rome"), "--limit rome names no host of it"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_done(
    cli: Cli, played: list[Any], words: tuple[str, ...], sentence: str
) -> None:
    code, _, err = cli.enroll(*words)
    assert code == ExitCode.INPUT
    assert sentence in err
    assert played == []


def test_what_is_left_is_named_with_the_command_that_goes_on(cli: Cli, played: list[Any]) -> None:
    _, _, err = cli.enroll("--controller-address", "c:1", "--wait", "0s")
    assert "2 of 3 hosts are enrolled and heard" in err
    assert err.rstrip().endswith("--limit b-2")


def test_who_interrupts_it_learns_how_far_it_came(cli: Cli, played: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    answered = Plays.run

    async def run(plays: Plays, playbook: str, hosts: Sequence[str], variables: Any, **options: Any) -> Any:
        if playbook == "look.yml":
            return await answered(plays, playbook, hosts, variables, **options)
        done = PlayEvent(host="b-1", task="kernroll-boot", status="changed", seconds=1.0, answer={"enrolled": False})
        options["told"](done)
        signal.raise_signal(signal.SIGINT)
        return await asyncio.Event().wait()

    monkeypatch.setattr(Plays, "run", run)
    code, out, err = cli.enroll("--controller-address", "c:1", "-o", "json")
    assert code == ExitCode.INTERRUPTED
    assert {one["name"]: (one["done"], one["outcome"]) for one in json.loads(out)["hosts"]} == {
        "b-1": (True, "enrolled"),
        "b-2": (False, "cannot be reached: ssh: Connection refused"),
        "p-1": (False, "broken off; the same command again goes on"),
    }
    assert err.rstrip().endswith("--limit b-2,p-1")
