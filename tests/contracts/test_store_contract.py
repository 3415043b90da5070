"""What every store keeps: the log and its order, compare-and-swap, fencing, the outbox, reports once, tokens."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from controller.adapters.store.memory import Disk, MemoryStore
from controller.adapters.store.sql import sqlite_store
from controller.domain.delivery import BootEnd
from controller.domain.errors import Conflict, Permanent
from controller.domain.hosts.host import Host, SwapDevice
from controller.domain.record.actions.power_cycles import CycleOutcome, PowerCycleBegun, PowerCycled, PowerSeen
from controller.domain.record.effects import RebootHost, RevertKernel, RunWorkload
from controller.domain.record.events import (
    Event,
    Failure,
    FailureKind,
    HostHeard,
    HostSilent,
    Moved,
    RunReported,
    RunState,
    TrialEnded,
    WatchResumed,
)
from controller.domain.record.fleet import FleetFrozen
from controller.domain.record.journey import Step, Trigger
from controller.domain.record.names import FLEET_STREAM
from controller.domain.record.policy import Task
from controller.gate.ledger import Boot, Judgement, Ledger
from controller.services import records
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
    swap_devices=(SwapDevice(path="/dev/x", size_bytes=2**40, used_bytes=0),),
    labels={"zone": "a"},
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


async def test_every_kind_of_event_comes_back_as_it_was(store: Store, reopen: Reopen) -> None:
    failure = Failure(kind=FailureKind.PANIC, sentence="it “panicked”", line="Kernel panic – not syncing\x00")
    events: tuple[Event, ...] = (
        Moved(at=1.5, trigger=Trigger.FELL_BACK, step=Step.FALLBACK, deadline=None, leg=1, tries=0, failure=failure),
        HostHeard(at=2.0, boot_id="b", release="7.0"),
        HostSilent(at=3.0),
        WatchResumed(at=3.5, deadline=9.0),
        PowerCycleBegun(at=3.6, command_id="p", seen=PowerSeen(controller="ipmi://bmc", on=None, says=("a", "b"))),
        PowerCycled(at=3.7, command_id="p", outcome=CycleOutcome.UNKNOWN, detail="no answer"),
        TrialEnded(at=4.0, command_id="c", end=BootEnd.NOT_BLESSED, line="", unattended=True),
        RunReported(
            at=5.0,
            report_id="r",
            command_id="c",
            boot_id="b",
            workload="swap_mount",
            index=0,
            warmup=False,
            state=RunState.OK,
            error="",
            values={"swap_mount.cost": 0.1 + 0.2},
            evidence={"free_before": "Mem:\n"},
        ),
    )
    await store.commit(commit(0, *events))
    await store.close()
    again = reopen()
    await again.open()
    loaded = await again.load()
    await again.close()
    assert tuple(one.event for one in loaded.events) == events
    assert [one.revision for one in loaded.events] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [one.number for one in loaded.events] == sorted(one.number for one in loaded.events)


async def test_a_stream_that_moved_on_takes_nothing(store: Store) -> None:
    await store.commit(commit(0, HostSilent(at=1.0), effects=(reboot(1),)))
    for stale in (0, 2):
        with pytest.raises(Conflict):
            await store.commit(commit(stale, HostSilent(at=2.0), HostSilent(at=3.0), effects=(reboot(2),)))
    loaded = await store.load()
    await store.close()
    assert len(loaded.events) == 1
    assert loaded.effects == (reboot(1),)


async def test_a_newer_controller_shuts_the_older_one_out(store: Store, reopen: Reopen) -> None:
    newer = reopen()
    assert await newer.open() == 2
    with pytest.raises(Conflict, match="taken over"):
        await store.commit(commit(0, HostSilent(at=1.0)))
    assert await newer.commit(commit(0, HostSilent(at=1.0)))
    await store.close()
    await newer.close()


async def test_several_commits_are_made_together_or_not_at_all(store: Store) -> None:
    other = Commit(stream="attempt/u/g", expected_revision=0, events=(HostSilent(at=1.0),))
    with pytest.raises(Conflict):
        await store.commit_all([other, commit(1, HostSilent(at=1.0))])
    assert (await store.load()).events == ()
    await store.commit_all([other, commit(0, HostSilent(at=1.0))])
    assert [one.stream for one in (await store.load()).events] == ["attempt/u/g", STREAM]


async def test_a_report_is_recorded_once(store: Store) -> None:
    assert await store.commit(commit(0, HostSilent(at=1.0), report_id="r"))
    assert not await store.commit(commit(1, HostSilent(at=2.0), report_id="r"))
    assert len((await store.load()).events) == 1
    note = Commit(stream="reports", expected_revision=0, events=(), report_id="another")
    assert await store.commit(note)
    assert not await store.commit(note)


async def test_a_report_that_was_refused_may_come_again(store: Store) -> None:
    await store.commit(commit(0, HostSilent(at=1.0)))
    with pytest.raises(Conflict):
        await store.commit(commit(0, HostSilent(at=2.0), report_id="r"))
    assert await store.commit(commit(1, HostSilent(at=2.0), report_id="r"))


async def test_effects_are_replaced_left_or_taken_away(store: Store, reopen: Reopen) -> None:
    swap = {"kind": "block_device", "path": "/dev/x"}
    task = Task(
        workload="kernel_build",
        preset="small",
        parameters={"swap": swap, "jobs": 2, "objects": ["mm/swapfile.o"]},
        repetitions=3,
        warmups=1,
        timeout_s=9.0,
    )
    run = RunWorkload(command_id="u/h/0", host="h", task=task, timeout_s=9.0)
    await store.commit(commit(0, HostSilent(at=1.0), effects=(run, reboot(1))))
    await store.commit(commit(1, HostSilent(at=2.0)))
    assert await store.outstanding() == (run, reboot(1))
    await store.effect_done("u/h/1")
    await store.effect_done("u/h/1")
    assert await store.outstanding() == (run,)
    other = RevertKernel(command_id="u/g/0", host="g", kernel="k")
    elsewhere = Commit(
        stream="attempt/u/g", expected_revision=0, events=(HostSilent(at=1.0),), effects=(other, reboot(7))
    )
    await store.commit(elsewhere)
    await store.commit(commit(2, HostSilent(at=3.0), effects=()))
    await store.close()
    again = reopen()
    await again.open()
    assert (await again.load()).effects == (other, reboot(7))
    await again.close()


async def test_events_of_one_rollout(store: Store) -> None:
    for stream in ("rollout/u", "attempt/u/h", "attempt/u2/h", "rollout/u_", "attempt/u_/h"):
        await store.commit(Commit(stream=stream, expected_revision=0, events=(HostSilent(at=1.0),)))
    assert [one.stream for one in await store.events("u")] == ["rollout/u", "attempt/u/h"]
    assert [one.stream for one in await store.events("u_")] == ["rollout/u_", "attempt/u_/h"]


async def test_a_long_log_is_read_whole_and_in_order(store: Store) -> None:
    for begin in range(0, 900, 300):
        events = [HostSilent(at=float(begin + number)) for number in range(300)]
        await store.commit(commit(begin, *events))
        other = Commit(stream="attempt/other/h", expected_revision=begin // 300, events=(HostSilent(at=0.0),))
        await store.commit(other)
    assert [one.event.at for one in await store.events("u")] == [float(number) for number in range(900)]


async def test_the_newest_events_of_the_fleet(store: Store) -> None:
    freezes = tuple(FleetFrozen(at=float(number), by="olga", remark="x") for number in range(4))
    await store.commit(Commit(stream=FLEET_STREAM, expected_revision=0, events=freezes))
    await store.commit(Commit(stream="rollout/u", expected_revision=0, events=(HostSilent(at=9.0),)))
    assert [one.event for one in await store.fleet_events(2)] == list(freezes[2:])
    assert [one.event for one in await store.fleet_events(100)] == list(freezes)


def boot_of(stratum: str, at: float) -> Boot:
    return Boot(
        host="h",
        stratum=stratum,
        metric="swap_mount.cost",
        rollout="u",
        kernel="k",
        order="o",
        boot_id=f"b{at}",
        at=at,
        value=0.1 + 0.2,
        runs=3,
    )


async def test_the_ledger_is_written_with_its_events_or_not_at_all(store: Store, reopen: Reopen) -> None:
    first, second = boot_of("x86_64/vm", 1.0), boot_of("arm64/vm", 2.0)
    judged = Judgement(stratum="x86_64/vm", metric="m", rollout="u", at=3.0, alpha=0.01, failed=True)
    await store.commit(commit(0, HostSilent(at=1.0), boots=(first, second), judgements=(judged,)))
    with pytest.raises(Conflict):
        await store.commit(commit(0, HostSilent(at=2.0), boots=(first,)))
    await store.commit(commit(1, HostSilent(at=3.0), boots=(boot_of("x86_64/vm", 4.0),)))
    await store.close()
    again = reopen()
    await again.open()
    known = await again.ledger(["x86_64/vm"])
    assert known.boots == (first, boot_of("x86_64/vm", 4.0))
    assert known.judgements == (judged,)
    assert (await again.ledger(["arm64/vm", "arm64/vm", "nowhere"])).boots == (second,)
    assert await again.ledger([]) == Ledger()
    await again.close()


async def test_a_large_ledger_is_read_for_the_hosts_measured_last(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MOST_LEDGER_HOSTS", 2)
    monkeypatch.setattr(records, "MOST_LEDGER_BOOTS", 2)
    rows = [replace(boot_of("s", float(at)), host=host) for at, host in enumerate("abcabcb")]
    for number, row in enumerate(rows):
        await store.commit(commit(number, HostSilent(at=1.0), boots=(row,)))
    # Both boots of a host stay together, and of many the newest count.
    assert [(one.host, one.at) for one in (await store.ledger(["s"])).boots] == [
        ("c", 2.0),
        ("b", 4.0),
        ("c", 5.0),
        ("b", 6.0),
    ]


async def test_hosts_are_kept_by_name(store: Store, reopen: Reopen) -> None:
    await store.save_host(HOST)
    await store.save_host(replace(HOST, boot_id="c"))
    await store.close()
    again = reopen()
    await again.open()
    assert (await again.load()).hosts == {"h": replace(HOST, boot_id="c")}
    await again.close()


async def test_a_token_is_good_for_its_uses_and_its_time(store: Store) -> None:
    with pytest.raises(Permanent, match="unknown, used up or expired"):
        await store.redeem_token("d", KEY, 1.0)
    await store.create_token(GRANT)
    with pytest.raises(Permanent, match="unknown, used up or expired"):
        await store.redeem_token("d", KEY, 100.0)
    await store.redeem_token("d", KEY, 1.0)
    with pytest.raises(Permanent, match="unknown, used up or expired"):
        await store.redeem_token("d", replace(KEY, host="g", key_digest="g"), 1.0)


async def test_a_host_that_never_got_its_answer_may_ask_again(store: Store) -> None:
    await store.create_token(GRANT)
    await store.redeem_token("d", KEY, 1.0)
    await store.redeem_token("d", replace(KEY, serial="2"), 2.0)
    with pytest.raises(Permanent):
        await store.redeem_token("d", replace(KEY, serial="3"), 101.0)


async def test_a_name_belongs_to_one_key(store: Store) -> None:
    await store.create_token(replace(GRANT, uses=3))
    await store.redeem_token("d", KEY, 1.0)
    with pytest.raises(Conflict, match="enrolled with another key"):
        await store.redeem_token("d", replace(KEY, key_digest="stranger"), 1.0)
    await store.redeem_token("d", replace(KEY, host="g"), 1.0)
    await store.redeem_token("d", replace(KEY, host="i"), 1.0)


async def test_a_store_may_be_closed_twice(store: Store) -> None:
    await store.close()
    await store.close()
