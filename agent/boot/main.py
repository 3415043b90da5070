"""The command line of `kernroll-boot`."""

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.boot import choice, rehearsal, request, verbs
from agent.boot.host import Host
from agent.boot.journal import Command, Journal
from agent.boot.trial import guard, status
from agent.boot.trial.changes import BOOT_TIMEOUT_S, CHANGES, PATIENCE_S, PROBATION_TIMEOUT_S, Wanted
from agent.boot.trial.ledger import ARMED_FOR_S
from agent.boot.values import BootError, BootState, BrokenHost, Busy, Refusal

_OK, _REFUSED, _USAGE, _FAILED, _BUSY = 0, 1, 2, 3, 4
# After these what speaks against a trial may be another; to find out takes seconds on a slow host.
_LOOKS: Final = frozenset({"pin", "rehearse", "staged"})
_EPILOG = """examples:
  kernroll-boot check
  kernroll-boot status --output json
  kernroll-boot pin
  kernroll-boot rehearse && reboot        # and once it is back: kernroll-boot rehearse
  kernroll-boot arm 7.1.13+deb13-amd64 --command-id u1/a/1.arm.0
  kernroll-boot reboot                    # into what is armed; the guard brings it back unless it is blessed
  kernroll-boot acknowledge && kernroll-boot bless 7.1.13+deb13-amd64

exit codes:
    0  done
    1  refused: the host, as it is, would not come back by itself (check), or the loader does not allow it
    2  wrong arguments
    3  something of the host does not work: a tool, a file, a right
    4  not now: another one is at work, or the host is about to go down; ask again
"""
_HELP: Final = {
    "inspect": "say what keeps an installed kernel from starting here, or from taking the modules of this host",
    "status": "show what boots, by default and once",
    "check": "say what speaks against booting a kernel on trial here",
    "pin": "make the running kernel the default, whatever is installed from now on",
    "rehearse": "prove that the host comes back, by booting its own kernel as a new one; before and after a reboot",
    "staged": "write down under which digest the controller knows an installed kernel",
    "forget": "let no digest stand for a kernel any more",
    "arm": "let a kernel boot once, on trial",
    "disarm": "let nothing boot once",
    "recheck": "let nothing boot once unless it is still as it was armed; run by kernroll-armed.timer meanwhile",
    "reboot": "restart the host: into what is armed, if that is still as it was armed, else into the default",
    "acknowledge": "a healthy agent was heard: the boot deadline ends and the probation begins",
    "bless": "make the running kernel the default; the trial ends",
    "revert": "make an installed kernel the default again",
    "guard": "keep the deadlines of a kernel on trial; run by kernroll-guard.service in every boot",
    "observe": "look at the host anew, for the agent",
    "answer": "carry out the one request that comes in on stdin; run by kernroll-boot@.service for the agent",
}
_DEADLINES: Final = {
    "boot-timeout": (BOOT_TIMEOUT_S, "from the kernel's start to the acknowledgement"),
    "probation-timeout": (PROBATION_TIMEOUT_S, "from the acknowledgement to the blessing"),
    "armed-for": (ARMED_FOR_S, "until it is booted; then it is not armed any more"),
    "patience": (PATIENCE_S, "more, once, while the controller is away and the network works"),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    top = argparse.ArgumentParser(
        prog="kernroll-boot",
        description="Says which kernel this host boots, once and by default, and proves what it says.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="a tree that is the host, for trials")
    names = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, told in _HELP.items():
        verb = names.add_parser(name, help=told, description=f"{told[0].upper()}{told[1:]}.")
        output = "json" if name == "answer" else "text"
        verb.add_argument("--output", choices=("text", "json"), default=output)
        if name in ("arm", "bless", "revert", "forget", "inspect"):
            count = "?" if name == "bless" else None
            verb.add_argument("kernel", nargs=count, default="", help="as `uname -r` would say, or its digest")
        elif name == "staged":
            verb.add_argument("kernel", help="its digest")
            verb.add_argument("release", help="the kernel, as `uname -r` would say")
        if name == "arm":
            for option, (default, what) in _DEADLINES.items():
                dest = f"{option.replace('-', '_')}_s"
                verb.add_argument(f"--{option}", dest=dest, type=float, default=default, metavar="S", help=what)
            only_if = "only if a watchdog would end a hang of that kernel"
            verb.add_argument("--require-watchdog", action="store_true", help=only_if)
        elif name == "revert":
            verb.add_argument("--reboot", action="store_true", help="and boot it, unless it runs as the default")
        elif name == "guard":
            verb.add_argument("--stop", action="store_true", help="the boot is being ended by somebody")
        if name in CHANGES:
            verb.add_argument("--command-id", default="", metavar="ID", help="do it once, however often it is asked")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; return the exit code."""
    given = parser().parse_args(arguments)
    host = Host(given.root)
    try:
        if given.verb in _DUTIES:
            return _DUTIES[given.verb](host, given)
        if given.verb == "status":
            state = choice.loader_of(host).read()
            told = status.document(host, state, proven=_rehearsed(host))
        else:
            with host.alone():
                try:
                    state = _change(host, given)
                except BootError:
                    # What is refused may have been taken back, too.
                    status.renew(host)
                    raise
                told = status.document(host, state, proven=_rehearsed(host))
                status.keep(host, told, look=given.verb in _LOOKS)
    except BootError as error:
        code = _BUSY if isinstance(error, Busy) else _FAILED if isinstance(error, BrokenHost) else _REFUSED
        return _failed(given, code, str(error))
    except OSError as error:
        return _failed(given, _FAILED, f"{error.filename}: {error.strerror}")
    _show(state, told, given.output)
    return _OK


def _failed(given: argparse.Namespace, code: int, why: str) -> int:
    print(f"kernroll-boot: {why}", file=sys.stderr)
    if given.output == "json":
        words = {_REFUSED: "refused", _FAILED: "broken", _BUSY: "busy"}
        print(json.dumps({"error": why, "code": words[code]}))
    return code


def _rehearsed(host: Host) -> rehearsal.Rehearsal | None:
    """Return what was rehearsed; what cannot be read proves nothing, and what was asked is done all the same."""
    try:
        return rehearsal.read(host)
    except BootError as error:
        print(f"kernroll-boot: {error}", file=sys.stderr)
        return None


def _change(host: Host, given: argparse.Namespace) -> BootState:
    fields = {name: getattr(given, name) for name in Wanted.__dataclass_fields__ if hasattr(given, name)}
    wanted, change = Wanted(**fields), CHANGES[given.verb]
    if not wanted.command_id:
        return change(host, wanted)
    journal = Journal(host)
    command = Command(id=wanted.command_id, verb=given.verb, release=wanted.kernel)
    if journal.begun(command):
        return choice.loader_of(host).read()
    state = change(host, wanted)
    journal.finished(command)
    return state


def _guard(host: Host, given: argparse.Namespace) -> int:
    if given.stop:
        guard.stop(host)
        return _OK
    since = guard.begin(host)
    try:
        status.observed(host)
    except BootError as error:
        # What is told to others must not keep it from guarding.
        print(f"kernroll-boot: {error}", file=sys.stderr)
    guard.keep(host, since)
    return _OK


def _observe(host: Host, _given: argparse.Namespace) -> int:
    with host.alone():
        status.observed(host)
    return _OK


def _answer(_host: Host, given: argparse.Namespace) -> int:
    arguments = request.arguments_of(request.received(sys.stdin.fileno()))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        main(["--root", str(given.root), *arguments])
    # As a whole, and only now: whoever asks hears everything or nothing. A refusal is an answer, too.
    print(printed.getvalue(), end="")
    return _OK


def _check(host: Host, given: argparse.Namespace) -> int:
    return _refused(list(verbs.refusals(host)), given, "a kernel on trial")


def _inspect(host: Host, given: argparse.Namespace) -> int:
    return _refused(list(verbs.inspect(host, given.kernel)), given, given.kernel)


def _refused(found: Sequence[Refusal], given: argparse.Namespace, what: str) -> int:
    if given.output == "json":
        print(json.dumps({"refusals": [asdict(one) for one in found]}, indent=2))
    elif found:
        for one in found:
            print(f"{one.code}: {one.cause}.\n    {one.remedy}")
    else:
        print(f"nothing speaks against booting {what} here")
    return _REFUSED if found else _OK


# What is no change of its own to what boots.
_DUTIES: Final = {"check": _check, "inspect": _inspect, "guard": _guard, "observe": _observe, "answer": _answer}


def _show(state: BootState, told: Mapping[str, Any], output: str) -> None:
    if output == "json":
        print(json.dumps(told, indent=2))
        return
    rehearsed = told["rehearsal"]
    named: dict[str, Any] = {"default": state.default, "once": state.next}
    for what, entry_id in named.items():
        entry = state.entry(entry_id)
        otherwise = f"nothing any more: {told['withdrawn']}" if what == "once" and told["withdrawn"] else "nothing"
        print(f"{what + ':':9} {(entry.release or entry.title) if entry else otherwise}")
    if state.one_shot == "firmware":
        print(f"{'one shot:':9} by the firmware (BootNext), for GRUB cannot clear what lies in its environment")
    print(f"{'pinned:':9} {'yes' if state.pinned else 'no, a newly installed kernel may become the default'}")
    print(f"{'proven:':9} {_proven(rehearsal.Rehearsal(**rehearsed) if rehearsed else None)}")
    print(f"{'watchdog:':9} {_watched(told['watchdog'])}")
    print(f"{'kernels:':9} {', '.join(sorted({one.release for one in state.entries if one.release}))}")


def _watched(told: Mapping[str, Any]) -> str:
    """Say which watchdog systemd keeps open."""
    if told["held"] is None:
        return "not known: /proc/1/fd cannot be read"
    named = {one["name"]: f"{one['name']} {one['identity']}".strip() for one in told["devices"]}
    if told["held"]:
        timeout_s = next((one["timeout_s"] for one in told["devices"] if one["name"] == told["held"]), None)
        after = "" if timeout_s is None else f", which resets the machine after {timeout_s} s"
        return f"{named.get(told['held'], told['held'])}{after}"
    return f"none is open, of {', '.join(named.values())}" if named else "none"


def _proven(rehearsed: rehearsal.Rehearsal | None) -> str:
    if rehearsed is None:
        return "no; rehearse first"
    if rehearsed.failed:
        return f"no: {rehearsed.failed}"
    if rehearsed.passed_at is None:
        return "not yet: reboot the host, and `kernroll-boot rehearse` again"
    moment = datetime.fromtimestamp(rehearsed.passed_at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"on {moment}, by {rehearsed.boots_by}"


if __name__ == "__main__":
    sys.exit(main())
