"""What is done for a command is told, by whichever way the host is asked; what is asked for no command is not."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from controller.adapters.delivery.ansible.program import AgentProgram, EitherProgram, PlayedProgram
from controller.adapters.plays.outcomes import HostOutcome, PlayEvent
from controller.adapters.plays.runner import Heard, Plays
from controller.domain.errors import InvalidInput, Temporary
from controller.domain.record.actions.work import WorkKind
from controller.services.agents.boot_requests import BootRequest, BootRequests
from controller.services.ports import Work
from controller.settings import Settings


class Told:
    """Keeps what is told, as (way, kind, what, sentence)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, str]] = []
        self.of: set[tuple[str, str]] = set()

    def work(self, host: str, command_id: str, way: str) -> Work:
        self.of.add((host, command_id))
        return _Of(self, way)


class _Of:
    def __init__(self, told: Told, way: str) -> None:
        self._told = told
        self._way = way

    def tell(self, kind: WorkKind, what: str, *, seconds: float = 0.0, sentence: str = "") -> None:
        self._told.lines.append((self._way, kind, what, sentence))


class FakePlays:
    """Stands for Plays: it waits, plays, and ends as a test says."""

    def __init__(self, outcome: HostOutcome | None = None) -> None:
        self._outcome = outcome

    async def run(
        self, playbook: str, hosts: Sequence[str], variables: Mapping[str, Any], *, heard: Heard, **_: Any
    ) -> Mapping[str, HostOutcome]:
        assert heard.waits and heard.begins and heard.starts and heard.ends
        heard.waits(3)
        heard.begins()
        heard.starts("a", "Check what was asked for")
        heard.ends(PlayEvent(host="a", task="Check what was asked for", status="ok", seconds=0.1))
        heard.ends(PlayEvent(host="a", task="kernroll-boot", status="changed", seconds=2.0))
        if self._outcome is None:
            await asyncio.Event().wait()
        assert self._outcome is not None
        return {"a": self._outcome}


DONE = HostOutcome(host="a", done=True, unreachable=False, task="kernroll-boot", sentence="", answer={"revision": 1})
BY_SSH = [
    ("ssh", "waits", "arm", "waits for 3 other plays on other hosts"),
    ("ssh", "began", "arm", ""),
    ("ssh", "running", "Check what was asked for", ""),
    ("ssh", "changed", "kernroll-boot", ""),
]


def played(told: Told, outcome: HostOutcome | None = DONE) -> PlayedProgram:
    return PlayedProgram(cast(Plays, FakePlays(outcome)), told)


async def test_a_play_is_told_from_its_turn_to_its_end() -> None:
    told = Told()
    assert await played(told).ask("a", "arm", "d1", "--command-id=u/a/1.arm.0") == {"revision": 1}
    assert told.lines == [*BY_SSH, ("ssh", "ended", "arm", "done")]
    assert told.of == {("a", "u/a/1.arm.0")}


async def test_how_it_failed_is_told() -> None:
    told = Told()
    away = HostOutcome(host="a", done=False, unreachable=True, task="", sentence="cannot be reached")
    with pytest.raises(Temporary, match="a: cannot be reached"):
        await played(told, away).ask("a", "arm", "d1", "--command-id=c")
    assert told.lines[-1] == ("ssh", "ended", "arm", "a: cannot be reached")


async def test_that_it_was_broken_off_is_told() -> None:
    told = Told()
    asking = asyncio.create_task(played(told, None).ask("a", "arm", "d1", "--command-id=c"))
    await asyncio.sleep(0)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    assert told.lines == [*BY_SSH, ("ssh", "ended", "arm", "broken off")]


async def test_what_goes_through_an_agent_is_told_and_why_it_went_by_ssh_then() -> None:
    told, answers = Told(), ["{}", '{"error": "nobody answers", "code": "unanswered"}']

    async def way(request: BootRequest) -> None:
        requests.answered("a", request.request_id, answers.pop(0))

    requests = BootRequests(lambda _host: way)
    program = EitherProgram(AgentProgram(requests), played(told), told)
    await program.ask("a", "bless", "--command-id=c")
    assert told.lines == [("agent", "began", "bless", ""), ("agent", "ended", "bless", "done")]
    await program.ask("a", "arm", "--command-id=c")
    assert told.lines[2:] == [
        ("agent", "began", "arm", ""),
        ("agent", "ended", "arm", "a: nobody answers"),
        *BY_SSH,
        ("ssh", "ended", "arm", "done"),
    ]


async def test_a_look_is_nobodys_work() -> None:
    told = Told()
    await played(told).ask("a", "status")
    assert (told.lines, told.of) == ([], set())


@pytest.mark.parametrize("plays", [1, 501])
def test_how_many_plays_run_at_one_time_is_checked(plays: int) -> None:
    with pytest.raises(InvalidInput, match=f"--plays: must be 2 to 500 .got {plays}."):
        Settings(state_dir=Path("state"), most_plays=plays)
