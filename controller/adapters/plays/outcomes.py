"""What became of a host in a play, in words for a person: pure, from what Ansible says of its tasks.

Sources of the words that are recognised: ansible-core 2.19 (plugins/connection/ssh.py, plugins/become/sudo.py,
module_utils/basic.py), OpenSSH 9.2, apt 2.6, dpkg 1.21. Recorded ones are under tests/support/recorded/plays.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from controller.domain.printable import printable
from controller.domain.redaction import redacted

# The task whose answer is the host's.
ANSWERING_TASK: Final = "kernroll-boot"
OK, CHANGED, FAILED, UNREACHABLE, SKIPPED = "ok", "changed", "failed", "unreachable", "skipped"
_STATUS = {
    "runner_on_ok": OK,
    "runner_on_failed": FAILED,
    "runner_on_unreachable": UNREACHABLE,
    "runner_on_skipped": SKIPPED,
}
_MOST_CHARACTERS: Final = 500
_MOST_ANSWER_BYTES: Final = 64 << 10
# kernroll-boot and our modules say themselves what is wrong, which, and what to do.
_OWN = re.compile(r"^kernroll-boot: (.+)", re.MULTILINE)
_SSH_PREFIX = re.compile(r"(?:Task failed: )?(?:Failed to connect to the host via|Data could not be sent).*?ssh: ")
# What ssh says that is no reason: banners, warnings, and lines around the reason.
_NO_REASON = re.compile(
    r"^(@|Warning: |debug\d|It is also possible|Offending |  remove with|Please contact|Add correct)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayEvent:
    """One host has finished one task."""

    host: str
    task: str
    # "ok", "changed", "failed", "unreachable" or "skipped".
    status: str
    seconds: float
    # Why it failed; empty when it did not.
    sentence: str = ""
    # What kernroll-boot printed, None for every other task.
    answer: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOutcome:
    """What became of one host in a play."""

    host: str
    done: bool
    # It could not be reached, before anything or in the middle.
    unreachable: bool
    # The last task that it came to; empty when it came to none.
    task: str
    # Why it is not done, and what to do; empty when it is.
    sentence: str
    # What kernroll-boot printed; empty when it was not run.
    answer: Mapping[str, Any] = field(default_factory=dict)


def task_started(event: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the host and the task that it begins, where an event of ansible-runner says that."""
    data = event.get("event_data")
    if event.get("event") != "runner_on_start" or not isinstance(data, Mapping):
        return None
    return printable(str(data.get("host", "")), 80), printable(redacted(str(data.get("task", ""))), 120)


def play_event(event: Mapping[str, Any], secrets: Sequence[str] = ()) -> PlayEvent | None:
    """Return what an event of ansible-runner says of a host; None for one that says nothing of any.

    `secrets` are not told, whoever says them.
    """
    status = _STATUS.get(str(event.get("event")))
    data = event.get("event_data")
    if status is None or not isinstance(data, Mapping) or data.get("ignore_errors"):
        return None
    result = data.get("res")
    result = result if isinstance(result, Mapping) else {}
    host, task = printable(str(data.get("host", "")), 80), printable(redacted(str(data.get("task", "")), secrets), 120)
    if status == OK and result.get("changed"):
        status = CHANGED
    duration = data.get("duration")
    return PlayEvent(
        host=host,
        task=task,
        status=status,
        seconds=float(duration) if isinstance(duration, int | float) else 0.0,
        sentence=_sentence(host, status, _without(result, secrets)) if status in (FAILED, UNREACHABLE) else "",
        answer=_answer(result) if task == ANSWERING_TASK and status != SKIPPED else None,
    )


def outcomes(hosts: Iterable[str], events: Sequence[PlayEvent], missing: str) -> Mapping[str, HostOutcome]:
    """Return what became of each of `hosts`; `missing` is why one that no event names was left out."""
    found: dict[str, HostOutcome] = {}
    by_host: dict[str, list[PlayEvent]] = {}
    for event in events:
        by_host.setdefault(event.host, []).append(event)
    for host in hosts:
        own = by_host.get(host, [])
        bad = next((one for one in own if one.status in (FAILED, UNREACHABLE)), None)
        answers = [one.answer for one in own if one.answer is not None]
        found[host] = HostOutcome(
            host=host,
            done=bool(own) and bad is None,
            unreachable=bad is not None and bad.status == UNREACHABLE,
            task=own[-1].task if own else "",
            sentence=bad.sentence if bad else "" if own else missing.format(host=host),
            answer=answers[-1] if answers else {},
        )
    return found


def _without(result: Mapping[str, Any], secrets: Sequence[str]) -> Mapping[str, Any]:
    """Return the result with texts that may be told, whatever the host or a library has put into them."""
    told = {
        name: redacted(value[:_MOST_ANSWER_BYTES], secrets) if isinstance(value, str) else value
        for name, value in result.items()
    }
    if isinstance(items := result.get("results"), list):
        told["results"] = [_without(one, secrets) if isinstance(one, Mapping) else one for one in items]
    return told


def _answer(result: Mapping[str, Any]) -> Mapping[str, Any]:
    own = result.get("answer")
    if isinstance(own, Mapping):
        return own
    printed = result.get("stdout")
    if not isinstance(printed, str) or len(printed) > _MOST_ANSWER_BYTES:
        return {}
    try:
        found = json.loads(printed)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _sentence(host: str, status: str, result: Mapping[str, Any]) -> str:
    sentence = _reason(host, status, result)
    # Our own modules say which of their steps it was.
    return printable(f"{step}: {sentence}", _MOST_CHARACTERS) if (step := _text(result, "step")) else sentence


