"""What became of hosts, from events that Ansible told when it was run against a real sshd and a real sudo."""

import json
from typing import Any

import pytest
from project import ROOT

from controller.adapters.plays.outcomes import outcomes, play_event

RECORDED: dict[str, dict[str, Any]] = json.loads(
    (ROOT / "tests" / "support" / "recorded" / "plays" / "failures.json").read_text()
)
SENTENCES = {
    "check refuses": "the menu waits. set GRUB_TIMEOUT",
    "arm is refused": "it is not proven that this host comes back",
    "port closed": "cannot be reached: ssh: connect to host 127.0.0.1 port 1: Connection refused",
    "host key unknown": "its ssh host key is not known here: compare it there",
    "host key changed": "its ssh host key has changed: another machine answers, or it was made anew; make sure",
    "wrong sudo password": "the password for sudo is wrong or missing: set ansible_become_password",
    "no sudo password": "the password for sudo is wrong or missing: set ansible_become_password",
    "no login": "the account may not log in: set ansible_user",
    "no python": "Python was not found there: install python3",
    "no address": "cannot be reached: no.such.invalid has no address; set ansible_host",
    "key refused": "ssh lets nobody in: Permission denied (publickey,keyboard-interactive); check ansible_user",
    "not in sudoers": "operator may not become root: it is not in the sudoers file",
    "no sudo": "sudo is not installed there: install it, or connect as root",
    "no kernroll-boot": "kernroll-boot is not installed there: `kernroll hosts enroll -i INVENTORY --limit a`",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_failure_is_told_with_what_to_do(name: str) -> None:
    found = play_event(RECORDED[name])
    assert found is not None
    assert found.sentence.startswith(SENTENCES[name])
    assert "\n" not in found.sentence
    unreachable = RECORDED[name]["event"] == "runner_on_unreachable"
    assert found.status == ("unreachable" if unreachable else "failed")


def test_every_recorded_failure_is_known() -> None:
    assert set(RECORDED) == set(SENTENCES)


def event(kind: str = "runner_on_failed", task: str = "t", **result: Any) -> dict[str, Any]:
    return {"event": kind, "event_data": {"host": "a", "task": task, "duration": 1.5, "res": result}}


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({"censored": "hidden"}, "it failed, and what it said is not shown, because it handles a secret"),
        ({"msg": "One failed", "results": [{"msg": "fine"}, {"failed": True, "msg": "no such file"}]}, "no such file"),
        (
            {"msg": "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt-get)"},
            "another package manager held /var/lib/dpkg/lock-frontend for too long: see what holds it",
        ),
        (
            {
                "msg": "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another",
                "step": "x",
            },
            "x: another package manager held /var/lib/dpkg/lock-frontend for too long: see what holds it",
        ),
        ({"msg": "E: dpkg was interrupted, you must manually run it"}, "its package manager was interrupted"),
        ({"msg": "write error: No space left on device"}, "its disk is full: free some space"),
        ({"msg": "non-zero return code", "rc": 4, "stderr": ""}, "it ended with code 4 and gave no reason"),
        ({"msg": "non-zero return code", "rc": 4, "stderr": "one\ntwo"}, "two"),
        ({}, "it failed and gave no reason"),
        ({"msg": "a\x1b[31m line\nand more"}, "a\\x1b[31m line and more"),
        ({"msg": "x" * 5000}, "x" * 499 + "…"),
        ({"stdout": "[" * 5000, "msg": "odd"}, "odd"),
        ({"stdout": '{"refusals": [7, 8]}', "msg": "odd"}, ". (and 1 more)"),
    ],
)
def test_what_others_say_is_one_bounded_line(result: dict[str, Any], sentence: str) -> None:
    found = play_event(event(**result))
    assert found is not None
    assert found.sentence.startswith(sentence)


def test_arguments_of_modules_are_told_to_nobody() -> None:
    found = play_event(event(msg="no", invocation={"module_args": {"content": "kr1.secret"}}))
    assert "kr1.secret" not in repr(found)


@pytest.mark.parametrize(
    "told",
    [
        {"event": "verbose", "stdout": "x"},
        {"event": "runner_on_start", "event_data": {"host": "a"}},
        {"event": "runner_on_failed", "event_data": {"host": "a", "ignore_errors": True, "res": {}}},
        {"event": "runner_on_ok", "event_data": None},
    ],
)
def test_what_says_nothing_of_a_host_is_left_out(told: dict[str, Any]) -> None:
    assert play_event(told) is None


def test_the_answer_is_what_kernroll_boot_printed() -> None:
    told = [
        event("runner_on_ok", "Copy"),
        event("runner_on_ok", "kernroll-boot", stdout='{"default": "x"}', changed=True),
    ]
    events = [one for one in map(play_event, told) if one is not None]
    assert [one.status for one in events] == ["ok", "changed"]
    found = outcomes(["a", "b"], events, "{host} is not there")
    assert (found["a"].done, found["a"].answer, found["a"].task) == (True, {"default": "x"}, "kernroll-boot")
    assert (found["b"].done, found["b"].sentence, found["b"].task) == (False, "b is not there", "")


def test_a_refusal_keeps_its_answer() -> None:
    events = [one for one in [play_event(RECORDED["check refuses"])] if one is not None]
    found = outcomes(["a"], events, "")["a"]
    assert not found.done
    assert found.answer["refusals"][0]["code"] == "menu-waits"
