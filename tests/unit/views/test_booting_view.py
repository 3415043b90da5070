"""What a host says of its boot, on its way to an operator: nothing is lost, and lists stay small."""

from dataclasses import replace

import pytest
from engine_parts import host
from own_boot import NEW, OLD, own_boot

from controller.adapters.rpc.messages import from_message, to_message
from controller.domain.delivery import BootCause, BootRecord
from controller.domain.hosts.loader_document import read_boot
from controller.domain.hosts.loaders import BootRefusal, HostWatchdog
from controller.services.operating.hosts import find_hosts
from controller.services.state.world import World
from controller.views.hosts.listing import host_view
from controller.views.json import view_data
from controller.views.models import BootKernelView, HostView
from protos.kernroll.v1 import operator_pb2

A = replace(host("a"), boot=own_boot())


def test_it_survives_the_way_over_the_wire() -> None:
    for boot in (
        own_boot(),
        own_boot(
            proven_at=None, boots_by="", rehearsal_failed="it did not clear it", watchdog=None, withdrawn="it changed"
        ),
    ):
        view = host_view(replace(A, boot=boot))
        sent = to_message(view, operator_pb2.Host).SerializeToString()
        assert from_message(operator_pb2.Host.FromString(sent), HostView) == view


def test_a_host_without_such_a_document_shows_nothing_of_it() -> None:
    view = host_view(host("a"))
    assert view.boot is None
    message = to_message(view, operator_pb2.Host)
    assert not message.HasField("boot")
    assert from_message(message, HostView).boot is None


def test_kernels_have_names_where_the_host_tells_them() -> None:
    boot = host_view(A).boot
    assert boot is not None
    assert boot.default_kernel == boot.running_kernel == BootKernelView(digest=OLD, release="7.0.13-old")
    assert boot.armed_kernel is None
    assert [one.kernel.release for one in boot.boots] == ["", "7.1.13-new", "7.0.13-old"]
    assert [one.end for one in boot.boots] == ["replaced", "panic", ""]
    assert view_data(boot)["proven_at"] == "2026-03-01T11:36:40.000Z"


def test_only_the_newest_boots_are_told_and_none_in_lists() -> None:
    known = own_boot()
    many = tuple(BootRecord(number=one, kernel=NEW, command_id="", cause=BootCause.RESTART) for one in range(1, 13))
    one = replace(A, boot=replace(known, delivery=replace(known.delivery, boots=many)))
    shown = host_view(one).boot
    (listed,) = find_hosts(World(hosts={"a": one}), "", "boot_proven").hosts
    assert shown is not None and listed.boot is not None
    assert [record.number for record in shown.boots] == [8, 9, 10, 11, 12]
    assert (listed.boot.boots, listed.boot.refusals) == ((), known.refusals)


@pytest.mark.parametrize(
    ("where", "names", "noted"),
    [
        ("boot_proven", ["a"], "c"),
        ("!boot_proven", ["b"], "c"),
        ('"menu-waits" in boot_refusals', ["a"], "c"),
        ("boot_proven || connected", ["a", "b", "c"], ""),
    ],
)
def test_hosts_are_asked_for_by_it(where: str, names: list[str], noted: str) -> None:
    others = (replace(host("b"), boot=own_boot("b", proven_at=None, refusals=())), host("c"))
    world = World(hosts={one.name: replace(one, connected=True) for one in (A, *others)})
    found = find_hosts(world, "", where)
    assert [one.name for one in found.hosts] == names
    assert [note.split()[0] for note in found.notes] == ([noted] if noted else [])


def document(rehearsal: str, kernels: str = "{}", more: str = "") -> str:
    return f"""{{"loader": "grub", "pinned": true, "revision": 1, "default_kernel": "d", "armed_kernel": "",
        "running_kernel": "d", "boots": [], "kernels": {kernels}, "rehearsal": {rehearsal}{more}}}"""


def test_a_rehearsal_is_read_as_passed_failed_or_pending() -> None:
    begun = '{"boot_id": "b", "boots_by": "loader 1", "passed_at": %s, "failed": "%s"}'
    passed, failed = read_boot("a", document(begun % ("5.5", ""))), read_boot("a", document(begun % ("null", "why")))
    assert (passed.proven_at, passed.boots_by, passed.rehearsal_failed) == (5.5, "loader 1", "")
    assert (failed.proven_at, failed.boots_by, failed.rehearsal_failed) == (None, "", "why")
    assert read_boot("a", document("null")).rehearsal_failed == ""


def test_names_of_kernels_are_cut_to_their_bounds() -> None:
    found = read_boot("a", document("null", '{"d": "7.1\\u001b[31m", "e": 5}')).releases
    assert (found["d"].isprintable(), found["e"]) == (True, "5")


DEVICE = '{"name": "watchdog%s", "identity": "%s", "timeout_s": %s}'
GAPS = '"watchdog_gaps": [{"code": "watchdog-late", "cause": "c", "remedy": "r"}]'


@pytest.mark.parametrize(
    ("held", "opened", "timeout_s"),
    [
        ('"watchdog0"', "watchdog0 iTCO_wdt", 30),
        ('"watchdog1"', "watchdog1", 0),
        # What the kernel does not list is open all the same.
        ('"watchdog7"', "watchdog7", 0),
        ('""', "", 0),
        ("null", "", 0),
    ],
)
def test_what_a_host_says_of_its_watchdogs_is_read(held: str, opened: str, timeout_s: int) -> None:
    devices = f"[{DEVICE % (0, 'iTCO_wdt', 30)}, {DEVICE % (1, '', 'null')}]"
    told = document("null", more=f', "watchdog": {{"devices": {devices}, "held": {held}}}, {GAPS}')
    gap = BootRefusal(code="watchdog-late", cause="c", remedy="r")
    assert read_boot("a", told).watchdog == HostWatchdog(
        devices=("watchdog0 iTCO_wdt", "watchdog1"), open=opened, timeout_s=timeout_s, gaps=(gap,)
    )


def test_a_host_that_has_not_looked_for_what_is_missing_says_nothing_of_a_watchdog() -> None:
    none = '"watchdog": {"devices": [], "held": ""}'
    for more in ("", f", {none}", f', {none}, "watchdog_gaps": null', f", {GAPS}"):
        assert read_boot("a", document("null", more=more)).watchdog is None


def test_numbers_and_names_of_watchdogs_are_cut_to_their_bounds() -> None:
    device = DEVICE % (0, "x\\u001b", 1 << 70)
    found = read_boot(
        "a", document("null", more=f', "watchdog": {{"devices": [{device}], "held": "watchdog0"}}, {GAPS}')
    )
    assert found.watchdog is not None
    assert (found.watchdog.open.isprintable(), found.watchdog.timeout_s) == (True, 86_400)
    view = host_view(replace(A, boot=replace(own_boot(), watchdog=found.watchdog)))
    assert from_message(to_message(view, operator_pb2.Host), HostView) == view


def test_why_the_host_took_back_what_was_armed_is_read() -> None:
    told = document("null", more=', "withdrawn": "the image is another"')
    assert (read_boot("a", told).withdrawn, read_boot("a", document("null")).withdrawn) == ("the image is another", "")
