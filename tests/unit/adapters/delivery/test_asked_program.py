"""How a host's kernroll-boot is asked: through its agent when that answers, else by playbooks."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from controller.adapters.delivery.ansible.program import AgentProgram, BootProgram, EitherProgram
from controller.domain.errors import Permanent, Temporary
from controller.domain.kernels import Kernel
from controller.services.agents.boot_requests import Ask, BootRequest, BootRequests, Unanswered

STATUS = {"loader": "grub", "revision": 7}


class Played:
    """Stands for the playbooks."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.staged: list[str] = []

    async def ask(self, host: str, *arguments: str) -> Mapping[str, Any]:
        self.asked.append((host, *arguments))
        return {"by": "playbooks"}

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> Mapping[str, Any]:
        self.staged.append(kernel.release)
        return {"by": "playbooks"}


class Agent:
    """The agent of host "a": what it is asked, and what it answers."""

    def __init__(self, answer: Callable[[BootRequest], str | None] = lambda _request: json.dumps(STATUS)) -> None:
        self.asked: list[BootRequest] = []
        self.answer = answer
        self.heard = asyncio.Event()
        self.connected = True
        self.requests = BootRequests(self._way_to)

    def _way_to(self, host: str) -> Ask | None:
        return self._take if host == "a" and self.connected else None

    async def _take(self, request: BootRequest) -> None:
        self.asked.append(request)
        self.heard.set()
        if (document := self.answer(request)) is not None:
            self.requests.answered("a", request.request_id, document)

    def program(self, played: BootProgram | None, timeout_s: float = 60.0) -> EitherProgram:
        return EitherProgram(AgentProgram(self.requests, timeout_s=timeout_s), played)


async def test_a_connected_agent_is_asked_and_nobody_else() -> None:
    agent, played = Agent(), Played()
    assert await agent.program(played).ask("a", "revert", "d1", "--reboot", "--command-id=c") == STATUS
    assert agent.asked[0].arguments == ("revert", "d1", "--reboot", "--command-id=c")
    assert agent.asked[0].timeout_s == 60.0
    assert played.asked == []
    await agent.program(played).ask("a", "status")
    assert len({one.request_id for one in agent.asked}) == 2


async def test_another_host_and_one_without_an_agent_are_asked_by_playbooks() -> None:
    agent, played = Agent(), Played()
    await agent.program(played).ask("b", "status")
    agent.connected = False
    await agent.program(played).ask("a", "status")
    assert (played.asked, agent.asked) == ([("b", "status"), ("a", "status")], [])


@pytest.mark.parametrize(
    "document",
    [
        None,
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"a": "' + "x" * (256 << 10) + '"}',
        json.dumps({"error": "kernroll-boot cannot be asked", "code": "unanswered"}),
    ],
)
async def test_what_an_agent_does_not_answer_the_playbooks_ask(document: str | None) -> None:
    agent, played = Agent(lambda _request: document), Played()
    # An agent that says nothing is waited for no longer than that.
    program = agent.program(played, timeout_s=-5.0 if document is None else 60.0)
    assert await program.ask("a", "disarm", "--command-id=c") == {"by": "playbooks"}
    assert (len(agent.asked) <= 1, played.asked) == (True, [("a", "disarm", "--command-id=c")])
    with pytest.raises(Temporary, match=r"a: .*--inventory"):
        await agent.program(None, timeout_s=-5.0 if document is None else 60.0).ask("a", "disarm")


async def test_a_refusal_is_one_and_busy_is_asked_again() -> None:
    played = Played()
    said = {"error": "it is not proven that\x1b this host comes back", "code": "refused"}
    with pytest.raises(Permanent) as refused:
        await Agent(lambda _request: json.dumps(said)).program(played).ask("a", "arm", "d1")
    assert str(refused.value).startswith("a: it is not proven that") and str(refused.value).isprintable()
    busy = json.dumps({"error": "another kernroll-boot is at work", "code": "busy"})
    with pytest.raises(Temporary) as later:
        await Agent(lambda _request: busy).program(played).ask("a", "arm", "d1")
    assert not isinstance(later.value, Unanswered)
    broken = json.dumps({"error": "update-grub failed", "code": "broken"})
    with pytest.raises(Permanent, match="a: update-grub failed"):
        await Agent(lambda _request: broken).program(played).ask("a", "arm", "d1")
    assert played.asked == []


async def test_staging_is_left_to_playbooks(make_kernel: Callable[..., Kernel]) -> None:
    agent, played = Agent(), Played()
    assert await agent.program(played).stage("a", "c", make_kernel("new")) == {"by": "playbooks"}
    assert (len(played.staged), agent.asked) == (1, [])
    with pytest.raises(Permanent, match="need an inventory: start the controller with --inventory"):
        await agent.program(None).stage("a", "c", make_kernel("new"))


async def test_a_session_that_ends_leaves_nobody_waiting() -> None:
    agent, played = Agent(lambda _request: None), Played()
    asking = asyncio.create_task(agent.program(played).ask("a", "reboot"))
    await agent.heard.wait()
    name = agent.asked[0].request_id
    # Another host's word, one of a request that nobody made, and another host's session.
    agent.requests.answered("b", name, json.dumps(STATUS))
    agent.requests.answered("a", "other", json.dumps(STATUS))
    agent.requests.ended("b")
    assert not asking.done()
    agent.requests.ended("a")
    assert await asking == {"by": "playbooks"}
    # Too late, and twice.
    agent.requests.ended("a")
    agent.requests.answered("a", name, json.dumps(STATUS))


async def test_a_broken_stream_is_tried_again() -> None:
    async def breaks(_request: BootRequest) -> None:
        raise Temporary("nothing that was sent was taken")

    program = EitherProgram(AgentProgram(BootRequests(lambda _host: breaks)), Played())
    with pytest.raises(Temporary, match="nothing that was sent"):
        await program.ask("a", "status")
