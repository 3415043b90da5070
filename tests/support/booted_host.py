"""A host that boots when told to: kernroll-boot itself over a tree of files; its clock, loader and network are ours."""

import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent.boot import choice, circumstances, main, request
from agent.boot.host import Host
from agent.boot.trial import guard, status
from agent.boot.trial.ledger import Ledger
from agent.boot.trial.network import Standing
from agent.boot.values import BootState, BrokenHost, Entry
from controller.domain.errors import Permanent, Temporary
from controller.domain.kernels import Kernel

PSTORE = "/var/lib/systemd/pstore/dmesg.txt"


@dataclass
class OwnLoader:
    """Boots what it is told, once and by default."""

    state: BootState
    writes: list[str] = field(default_factory=list)

    def read(self) -> BootState:
        """See Loader."""
        return self.state

    def refusals(self) -> list[Any]:
        """See Loader."""
        return []

    def pin(self, entry: Entry) -> None:
        """See Loader."""
        self.state = replace(self.state, default=entry.id, pinned=True)

    set_default = pin

    def set_next(self, entry: Entry) -> None:
        """See Loader."""
        self.state = replace(self.state, next=entry.id)

    def clear_next(self) -> None:
        """See Loader."""
        self.state = replace(self.state, next="")

    def images(self) -> list[Path]:
        """See Loader."""
        return []

    def offer(self, release: str) -> None:
        """A kernel is installed."""
        files = (f"/boot/vmlinuz-{release}",)
        entry = Entry(id=release, title=release, release=release, arguments=("panic=10",), files=files)
        others = tuple(one for one in self.state.entries if one.id != release)
        self.state = replace(self.state, entries=(*others, entry))

    def boots(self) -> str:
        """Take the next entry, which is then no longer armed; return the release that it boots."""
        chosen = self.state.next or self.state.default
        self.state = replace(self.state, next="")
        return chosen


class BootedHost(Host):
    """A tree of files that is a machine."""

    def __init__(self, root: Path, loader: OwnLoader) -> None:
        super().__init__(root)
        self.loader = loader
        self.clock_s = 1_000.0
        self.started_s = 0.0
        self.release = ""
        self.agent_runs = True
        self.restarts = 0
        self.full = False
        self.goes_down = False
        self.count = 0
        # At a time since the kernel's start: what somebody does.
        self.events: dict[float, Callable[[], Any]] = {}
        for entry in loader.state.entries:
            self.install(entry.release)
        self.boot(loader.boots())

    def install(self, release: str) -> None:
        """Put a kernel's image there, and let the loader offer it."""
        super().write(f"/boot/vmlinuz-{release}", f"kernel {release}")
        self.loader.offer(release)

    def boot(self, release: str) -> None:
        """Let this kernel be the one that runs, from now on."""
        self.count += 1
        self.started_s, self.release, self.goes_down = self.clock_s, release, False
        super().write("/proc/sys/kernel/random/boot_id", f"boot-{self.count}")

    def now(self) -> float:
        return self.clock_s

    def uptime_s(self) -> float:
        return self.clock_s - self.started_s

    def pause(self, seconds: float) -> None:
        self.clock_s += seconds
        for at in [one for one in self.events if one <= self.uptime_s()]:
            self.events.pop(at)()

    def write(self, name: str, text: str) -> None:
        if self.full:
            raise BrokenHost(f"{name} cannot be written: No space left on device")
        super().write(name, text)

    def run(self, *command: str) -> str:
        if not self.agent_runs:
            raise BrokenHost("inactive")
        return "active\n"

    def reboot(self) -> None:
        self.goes_down = True

    def restart_at_once(self) -> None:
        self.restarts += 1
        self.goes_down = True

    @property
    def running_release(self) -> str:
        return self.release


def own_loader(*releases: str) -> OwnLoader:
    """Return a loader that offers these kernels; the first one is the default."""
    state = BootState(loader="own", entries=(), default=releases[0], next="", pinned=True)
    made = OwnLoader(state)
    for release in releases:
        made.offer(release)
    return made


def stand_in(host: BootedHost, monkeypatch: pytest.MonkeyPatch, where: Standing = Standing.NO_NETWORK) -> None:
    """Let kernroll-boot find this host, its loader and its network wherever it looks."""
    monkeypatch.setattr(main, "Host", lambda _root: host)
    monkeypatch.setattr(choice, "loader_of", lambda _host: host.loader)
    monkeypatch.setattr(circumstances, "refusals", lambda *_: iter(()))
    monkeypatch.setattr("agent.boot.rehearsal.require", lambda *_: None)
    monkeypatch.setattr(guard, "standing", lambda _host: where)


class BootedProgram:
    """See BootProgram: the host's own kernroll-boot, in this process, and packages that cost nothing to install."""

    def __init__(self, host: BootedHost, *, panics: Mapping[str, str]) -> None:
        """`panics`: kernels by release that panic at boot, with their last line."""
        self._host = host
        self._panics = panics
        self._since = self._begin()

    async def ask(self, host: str, *arguments: str) -> Mapping[str, Any]:
        """See BootProgram."""
        return self._run(*arguments)

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> Mapping[str, Any]:
        """See BootProgram."""
        self._host.install(kernel.release)
        return self._run("staged", kernel.digest, kernel.release, f"--command-id={command_id}", "--output=json")

    def passed_on(self, *arguments: str) -> str:
        """Return what its agent would answer."""
        try:
            asked = request.arguments_of(json.dumps({"arguments": arguments}).encode())
            return json.dumps(self._run(*asked))
        except Temporary as error:
            return json.dumps({"error": str(error), "code": "busy"})
        except Permanent as error:
            return json.dumps({"error": str(error), "code": "refused"})

    def _run(self, *arguments: str) -> Mapping[str, Any]:
        printed, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            code = main.main(arguments)
        found: dict[str, Any] = json.loads(printed.getvalue())
        if code:
            sentence = said.getvalue().removeprefix("kernroll-boot: ").strip()
            raise Temporary(sentence) if found["code"] == "busy" else Permanent(sentence)
        self.settle()
        return self._run("status", "--output=json") if arguments[0] == "reboot" else found

    def settle(self) -> None:
        """Let the host boot when it goes down, and its guard look, until nothing happens any more."""
        while True:
            if self._host.goes_down:
                self._host.clock_s += 1.0
                self.boot()
            pause_s = guard.look(self._host, self._since)
            if not self._host.goes_down and pause_s != 0:
                return

    def boot(self) -> None:
        """Boot what the loader boots; a kernel that panics is followed by the next."""
        while True:
            release = self._host.loader.boots()
            self._host.boot(release)
            line = self._panics.get(release, "")
            if not line:
                break
            self.wrote(line)
        self._since = self._begin()

    def wrote(self, line: str) -> None:
        """A kernel leaves its last line in the machine's store."""
        self._host.clock_s += 1.0
        Host.write(self._host, PSTORE, f"{line}\n")
        self._host.path(PSTORE).touch()
        os.utime(self._host.path(PSTORE), (self._host.clock_s, self._host.clock_s))

    def _begin(self) -> Ledger:
        begun = guard.begin(self._host)
        status.observed(self._host)
        return begun
