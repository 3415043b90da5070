"""Many hosts are served in shards, and the end of one shard is told of its own hosts alone."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from controller.adapters.local.cache import Cache, no_progress
from controller.adapters.plays import enrolling
from controller.adapters.plays.bundle import Bundle
from controller.adapters.plays.enrolling import SHARDS_AT_A_TIME, Enrolling
from controller.adapters.plays.outcomes import HostOutcome, PlayEvent, outcomes
from controller.adapters.plays.runner import Plays
from controller.adapters.plays.sharding import MOST_HOSTS, Shard, Together, shards
from controller.domain.errors import Permanent, Temporary

HOSTS = [f"h{number:04}" for number in range(1201)]
DIED = "enroll.yml: the play ended before its time: signal 9 ended it"


def event(host: str, status: str = "ok", sentence: str = "", task: str = "kernroll-boot") -> PlayEvent:
    answer = {"architecture": "x86_64", "python": "3.11", "enrolled": False, "refusals": []}
    return PlayEvent(host=host, task=task, status=status, seconds=1.0, sentence=sentence, answer=answer)


class Played:
    """Stands for Plays: every host answers, but those that a test says otherwise of."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...], Mapping[str, Any]]] = []
        self.bad: dict[str, PlayEvent] = {}
        # A play with this host dies when it comes to it.
        self.dies_at = ""
        self.running = 0
        self.most = 0

    async def run(self, playbook: str, hosts: Sequence[str], variables: Mapping[str, Any], **options: Any) -> Any:
        self.asked.append((playbook, tuple(hosts), variables))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            events = []
            for host in hosts:
                await asyncio.sleep(0)
                if host == self.dies_at and playbook == "enroll.yml":
                    raise Temporary(DIED)
                events.append(self.bad.get(host, event(host)))
                if told := options.get("told"):
                    told(events[-1])
            return outcomes(hosts, events, "")
        finally:
            self.running -= 1

    @property
    def plays(self) -> Plays:
        return cast(Plays, self)


@pytest.fixture
def played() -> Played:
    return Played()


def test_shards_are_of_one_size_and_no_larger_than_they_may_be() -> None:
    made = shards(HOSTS)
    assert [len(one) for one in made] == [401, 401, 399]
    assert [host for one in made for host in one] == HOSTS
    assert shards([]) == []
    assert max(len(one) for one in shards(HOSTS[:1000])) == MOST_HOSTS


async def test_a_thousand_hosts_are_enrolled_and_one_that_dies_takes_its_shard_alone(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle(path=tmp_path / "agent.tar.gz", sha256="0" * 64, compiled=True)
    monkeypatch.setattr(enrolling, "agent_bundle", lambda *_: bundle)
    played.bad = {"h0005": event("h0005", "unreachable", "cannot be reached")}
    played.dies_at = "h0500"
    tokens: list[int] = []

    def make_token(uses: int) -> str:
        tokens.append(uses)
        return f"kr1.token-{len(tokens)}"

    making = Enrolling(
        plays=played.plays,
        cache=Cache(root=tmp_path / "cache"),
        addresses=("c:1", "c:2"),
        make_token=make_token,
        timeout_s=60.0,
        told=lambda _: None,
        progress=no_progress,
    )
    await making.enroll(HOSTS)
    assert list(making.found) == HOSTS
    assert played.most == SHARDS_AT_A_TIME
    assert sorted(len(hosts) for _, hosts, _ in played.asked) == [399, 399, 400, 401, 401, 401]
    assert sorted(tokens) == [399, 400, 401]
    left = {host: one.sentence for host, one in making.found.items() if not one.done}
    # Of the shard that died, those that had answered are done.
    assert left.pop("h0005") == "cannot be reached"
    assert set(left) == set(HOSTS[500:802])
    assert set(left.values()) == {DIED}


async def test_what_had_failed_before_a_play_died_keeps_its_own_sentence(played: Played) -> None:
    found: dict[str, HostOutcome] = {}
    played.bad = {"b": event("b", "failed", "its disk is full"), "c": event("c", task="Copy the agent")}
    played.dies_at = "d"
    shard = Shard(plays=played.plays, timeout_s=1.0, told=lambda _: None, found=found)
    await shard.run("enroll.yml", ["a", "b", "c", "d"], {})
    assert {host: (one.done, one.sentence) for host, one in found.items()} == {
        "a": (True, ""),
        "b": (False, "its disk is full"),
        "c": (False, DIED),
        "d": (False, DIED),
    }


async def test_hosts_that_are_asked_the_same_at_one_moment_share_a_play(played: Played) -> None:
    together = Together(plays=played.plays, timeout_s=1.0, forks=2, gather_s=0.0)
    both = [together.run("boot.yml", host, {"kernroll_arguments": ["pin"]}) for host in ("a", "b", "c")]
    other = together.run("boot.yml", "d", {"kernroll_arguments": ["reboot"]})
    found = await asyncio.gather(*both, other)
    assert [one.host for one in found] == ["a", "b", "c", "d"]
    assert [hosts for _, hosts, _ in played.asked] == [("a", "b", "c"), ("d",)]
    # One that is asked twice is asked twice.
    await asyncio.gather(*(together.run("boot.yml", "a", {}) for _ in range(2)))
    assert [hosts for _, hosts, _ in played.asked[2:]] == [("a",), ("a",)]
    played.dies_at = "b"
    asked = [together.run("enroll.yml", host, {}) for host in ("a", "b")]
    assert [str(one) for one in await asyncio.gather(*asked, return_exceptions=True)] == [DIED, DIED]
    await together.close()


async def test_what_ansible_cannot_run_at_all_ends_the_enrolling(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(*_: Any, **__: Any) -> Any:
        raise Permanent("look.yml: Ansible cannot run it: no such module")

    monkeypatch.setattr(played, "run", run)
    making = Enrolling(
        plays=played.plays,
        cache=Cache(root=tmp_path),
        addresses=("c:1", "c:2"),
        make_token=str,
        timeout_s=60.0,
        told=lambda _: None,
        progress=no_progress,
    )
    with pytest.raises(Permanent, match="Ansible cannot run it"):
        await making.enroll(HOSTS)
    assert {one.done for one in making.found.values()} == {False}
