"""Waiting for machines to join: for as long as they get on, and with what became of each when they do not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controller.cli.lab.fleet import Outside, wait_for_agents
from controller.domain.errors import Temporary
from controller.lab.joining import Sign

QUIET_S = 300.0
A, B = Path("/fleet/a"), Path("/fleet/b")
Shows = Callable[[str, float], Sign]


@dataclass
class Facts:
    kernel_release: str = "7.0.13"


@dataclass
class Listed:
    name: str
    connected: bool
    facts: Facts = field(default_factory=Facts)


class Fleet:
    """Machines that show something at every moment, and a controller that lists who has joined by then."""

    def __init__(self, shows: Shows, joins_at_s: dict[str, float] | None = None) -> None:
        self.now = 0.0
        self.shows = shows
        self.joins_at_s = joins_at_s or {}
        self.said: list[str] = []

    def list_hosts(self) -> list[Listed]:
        return [Listed(name, self.now >= at) for name, at in self.joins_at_s.items()]

    def wait(self, *machines: Path) -> None:
        client: Any = self
        wait_for_agents(client, list(machines), QUIET_S, self.said.append, self.outside)

    @property
    def outside(self) -> Outside:
        def sleep(_s: float) -> None:
            self.now += 5.0

        return Outside(
            sign_of=lambda machine: self.shows(machine.name, self.now), monotonic=lambda: self.now, sleep=sleep
        )


def printing(_name: str, now: float) -> Sign:
    """A machine that is slow: a line of its console every two minutes."""
    return Sign(switched_on=True, boots=1, console_bytes=80 * int(now // 120))


def test_a_machine_that_is_slow_and_gets_on_is_waited_for() -> None:
    fleet = Fleet(printing, {"a": 30.0, "b": 2400.0})
    fleet.wait(A, B)
    assert fleet.said == ["  a joined after 30 s, running 7.0.13", "  b joined after 2400 s, running 7.0.13"]


def test_a_machine_that_shows_nothing_new_is_given_up_with_what_it_has_shown() -> None:
    fleet = Fleet(lambda *_: Sign(switched_on=True, boots=1, console_bytes=5 << 10), {"a": 10.0})
    with pytest.raises(
        Temporary, match=r"b has shown nothing new for 5 min( 5 s)? after 1 boot and 5 KiB on its console"
    ):
        fleet.wait(A, B)
    assert QUIET_S <= fleet.now < QUIET_S + 30.0


def test_a_machine_that_starts_again_and_again_is_told_by_how_it_ended() -> None:
    def panicking(_name: str, now: float) -> Sign:
        boots = 1 + int(now // 40)
        return Sign(
            switched_on=True, boots=boots, console_bytes=9000 * boots, ended="panic: VFS: Unable to mount root fs"
        )

    fleet = Fleet(panicking)
    with pytest.raises(Temporary, match="a was started 5 times and starts again and again; the last ended: panic: VFS"):
        fleet.wait(A)
    assert fleet.now < QUIET_S


def test_a_machine_that_booted_often_before_is_not_given_up_for_that() -> None:
    fleet = Fleet(lambda *_: Sign(switched_on=True, boots=40, console_bytes=1 << 20), {"a": 60.0})
    fleet.wait(A)
    assert fleet.said


def test_a_machine_that_is_off_is_not_waited_for() -> None:
    fleet = Fleet(lambda *_: Sign(switched_on=False, boots=1, console_bytes=0))
    with pytest.raises(Temporary, match="a is switched off"):
        fleet.wait(A)
    assert fleet.now == 0.0


def test_a_machine_that_prints_for_ever_and_never_joins_is_given_up_some_time() -> None:
    fleet = Fleet(printing)
    with pytest.raises(Temporary, match=r"a still starts after 1 h.*on its console"):
        fleet.wait(A)


def test_one_that_is_given_up_does_not_end_the_wait_for_the_others() -> None:
    def shows(name: str, now: float) -> Sign:
        return printing(name, now) if name == "b" else Sign(switched_on=False, boots=0, console_bytes=0)

    fleet = Fleet(shows, {"b": 900.0})
    with pytest.raises(Temporary, match="no agent has joined from a: a is switched off"):
        fleet.wait(A, B)
    assert fleet.said == ["  b joined after 900 s, running 7.0.13"]