def _reason(host: str, status: str, result: Mapping[str, Any]) -> str:
    if "censored" in result:
        return "it failed, and what it said is not shown, because it handles a secret; run the playbook by hand to see"
    for item in result.get("results") or ():
        # Of a task with several items, the first that failed.
        if isinstance(item, Mapping) and item.get("failed"):
            return _sentence(host, status, item)
    message = _text(result, "msg")
    if status == UNREACHABLE:
        return printable(_unreachable(host, message), _MOST_CHARACTERS)
    if refusals := _answer(result).get("refusals"):
        return printable(_refused(refusals), _MOST_CHARACTERS)
    said = "\n".join(filter(None, (_text(result, "stderr"), _text(result, "module_stderr"), message)))
    if own := _OWN.search(said):
        return printable(own[1], _MOST_CHARACTERS)
    everything = f"{said}\n{_text(result, 'module_stdout')}\n{_text(result, 'stdout')}"
    if message.startswith("Error executing command") and "kernroll-boot" in str(result.get("cmd")):
        return _NOT_INSTALLED.format(host=host)
    for pattern, told in _KNOWN:
        if match := pattern.search(everything):
            return printable(told.format(host=host, found=match[1] if match.re.groups else ""), _MOST_CHARACTERS)
    if message in ("", "non-zero return code") or message.startswith("MODULE FAILURE"):
        lines = [line for line in said.splitlines() if line.strip() and line != message]
        code = result.get("rc")
        ended = f"it ended with code {code}" if isinstance(code, int) else "it failed"
        message = lines[-1] if lines else f"{ended} and gave no reason"
    return printable(message, _MOST_CHARACTERS)


def _refused(refusals: Any) -> str:
    """Return the first of what `kernroll-boot check` found, and how many more there are."""
    first = refusals[0] if isinstance(refusals, list) else {}
    first = first if isinstance(first, Mapping) else {}
    more = len(refusals) - 1
    return f"{first.get('cause', '')}. {first.get('remedy', '')}{f' (and {more} more)' if more else ''}"


def _text(result: Mapping[str, Any], name: str) -> str:
    found = result.get(name)
    return found.strip() if isinstance(found, str) else ""


def _unreachable(host: str, message: str) -> str:
    for pattern, told in _UNREACHABLE:
        if match := pattern.search(message):
            return told.format(host=host, found=match[1] if match.re.groups else "")
    lines = _SSH_PREFIX.sub("", message, count=1).splitlines()
    reasons = [line.strip() for line in lines if line.strip() and not _NO_REASON.match(line)]
    return f"cannot be reached: {reasons[-1] if reasons else 'ssh gave no reason'}"


_NOT_INSTALLED = "kernroll-boot is not installed there: `kernroll hosts enroll -i INVENTORY --limit {host}`"
_KEY_REMEDY = (
    "make sure that it is the same machine, then `ssh-keygen -R ADDRESS` and "
    "`ssh-keyscan ADDRESS >> ~/.ssh/known_hosts`"
)
_UNREACHABLE: Final = (
    (
        re.compile("REMOTE HOST IDENTIFICATION HAS CHANGED"),
        f"its ssh host key has changed: another machine answers, or it was made anew; {_KEY_REMEDY}",
    ),
    (
        re.compile(r"Host key verification failed|host key is known for"),
        "its ssh host key is not known here: compare it there (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`)"
        " and add it with `ssh-keyscan ADDRESS >> ~/.ssh/known_hosts`",
    ),
    (
        re.compile(r"(Permission denied \([^)]*\))"),
        "ssh lets nobody in: {found}; check ansible_user and its key or password in the inventory",
    ),
    (
        re.compile(r"(?:ssh: )?Could not resolve hostname ([^:\s]+)"),
        "cannot be reached: {found} has no address; set ansible_host in the inventory",
    ),
)
_LOCK_REMEDY = "see what holds it with `fuser -v /var/lib/dpkg/lock-frontend` and try again when that has ended"
_KNOWN: Final = (
    (
        re.compile(r"(?:Incorrect|Missing) \w+ password|Sorry, try again|a password is required"),
        "the password for sudo is wrong or missing: set ansible_become_password (in a vault) in the inventory",
    ),
    (
        re.compile(r"(\S+) is not in the sudoers file"),
        "{found} may not become root: it is not in the sudoers file",
    ),
    (
        re.compile(r"sudo: (?:command )?not found"),
        "sudo is not installed there: install it, or connect as root (ansible_user=root)",
    ),
    (
        re.compile(r"module interpreter \S+ was not found|python\S*: (?:command )?(?:No such file|not found)"),
        "Python was not found there: install python3, or set ansible_python_interpreter in the inventory",
    ),
    (
        re.compile(r"(This account is currently not available)|(\S*/nologin)"),
        "the account may not log in: set ansible_user to one that may become root",
    ),
    (
        re.compile(r"(?:Could not get lock |frontend lock \()(/[\w/-]+(?:\.[\w/-]+)*)"),
        f"another package manager held {{found}} for too long: {_LOCK_REMEDY}",
    ),
    (
        re.compile(r"dpkg was interrupted|dpkg --configure -a"),
        "its package manager was interrupted: run `dpkg --configure -a` on it, and try again",
    ),
    (re.compile(r"No space left on device"), "its disk is full: free some space on it, and try again"),
)
