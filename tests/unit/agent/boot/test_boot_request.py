"""What kernroll-boot lets itself be asked over its socket: verbs of a fixed list, and words that fit them."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest
from booted_host import BootedHost, own_loader, stand_in

from agent.boot import main, request
from agent.boot.values import BootError

DIGEST = "0f" * 32


def line(*words: object) -> bytes:
    return json.dumps({"arguments": words}).encode()


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("check",),
        ("pin", "--command-id=u1/a/0.pin.0"),
        ("rehearse",),
        ("arm", DIGEST, "--boot-timeout=900.0", "--probation-timeout=3600", "--command-id=u1/a/1.arm.0"),
        ("arm", "7.1.13+deb13-amd64", "--patience=0"),
        ("arm", DIGEST, "--require-watchdog", "--command-id=u1/a/1.arm.0"),
        ("disarm",),
        ("reboot", "--command-id=c"),
        ("acknowledge", "--command-id=c"),
        ("bless", "--command-id=c"),
        ("bless", "7.1.13+deb13-amd64"),
        ("revert", DIGEST, "--reboot", "--command-id=c"),
    ],
)
def test_verbs_that_controllers_use_are_taken_and_answered_as_json(words: tuple[str, ...]) -> None:
    taken = request.arguments_of(line(*words))
    assert taken == [*words, "--output=json"]
    # Whatever is taken here, its own command line takes as well.
    main.parser().parse_args(taken)
    assert request.arguments_of(line(*taken)) == taken


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (b"", "one line such as"),
        (b"[" * 9000, "one line such as"),
        (b"\xff\xfe", "one line such as"),
        (b'["status"]', "a list of 1 to 8 words"),
        (b'{"arguments": []}', "a list of 1 to 8 words"),
        (b'{"arguments": "status"}', "a list of 1 to 8 words"),
        (b'{"arguments": ["status"], "root": "/tmp"}', "and nothing else"),
        (line(*["status"] * 9), "a list of 1 to 8 words"),
        (line("arm", 7), "are texts"),
        (line(["status"]), "are texts"),
        (line("guard"), "'guard' is not asked over the socket"),
        (line("guard", "--stop"), "is not asked over the socket"),
        (line("answer"), "is not asked over the socket"),
        (line("observe"), "is not asked over the socket"),
        (line("staged", DIGEST, "7.1"), "is not asked over the socket"),
        (line("--root=/tmp", "status"), "is not asked over the socket"),
        (line("arm"), "takes 1 kernels, and 0 are named"),
        (line("arm", "a", "b"), "takes 1 kernels, and 2 are named"),
        (line("status", "7.1"), "takes 0 kernels"),
        (line("arm", "../7.1"), "neither a kernel's release nor its digest"),
        (line("arm", "7.1\n"), "neither a kernel's release"),
        (line("arm", ""), "neither a kernel's release"),
        (line("arm", "7.1;reboot"), "neither a kernel's release"),
        (line("arm", "7.1", "--root=/tmp"), "does not take '--root=/tmp'"),
        (line("arm", "7.1", "--reboot"), "does not take '--reboot'"),
        (line("arm", "7.1", "--"), "does not take '--'"),
        (line("arm", "7.1", "--boot-timeout", "9"), "2 are named"),
        (line("arm", "7.1", "--boot-timeout=inf"), "cannot be read"),
        (line("arm", "7.1", "--boot-timeout=-1"), "cannot be read"),
        (line("arm", "7.1", "--boot-timeout=٣"), "cannot be read"),
        (line("arm", "7.1", "--boot-timeout="), "cannot be read"),
        (line("arm", "7.1", "--boot-timeout=1", "--boot-timeout=2"), "an option twice"),
        (line("revert", "7.1", "--reboot=yes"), "cannot be read"),
        (line("disarm", "--command-id=a b"), "cannot be read"),
        (line("disarm", "--command-id=" + "x" * 201), "cannot be read"),
        (line("status", "--output=text"), "cannot be read"),
    ],
)
def test_whatever_else_is_asked_is_refused_with_a_sentence(asked: bytes, told: str) -> None:
    with pytest.raises(BootError) as refused:
        request.arguments_of(asked)
    assert told in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_request_is_one_line_and_ends_where_it_ends() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"one\ntwo\n")
        assert request.received(ours.fileno()) == b"one"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"cut")
        theirs.shutdown(socket.SHUT_WR)
        assert request.received(ours.fileno()) == b"cut"


def test_one_that_is_too_long_or_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "_RECEIVE_S", 0.0)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(BootError, match="no request came"):
        request.received(ours.fileno())
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(request, "_MOST_BYTES", 8)
    monkeypatch.setattr(request, "_RECEIVE_S", 60.0)
    with ours, theirs, pytest.raises(BootError, match="at most 8 bytes"):
        theirs.sendall(b"x" * 100)
        request.received(ours.fileno())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BootedHost:
    made = BootedHost(tmp_path, own_loader("7.0", "7.1"))
    stand_in(made, monkeypatch)
    return made


def answered(asked: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """Return what `kernroll-boot answer` prints for a request."""
    ours, theirs = socket.socketpair()
    with ours, theirs, os.fdopen(os.dup(ours.fileno())) as stdin:
        theirs.sendall(asked + b"\n")
        monkeypatch.setattr(sys, "stdin", stdin)
        code = main.main(["answer"])
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    # What is wrong with a request, or refused by the host, is said by the answer alone.
    assert code == (1 if "is not asked" in str(found.get("error")) else 0)
    return found


def test_an_answer_is_what_the_command_line_prints(
    machine: BootedHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    armed = answered(line("arm", "7.1", "--command-id=c1"), monkeypatch, capsys)
    assert (armed["next"], armed["default"]) == ("7.1", "7.0")
    assert main.main(["status", "--output=json"]) == 0
    assert json.loads(capsys.readouterr().out) == armed
    # Booted meanwhile, and asked again.
    machine.loader.clear_next()
    assert answered(line("arm", "7.1", "--command-id=c1"), monkeypatch, capsys)["next"] == ""
    other = answered(line("disarm", "--command-id=c1"), monkeypatch, capsys)
    assert (other["code"], "already used for arm" in str(other["error"])) == ("refused", True)
    with machine.alone():
        busy = answered(line("disarm", "--command-id=c2"), monkeypatch, capsys)
    assert busy["code"] == "busy"
    refused = answered(line("guard"), monkeypatch, capsys)
    assert (refused["code"], "is not asked over the socket" in str(refused["error"])) == ("refused", True)
