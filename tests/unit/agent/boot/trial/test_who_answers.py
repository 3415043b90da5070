"""Whether a host has a network, told from who answers."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.boot.host import Host
from agent.boot.trial import network
from agent.boot.trial.network import Knock, Standing, knock, standing


@pytest.fixture
def listening() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_who_accepts_is_there(listening: int) -> None:
    assert knock("127.0.0.1", listening) is Knock.OPEN


def test_a_refusal_by_this_machine_proves_nothing_of_its_network(listening: int) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        assert knock("127.0.0.1", taken.getsockname()[1]) is Knock.SILENT


def answering(monkeypatch: pytest.MonkeyPatch, answers: dict[tuple[str, int], Knock]) -> None:
    monkeypatch.setattr(network, "knock", lambda name, port: answers.get((name, port), Knock.SILENT))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({("10.0.0.5", 7443): Knock.OPEN}, Standing.CONTROLLER_THERE),
        ({("2001:db8::5", 7443): Knock.OPEN}, Standing.CONTROLLER_THERE),
        ({("10.0.0.5", 7443): Knock.REFUSED}, Standing.CONTROLLER_AWAY),
        ({("10.0.0.9", 22): Knock.REFUSED}, Standing.CONTROLLER_AWAY),
        ({("10.0.0.1", 53): Knock.OPEN}, Standing.CONTROLLER_AWAY),
        ({}, Standing.NO_NETWORK),
    ],
)
def test_one_answer_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[tuple[str, int], Knock], expected: Standing
) -> None:
    host = Host(tmp_path)
    host.write("/etc/kernroll/agent.toml", 'controller = ["10.0.0.5:7443", "[2001:db8::5]:7443"]\n')
    host.write("/etc/kernroll/boot.toml", 'witnesses = ["10.0.0.9:22", "nonsense"]\n')
    host.write("/etc/resolv.conf", "search example\nnameserver 127.0.0.53\nnameserver 10.0.0.1\n")
    answering(monkeypatch, answers)
    assert standing(host) is expected


@pytest.mark.parametrize("text", ["controller = 7\n", "not toml [", ""])
def test_settings_that_say_nothing_leave_nobody_to_ask(tmp_path: Path, text: str) -> None:
    host = Host(tmp_path)
    host.write("/etc/kernroll/agent.toml", text)
    assert standing(host) is Standing.NO_NETWORK
