"""The guard of a kernel on trial, on a host whose clock and whose network are ours."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.boot import verbs
from agent.boot.host import Host
from agent.boot.trial import book, guard, ledger, status
from agent.boot.trial.ledger import Asked, Cause, End, Trial
from agent.boot.trial.network import Standing
from agent.boot.values import BootState, BrokenHost, Entry

RELEASES = ("1.0", "2.0")
STATE = BootState(
    loader="made up",
    entries=tuple(Entry(id=one, title=one, release=one) for one in RELEASES),
    default="1.0",
    next="",
    pinned=True,
)


class TrialHost(Host):
    """A tree of files that boots when told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.time_s = 0.0
        self.release = "1.0"
        self.agent_runs = True
        self.restarts = 0
        self.full = False
        # At a time: what somebody does.
        self.events: dict[float, Callable[[], Any]] = {}
        self.boots("one")

    def boots(self, boot_id: str, release: str = "1.0") -> None:
        self.time_s, self.release = 0.0, release
        super().write("/proc/sys/kernel/random/boot_id", boot_id)

    def now(self) -> float:
        return 1_000.0 + self.time_s

    def uptime_s(self) -> float:
        return self.time_s

    def pause(self, seconds: float) -> None:
        self.time_s += seconds
        for at in [one for one in self.events if one <= self.time_s]:
            self.events.pop(at)()

    def write(self, name: str, text: str) -> None:
        if self.full:
            raise BrokenHost(f"{name} cannot be written: No space left on device")
        super().write(name, text)

    def run(self, *command: str) -> str:
        if not self.agent_runs:
            raise BrokenHost("inactive")
        return "active\n"

    def restart_at_once(self) -> None:
        self.restarts += 1

    @property
    def running_release(self) -> str:
        return self.release


class FixedLoader:
    """Boots by default what it is told."""

    def __init__(self) -> None:
        self.state = STATE

    def read(self) -> BootState:
        return self.state


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> FixedLoader:
    made = FixedLoader()
    for asks in (guard, status, verbs):
        monkeypatch.setattr(asks, "loader_of", lambda _host: made)
    return made


@pytest.fixture
def host(tmp_path: Path, loader: FixedLoader) -> TrialHost:
    """A host that has just booted the kernel on trial."""
    made = TrialHost(tmp_path)
    guard.begin(made)
    trial = Trial(kernel="b" * 64, release="2.0", boot_timeout_s=100.0, probation_timeout_s=50.0, patience_s=1_000.0)
    armed = ledger.armed(book.read(made), trial)
    book.write(made, ledger.asked_to_boot(armed, Asked(cause=Cause.TRIAL, command_id="c", boot_id="one")))
    made.boots("two", "2.0")
    return made


def stands(monkeypatch: pytest.MonkeyPatch, where: Standing) -> None:
    monkeypatch.setattr(guard, "standing", lambda _host: where)


def guarded(host: TrialHost) -> None:
    guard.keep(host, guard.begin(host))


def ending(host: TrialHost) -> End | None:
    found = book.read(host).ending
    return found.end if found else None


@pytest.mark.parametrize("where", [Standing.NO_NETWORK, Standing.CONTROLLER_THERE])
def test_a_kernel_under_which_nobody_is_heard_is_left_at_its_deadline(
    host: TrialHost, monkeypatch: pytest.MonkeyPatch, where: Standing
) -> None:
    stands(monkeypatch, where)
    guarded(host)
    assert (host.restarts, host.time_s, ending(host)) == (1, 100.0, End.NOT_ACKNOWLEDGED)


def test_a_controller_that_is_away_costs_no_kernel_its_trial(host: TrialHost, monkeypatch: pytest.MonkeyPatch) -> None:
    stands(monkeypatch, Standing.CONTROLLER_AWAY)
    host.events[900.0] = lambda: book.write(host, ledger.acknowledged(book.read(host), host.time_s))
    host.events[940.0] = lambda: book.write(host, ledger.blessed(book.read(host)))
    guarded(host)
    assert (host.restarts, host.time_s) == (0, 940.0)


def test_even_then_it_is_left_at_the_end(host: TrialHost, monkeypatch: pytest.MonkeyPatch) -> None:
    stands(monkeypatch, Standing.CONTROLLER_AWAY)
    guarded(host)
    assert (host.restarts, host.time_s, ending(host)) == (1, 1_100.0, End.NOT_ACKNOWLEDGED)


def test_an_agent_that_does_not_run_is_not_waited_for(host: TrialHost, monkeypatch: pytest.MonkeyPatch) -> None:
    stands(monkeypatch, Standing.CONTROLLER_AWAY)
    host.agent_runs = False
    guarded(host)
    assert (host.restarts, host.time_s) == (1, 100.0)


def test_a_kernel_that_is_not_blessed_in_time_is_left(host: TrialHost, monkeypatch: pytest.MonkeyPatch) -> None:
    stands(monkeypatch, Standing.CONTROLLER_THERE)
    host.events[60.0] = lambda: book.write(host, ledger.acknowledged(book.read(host), host.time_s))
    guarded(host)
    assert (host.restarts, host.time_s, ending(host)) == (1, 110.0, End.NOT_BLESSED)


def test_a_blessing_that_was_interrupted_half_way_counts(
    host: TrialHost, loader: FixedLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands(monkeypatch, Standing.CONTROLLER_THERE)
    loader.state = replace(STATE, default="2.0")
    guarded(host)
    assert (host.restarts, book.read(host).trial) == (0, None)


def test_a_disk_that_cannot_be_written_keeps_nobody_from_going_back(
    host: TrialHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands(monkeypatch, Standing.NO_NETWORK)
    host.full = True
    guarded(host)
    assert (host.restarts, host.time_s) == (1, 100.0)


def test_nothing_is_guarded_where_nothing_is_on_trial(host: TrialHost) -> None:
    host.boots("three")
    guarded(host)
    assert (host.restarts, host.time_s) == (0, 0.0)
    assert [one.cause for one in book.read(host).boots] == [Cause.INITIAL, Cause.TRIAL, Cause.FALLBACK]


def test_a_guard_that_is_stopped_says_that_the_kernel_is_not_at_fault(host: TrialHost) -> None:
    guard.begin(host)
    guard.stop(host)
    host.boots("three")
    guarded(host)
    assert book.read(host).boots[-2].end == "stopped"
