"""What operators decide about the fleet: folded from events, recorded with who decided, refused with a reason."""

from dataclasses import replace
from pathlib import Path

import pytest
from engine_parts import STARTED, UID, Parts, host, planned

from controller.adapters.store.codec import decode_event, encode
from controller.adapters.store.sql import sqlite_store
from controller.domain.caller import Caller
from controller.domain.errors import Conflict, InvalidInput, KernrollError, NotFound
from controller.domain.fleet.decided import Denial, Fleet, concerned, evolve_fleet
from controller.domain.kernels import Kernel
from controller.domain.record.fleet import (
    FleetEvent,
    FleetFrozen,
    FleetThawed,
    HostLabelled,
    HostQuarantined,
    HostReleased,
    InventoryImported,
    KernelCleared,
    KernelDenied,
)
from controller.domain.record.names import FLEET, FLEET_STREAM, Key, key_of_stream
from controller.domain.state.occupancy import Occupancy
from controller.services.records import Commit
from controller.services.state.world import folded

OLGA, IVAN = Caller("olga"), Caller("ivan")
EVENTS: tuple[FleetEvent, ...] = (
    HostLabelled(at=1.0, by="olga", host="a", labels={"zone": "b", "rack": "r1"}),
    HostLabelled(at=2.0, by="olga", host="a", labels={"tier": "db"}, removed=("rack",)),
    InventoryImported(at=3.0, by="olga", inventory="site", hosts={"a": {"zone": "c", "row": "7"}, "b": {"zone": "c"}}),
    HostQuarantined(at=4.0, by="olga", host="b", remark="memory errors"),
    KernelDenied(at=5.0, by="olga", kernel="7.1.12", reason="corrupts"),
    KernelDenied(at=6.0, by="olga", kernel="7.1.12", reason="corrupts", where='arch == "arm64"'),
    FleetFrozen(at=7.0, by="olga", remark="incident", until=100.0),
)
KERNEL = Kernel(digest="3f9a0c6d21be" + "0" * 52, release="7.1.13+deb13-cloud-amd64", architecture="x86_64", source="")


def after(*events: FleetEvent) -> Fleet:
    fleet = Fleet()
    for event in events:
        fleet = evolve_fleet(fleet, event)
    return fleet


def test_labels_lie_over_each_other() -> None:
    fleet = after(*EVENTS)
    one = replace(host("a"), labels={"zone": "agent", "os": "debian", "row": "agent"})
    assert fleet.labels_of(one) == {"zone": "b", "os": "debian", "row": "7", "tier": "db"}
    taken_back = evolve_fleet(fleet, HostLabelled(at=8.0, by="olga", host="a", removed=("zone", "tier")))
    assert taken_back.labels_of(one) == {"zone": "c", "os": "debian", "row": "7"}
    assert fleet.labels_of(host("stranger")) == {}


def test_a_new_import_replaces_what_its_inventory_said_and_no_other() -> None:
    other = InventoryImported(at=3.5, by="olga", inventory="elsewhere", hosts={"x": {"zone": "z"}})
    again = InventoryImported(at=8.0, by="olga", inventory="site", hosts={"b": {}})
    fleet = after(*EVENTS, other, again)
    assert {name: (one.inventory, one.labels) for name, one in fleet.expected.items()} == {
        "x": ("elsewhere", {"zone": "z"}),
        "b": ("site", {}),
    }


def test_a_quarantine_ends_with_its_release() -> None:
    fleet = after(*EVENTS)
    assert fleet.quarantined["b"].remark == "memory errors"
    assert evolve_fleet(fleet, HostReleased(at=8.0, by="olga", host="b")).quarantined == {}


def test_a_denial_is_cleared_with_its_expression_or_with_all_of_its_kernel() -> None:
    fleet = after(*EVENTS)
    assert [one.where for one in fleet.denials] == ["", 'arch == "arm64"']
    one = evolve_fleet(fleet, KernelCleared(at=8.0, by="olga", kernel="7.1.12", where='arch == "arm64"'))
    assert [one.where for one in one.denials] == [""]
    assert evolve_fleet(fleet, KernelCleared(at=8.0, by="olga", kernel="7.1.12")).denials == ()
    assert evolve_fleet(fleet, KernelCleared(at=8.0, by="olga", kernel="7.1.1")).denials == fleet.denials
    # The same rule again is the same rule, with a newer reason.
    again = evolve_fleet(fleet, KernelDenied(at=9.0, by="ivan", kernel="7.1.12", reason="still does"))
    assert [(one.where, one.reason) for one in again.denials] == [
        ('arch == "arm64"', "corrupts"),
        ("", "still does"),
    ]


