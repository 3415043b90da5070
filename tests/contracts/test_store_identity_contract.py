"""What every store keeps of who is enrolled and who leads: fencing of every write, the epoch, names, forgetting."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from controller.adapters.store.memory import Disk, MemoryStore
from controller.adapters.store.sql import sqlite_store
from controller.domain.errors import Conflict, Permanent
from controller.domain.hosts.host import Host
from controller.domain.record.effects import RebootHost
from controller.domain.record.events import Event, HostSilent
from controller.domain.record.fleet import HostForgotten
from controller.domain.record.names import FLEET_STREAM
from controller.services.ports import Store
from controller.services.records import Commit, Enrolled, TokenGrant

Reopen = Callable[[], Store]

STREAM = "attempt/u/h"
GRANT = TokenGrant(secret_digest="d", uses=1, expires_at=100.0)
KEY = Enrolled(host="h", key_digest="k", serial="1", not_after=1e9)
HOST = Host(
    name="h",
    architecture="arm64",
    platform="vm",
    page_size_bytes=4096,
    memory_bytes=2**31,
    cpu_count=2,
    kernel_release="7.0",
    kernel_version="#1",
    boot_id="b",
)


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Return what gives another store on the same disk, as another process would have it."""
    if request.param == "sqlite":
        return lambda: sqlite_store(tmp_path / "kernroll.db")
    disk = Disk()
    return lambda: MemoryStore(disk)


@pytest.fixture
async def store(reopen: Reopen) -> AsyncIterator[Store]:
    opened = reopen()
    assert await opened.open() == 1
    yield opened
    await opened.close()


def commit(revision: int, *events: Event, **more: object) -> Commit:
    return Commit(stream=STREAM, expected_revision=revision, events=events, **more)  # type: ignore[arg-type]  # passed on as they are


def reboot(number: int) -> RebootHost:
    return RebootHost(command_id=f"u/h/{number}", host="h")


FENCED = {
    "save_host": lambda store: store.save_host(HOST),
    "create_token": lambda store: store.create_token(replace(GRANT, secret_digest="another")),
    "redeem_token": lambda store: store.redeem_token("d", replace(KEY, host="g"), 1.0),
    "renewed": lambda store: store.renewed(replace(KEY, serial="9")),
    "effect_done": lambda store: store.effect_done("u/h/1"),
    "raise_epoch": lambda store: store.raise_epoch(7),
    "commit": lambda store: store.commit(commit(1, HostSilent(at=2.0))),
    "commit_all": lambda store: store.commit_all([commit(1, HostSilent(at=2.0))]),
}


@pytest.mark.parametrize("name", FENCED)
async def test_nothing_is_written_by_a_controller_that_was_replaced(store: Store, reopen: Reopen, name: str) -> None:
    await store.create_token(replace(GRANT, uses=2))
    await store.redeem_token("d", KEY, 1.0)
    await store.commit(commit(0, HostSilent(at=1.0), effects=(reboot(1),)))
    newer = reopen()
    await newer.open()
    before = (await newer.load(), await newer.enrolled())
    with pytest.raises(Conflict, match="taken over"):
        await FENCED[name](store)
    assert (await newer.load(), await newer.enrolled()) == before
    # Nothing of the token was used up either.
    await newer.redeem_token("d", replace(KEY, host="i"), 1.0)
    await store.close()
    await newer.close()


async def test_the_epoch_goes_above_what_agents_name_and_stays_there(store: Store, reopen: Reopen) -> None:
    assert await store.raise_epoch(41) == 42
    # Nothing to do: it is above already.
    assert await store.raise_epoch(7) == 42
    assert await store.commit(commit(0, HostSilent(at=1.0)))
    await store.close()
    again = reopen()
    assert await again.open() == 43
    await again.close()


async def test_who_is_enrolled_is_known_after_a_restart(store: Store, reopen: Reopen) -> None:
    await store.create_token(replace(GRANT, uses=2))
    await store.redeem_token("d", KEY, 1.0)
    await store.redeem_token("d", replace(KEY, host="g", key_digest="l"), 1.0)
    await store.renewed(replace(KEY, serial="2", not_after=2e9))
    await store.close()
    again = reopen()
    await again.open()
    assert {one.host: one for one in await again.enrolled()} == {
        "h": replace(KEY, serial="2", not_after=2e9),
        "g": replace(KEY, host="g", key_digest="l"),
    }
    await again.close()


async def test_only_who_is_enrolled_with_this_key_is_renewed(store: Store) -> None:
    await store.create_token(GRANT)
    await store.redeem_token("d", KEY, 1.0)
    for other in (replace(KEY, host="g"), replace(KEY, key_digest="stranger")):
        with pytest.raises(Conflict, match="not enrolled with this key"):
            await store.renewed(other)
    assert await store.enrolled() == (KEY,)


async def test_a_name_is_one_however_it_is_spelled(store: Store) -> None:
    await store.create_token(replace(GRANT, uses=3))
    await store.redeem_token("d", replace(KEY, host="host-A"), 1.0)
    with pytest.raises(Conflict, match="host-A is enrolled with another key"):
        await store.redeem_token("d", replace(KEY, host="HOST-a", key_digest="stranger"), 1.0)
    await store.redeem_token("d", replace(KEY, host="Host-a", serial="2"), 1.0)
    assert [(one.host, one.serial) for one in await store.enrolled()] == [("Host-a", "2")]


async def test_a_forgotten_host_leaves_with_the_event_that_says_so(store: Store, reopen: Reopen) -> None:
    await store.create_token(replace(GRANT, uses=2))
    await store.redeem_token("d", KEY, 1.0)
    await store.save_host(HOST)
    forgotten = HostForgotten(at=2.0, by="olga", host="h", remark="reinstalled")
    with pytest.raises(Conflict):
        await store.commit(Commit(stream=FLEET_STREAM, expected_revision=3, events=(forgotten,)))
    assert await store.enrolled() == (KEY,)
    await store.commit(Commit(stream=FLEET_STREAM, expected_revision=0, events=(forgotten,)))
    assert await store.enrolled() == ()
    assert (await store.load()).hosts == {}
    # The name is free for another machine.
    await store.redeem_token("d", replace(KEY, key_digest="new"), 3.0)
    await store.close()
    again = reopen()
    await again.open()
    assert [one.key_digest for one in await again.enrolled()] == ["new"]
    await again.close()


async def test_a_store_is_made_only_by_who_may(reopen: Reopen) -> None:
    refused = reopen()
    with pytest.raises(Permanent, match="holds no events"):
        await refused.open(may_create=False)
    await refused.close()
    made = reopen()
    assert await made.open() == 1
    await made.close()
    again = reopen()
    assert await again.open(may_create=False) == 2
    await again.close()


async def test_a_caller_that_goes_away_locks_nobody_out(store: Store) -> None:
    for number in range(20):
        write = asyncio.ensure_future(store.save_host(replace(HOST, boot_id=str(number))))
        for _ in range(number):
            await asyncio.sleep(0)
        write.cancel()
        await asyncio.wait({write})
    await store.save_host(replace(HOST, boot_id="last"))
    assert (await store.load()).hosts["h"].boot_id == "last"
