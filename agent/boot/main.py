"""The command line of `kernroll-boot`."""

import argparse
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.boot import rehearsal, verbs
from agent.boot.choice import loader_of
from agent.boot.host import Host
from agent.boot.journal import Command, Journal
from agent.boot.values import BootError, BootState, BrokenHost

_OK, _REFUSED, _USAGE, _FAILED = 0, 1, 2, 3
# Where only root writes: nobody else may keep it from acting.
_LOCK = "/run/kernroll-boot.lock"
_EPILOG = """examples:
  kernroll-boot check
  kernroll-boot status --output json
  kernroll-boot pin
  kernroll-boot rehearse && reboot        # and once it is back: kernroll-boot rehearse
  kernroll-boot arm 7.1.13+deb13-amd64 --command-id u1/a/1.arm.0
  kernroll-boot bless 7.1.13+deb13-amd64

exit codes:
    0  done
    1  refused: the host, as it is, would not come back by itself (check), or the loader does not allow it
    2  wrong arguments
    3  something of the host does not work: a tool, a file, a right
"""
_HELP = {
    "status": "show what boots, by default and once",
    "check": "say what speaks against booting a kernel on trial here",
    "pin": "make the running kernel the default, whatever is installed from now on",
    "rehearse": "prove that the host comes back, by booting its own kernel as a new one; before and after a reboot",
    "arm": "let a kernel boot once",
    "disarm": "let nothing boot once",
    "bless": "make the running kernel the default",
    "revert": "make an installed kernel the default again",
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
        verb.add_argument("--output", choices=("text", "json"), default="text")
        if name in verbs.CHANGES:
            if verbs.CHANGES[name][1]:
                verb.add_argument("release", help="the kernel, as `uname -r` would say")
            verb.add_argument("--command-id", default="", metavar="ID", help="do it once, however often it is asked")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; return the exit code."""
    given = parser().parse_args(arguments)
    host = Host(given.root)
    try:
        if given.verb == "check":
            return _check(host, given.output)
        if given.verb == "status":
            state = loader_of(host).read()
        else:
            with _alone(host):
                state = _change(host, given)
    except BootError as error:
        print(f"kernroll-boot: {error}", file=sys.stderr)
        return _FAILED if isinstance(error, BrokenHost) else _REFUSED
    except OSError as error:
        print(f"kernroll-boot: {error.filename}: {error.strerror}", file=sys.stderr)
        return _FAILED
    _show(state, _rehearsed(host), given.output)
    return _OK


def _rehearsed(host: Host) -> rehearsal.Rehearsal | None:
    """Return what was rehearsed; what cannot be read proves nothing, and what was asked is done all the same."""
    try:
        return rehearsal.read(host)
    except BootError as error:
        print(f"kernroll-boot: {error}", file=sys.stderr)
        return None


def _change(host: Host, given: argparse.Namespace) -> BootState:
    change, takes_release = verbs.CHANGES[given.verb]
    release = given.release if takes_release else ""
    if not given.command_id:
        return change(host, release)
    journal = Journal(host)
    command = Command(id=given.command_id, verb=given.verb, release=release)
    if journal.begun(command):
        return loader_of(host).read()
    state = change(host, release)
    journal.finished(command)
    return state


@contextmanager
def _alone(host: Host) -> Iterator[None]:
    """Let nobody else change anything meanwhile."""
    path = host.path(_LOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BootError("another kernroll-boot is at work on this host: try again when it has ended") from error
        yield


def _check(host: Host, output: str) -> int:
    found = list(verbs.refusals(host))
    if output == "json":
        print(json.dumps({"refusals": [asdict(one) for one in found]}, indent=2))
    elif found:
        for one in found:
            print(f"{one.code}: {one.cause}.\n    {one.remedy}")
    else:
        print("nothing speaks against booting a kernel on trial here")
    return _REFUSED if found else _OK


def _show(state: BootState, rehearsed: rehearsal.Rehearsal | None, output: str) -> None:
    if output == "json":
        print(json.dumps({**asdict(state), "rehearsal": asdict(rehearsed) if rehearsed else None}, indent=2))
        return
    named: dict[str, Any] = {"default": state.default, "once": state.next}
    for what, entry_id in named.items():
        entry = state.entry(entry_id)
        print(f"{what + ':':9} {(entry.release or entry.title) if entry else 'nothing'}")
    print(f"{'pinned:':9} {'yes' if state.pinned else 'no, a newly installed kernel may become the default'}")
    print(f"{'proven:':9} {_proven(rehearsed)}")
    print(f"{'kernels:':9} {', '.join(sorted({one.release for one in state.entries if one.release}))}")


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