@pytest.mark.parametrize(
    ("written", "meets"),
    [
        ("3f9a0c6d21be", True),
        (KERNEL.digest, True),
        ("3f9a0c6d21bf", False),
        ("7.1.13", True),
        ("7.1.1", False),
        ("7.1", False),
        ("7.1.*", True),
        ("*-cloud-amd64", True),
        ("7.1.13+deb13-cloud-amd64", True),
        ("7.1.13+deb13-amd64", False),
    ],
)
def test_a_rule_names_a_kernel_by_digest_version_or_pattern(written: str, meets: bool) -> None:
    assert Denial(kernel=written, where="", reason="", at=0.0, by="").meets(KERNEL) is meets


def test_a_freeze_holds_until_its_time_or_a_thaw() -> None:
    fleet = after(*EVENTS)
    assert fleet.frozen(99.9) is not None
    assert fleet.frozen(100.0) is None
    assert evolve_fleet(fleet, FleetThawed(at=8.0, by="olga")).frozen(9.0) is None
    assert after(FleetFrozen(at=7.0, by="olga", remark="x")).frozen(1e12) is not None


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_the_log_gives_every_event_back(event: FleetEvent) -> None:
    assert decode_event(type(event).__name__, encode(event)) == event


async def test_a_restart_folds_the_same_fleet(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "kernroll.db")
    await store.open()
    for revision, event in enumerate(EVENTS):
        await store.commit(Commit(stream=FLEET_STREAM, expected_revision=revision, events=(event,)))
    loaded = await store.load()
    await store.close()
    world = folded([(one.stream, one.event) for one in loaded.events], {})
    assert world.fleet == after(*EVENTS)
    assert world.revision(FLEET) == len(EVENTS)
    assert key_of_stream(FLEET.stream) == FLEET


async def parts() -> Parts:
    found = await Parts().start()
    await found.connect("a")
    return found


async def test_every_decision_is_one_event_with_the_operators_name() -> None:
    found = await parts()
    fleet = found.operations.fleet
    labels = await fleet.label("a", {"zone": "b"}, (), OLGA)
    assert labels.labels == {"zone": "b"}
    await fleet.quarantine("a", "memory errors", OLGA)
    await fleet.release("a", "", IVAN)
    await fleet.deny("7.1.12", "", "corrupts", OLGA)
    await fleet.allow("7.1.12", None, "fixed", IVAN)
    await fleet.freeze("incident", None, OLGA)
    view = await fleet.thaw("over", IVAN)
    assert [(type(one.event).__name__, getattr(one.event, "by", "")) for one in found.disk.log] == [
        ("HostLabelled", "olga"),
        ("HostQuarantined", "olga"),
        ("HostReleased", "ivan"),
        ("KernelDenied", "olga"),
        ("KernelCleared", "ivan"),
        ("FleetFrozen", "olga"),
        ("FleetThawed", "ivan"),
    ]
    assert {one.stream for one in found.disk.log} == {"fleet"}
    assert (view.freeze, view.quarantined, view.denials) == (None, (), ())
    assert (view.enrolled, view.connected) == (1, 1)
    assert found.operations.host("a").labels == {"zone": "b"}
    assert found.operations.host("a").facts.labels == {}


async def test_what_contradicts_the_present_state_is_refused_and_not_recorded() -> None:
    found = await parts()
    fleet = found.operations.fleet
    await fleet.quarantine("a", "memory errors", OLGA)
    await fleet.label("a", {"zone": "b"}, (), OLGA)
    await fleet.deny("7.1.12", 'arch == "arm64"', "hangs", OLGA)
    recorded = len(found.disk.log)
    refusals: list[tuple[object, type[KernrollError], str]] = [
        (
            fleet.label("z", {"zone": "b"}, (), OLGA),
            NotFound,
            "no host z has enrolled and no inventory names it",
        ),
        (
            fleet.label("a", {}, ("rack",), OLGA),
            NotFound,
            "no label rack that was set by hand; those that",
        ),
        (fleet.label("a", {}, (), OLGA), InvalidInput, "no label is given"),
        (fleet.label("a", {"-zone": "b"}, (), OLGA), InvalidInput, "label '-zone': a name has letters"),
        (fleet.label("a", {"zone": "b\n"}, (), OLGA), InvalidInput, "a value is one line"),
        (fleet.quarantine("a", "again", IVAN), Conflict, "quarantined already, by olga: memory errors"),
        (fleet.quarantine("z", "why", IVAN), NotFound, "no host z has enrolled"),
        (fleet.quarantine("a", " ", IVAN), InvalidInput, "the remark is empty"),
        (fleet.release("b", "", IVAN), Conflict, "b is not quarantined"),
        (fleet.deny("*", "", "all", IVAN), InvalidInput, "would deny every kernel"),
        (fleet.deny("7.1 12", "", "odd", IVAN), InvalidInput, "must be a digest"),
        (fleet.allow("7.1.1", None, "", IVAN), NotFound, "no rule denies 7.1.1;"),
        (fleet.allow("7.1.12", "", "", IVAN), NotFound, "no rule denies 7.1.12 with that expression"),
        (fleet.freeze("late", 1000.0, IVAN), InvalidInput, "its end must be ahead"),
        (fleet.thaw("", IVAN), Conflict, "the fleet is not frozen"),
    ]
    for call, kind, words in refusals:
        with pytest.raises(kind, match=words.replace("(", r"\(")):
            await call  # type: ignore[misc]  # they return different views
    assert len(found.disk.log) == recorded


