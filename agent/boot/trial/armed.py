"""What is armed, held against what it was when it was armed: a kernel that was tried is the one that was looked at.

Looked at just before the reboot and every ten minutes until then, by a timer of systemd's that runs only meanwhile.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from agent.boot import choice, verbs
from agent.boot.host import Host
from agent.boot.packages import held
from agent.boot.trial.ledger import Trial
from agent.boot.values import BootError, BootState, BrokenHost, Entry

_TIMER: Final = "kernroll-armed.timer"
_BLOCK_BYTES: Final = 1 << 20


def watch(host: Host) -> None:
    """Have it looked at from time to time. Raises BrokenHost where nobody would."""
    try:
        host.start(_TIMER)
    except BrokenHost as error:
        raise BrokenHost(
            f"nobody would look whether what is armed stays as it was armed: {error}; install {_TIMER} and its "
            "service, or `kernroll hosts enroll` again"
        ) from error


def unwatch(host: Host) -> None:
    """Nothing is armed: nobody needs to look any more."""
    with suppress(BrokenHost):
        # Where there is none, none runs.
        host.stop(_TIMER)


def seal(host: Host, state: BootState, release: str) -> Mapping[str, str]:
    """Return what must not change until a kernel boots, by its name: a digest, or a word.

    Files, command lines, and what keeps them from being removed, of that kernel and of the default. Takes seconds
    where initial RAM disks are large. What is not there is left out.
    """
    found: dict[str, str] = {}
    entries = _entries(state, release)
    for entry in entries:
        found[_command_line(entry)] = hashlib.sha256(" ".join(entry.arguments).encode()).hexdigest()
        found.update((name, _digest(host, name)) for name in entry.files if host.path(name).is_file())
    return {**found, **held.seal(host, [one.release for one in entries if one.release])}


def changed(host: Host, trial: Trial) -> str:
    """Return what has changed since a kernel was armed, so that it must not be booted; empty when nothing has."""
    try:
        return next(_changes(host, trial), "")
    except BootError as error:
        return f"what boots cannot be told any more: {error}"


def _changes(host: Host, trial: Trial) -> Iterator[str]:
    state, release = choice.loader_of(host).read(), trial.release
    armed, back = state.entry(state.next), state.entry(state.default)
    if armed is None or armed.release != release:
        yield f"{release} was armed, and {armed.release if armed else state.next or 'nothing'} is now"
        return
    if not state.pinned or back is None or back.release != host.running_release:
        told = (back.release or back.title) if back else "nothing that is in the menu"
        yield f"the default was {host.running_release} when {release} was armed, and is {told} now"
        return
    if missing := sorted({name for name in (*armed.files, *back.files) if not host.path(name).is_file()}):
        yield f"{', '.join(missing)} was there when {release} was armed, and is not there now"
    if trial.sealed:
        now = seal(host, state, release)
        for name, was in trial.sealed.items():
            if now.get(name, "") != was:
                yield f"{name} is not as it was when {release} was armed"
    if trial.armed_s is not None and host.uptime_s() > trial.armed_s + trial.armed_for_s:
        yield f"{release} was armed for {trial.armed_for_s:.0f} s, and has not been booted in that time"
    for one in verbs.refusals(host):
        yield f"since {release} was armed, {one.cause} ({one.remedy})"


def _entries(state: BootState, release: str) -> list[Entry]:
    found = {one.id: one for one in state.entries if one.id == state.default}
    armed = state.of_release(release)
    return list({**found, armed.id: armed}.values())


def _command_line(entry: Entry) -> str:
    return f"the command line of {entry.release or entry.title}"


def _digest(host: Host, name: str) -> str:
    digest = hashlib.sha256()
    try:
        with host.path(name).open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError:
        # Gone, or unreadable, since it was seen: not what it was.
        return "unreadable"
    return digest.hexdigest()