async def test_the_beginning_of_a_digest_must_name_one_kernel() -> None:
    found = await parts()
    one, other = "a" * 12 + "1" * 52, "a" * 12 + "2" * 52
    for digest in (one, other):
        await found.operations.fleet.deny(digest, "", "bad", OLGA)
    with pytest.raises(Conflict, match="begins the digests of 2 denied kernels"):
        await found.operations.fleet.allow("a" * 12, None, "fine", OLGA)
    view = await found.operations.fleet.allow("a" * 12 + "1", None, "fine", OLGA)
    assert [denial.kernel for denial in view.denials] == [other]


async def test_a_decision_makes_every_unfinished_rollout_look_again() -> None:
    found = await parts()
    await found.operations.fleet.freeze("incident", found.clock.at + 60.0, OLGA)
    await found.engine.record(Key(UID), lambda: (planned(), STARTED))
    await found.engine.settle()
    assert not found.engine.world.dirty
    await found.operations.fleet.quarantine(next(iter(found.engine.world.hosts)), "bad memory", OLGA)
    assert Key(UID) in found.engine.world.dirty
    await found.engine.settle()
    # And again when the freeze is over by itself.
    found.engine.world.mark_due(found.clock.at + 60.0)
    assert Key(UID) in found.engine.world.dirty


async def test_a_decision_about_one_host_leaves_the_others_alone() -> None:
    found = await parts()
    await found.connect("b")
    await found.engine.record(Key(UID), lambda: (planned(("a", "b")), STARTED))
    await found.engine.settle()
    await found.operations.fleet.label("a", {"zone": "z"}, (), OLGA)
    assert set(found.engine.world.dirty) == {Key(UID), Key(UID, "a")}


def away(occupancy: Occupancy, zone: str) -> int:
    return len(occupancy._away.get(("zone", zone), ()))


async def test_labels_of_an_import_count_in_the_budget_and_stop_counting_with_it() -> None:
    found = await parts()
    fleet, occupancy = found.operations.fleet, found.engine.world.occupancy
    await found.sessions.disconnected(await found.connect("a"))
    await fleet.import_inventory("site", {"a": {"zone": "z"}}, OLGA, dry_run=False)
    assert away(occupancy, "z") == 1
    await fleet.import_inventory("site", {"b": {"zone": "z"}}, OLGA, dry_run=False)
    assert away(occupancy, "z") == 0
    await fleet.label("a", {"zone": "y"}, (), OLGA)
    assert away(occupancy, "y") == 1


async def test_an_import_leaves_hosts_that_could_not_be_read_as_they_were() -> None:
    found = await parts()
    fleet = found.operations.fleet
    before = {"a": {"zone": "z"}, "b": {"zone": "z"}, "c": {}}
    await fleet.import_inventory("site", before, OLGA, dry_run=False)
    await fleet.import_inventory("other", {"d": {"zone": "d"}}, OLGA, dry_run=False)
    kept = ("a", "d", "unknown")
    view = await fleet.import_inventory("site", {"b": {"zone": "y"}}, OLGA, kept=kept, dry_run=False)
    assert [(one.host, one.what) for one in view.changes] == [("b", "changed"), ("c", "removed")]
    expected = {host: one.labels for host, one in found.engine.world.fleet.expected.items()}
    assert expected == {"a": {"zone": "z"}, "b": {"zone": "y"}, "d": {"zone": "d"}}


def test_every_event_says_whom_it_is_about() -> None:
    fleet = after(*EVENTS)
    again = InventoryImported(at=8.0, by="olga", inventory="site", hosts={"c": {}})
    assert concerned(fleet, again) == ["a", "b", "c"]
    assert [concerned(fleet, event) is None for event in EVENTS] == [False, False, False, False, True, True, True]
