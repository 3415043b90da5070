"""When a rehearsal counts: another boot, and a proof that was not there before."""

from dataclasses import replace
from typing import Any

import pytest
from engine_parts import host
from own_boot import own_boot

from controller.domain.hosts.host import Host
from controller.views.hosts.listing import host_view
from controller.views.hosts.rehearsing import FAILED, LOST, PROVEN, objection, overdue, settled
from controller.views.models import HostView


def seen(boot_id: str, **boot: Any) -> HostView:
    known: Host = replace(host("a"), boot_id=boot_id, connected=True, boot=own_boot(**boot))
    return host_view(known)


BEFORE = seen("one", proven_at=None, boots_by="")
PROVEN_BEFORE = seen("one", proven_at=5.0)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (BEFORE, BEFORE),
        # The proof is of the boot that is still to come.
        (BEFORE, seen("one", proven_at=9.0)),
        (BEFORE, seen("two", proven_at=None, boots_by="")),
        # That of an earlier rehearsal.
        (PROVEN_BEFORE, seen("two", proven_at=5.0)),
        (BEFORE, replace(seen("two"), boot=None)),
        # It failed before, and has not come back yet.
        (BEFORE, seen("one", proven_at=None, boots_by="", rehearsal_failed="nothing was cleared")),
    ],
)
def test_nothing_is_settled_before_the_next_boot_shows_it(before: HostView, now: HostView) -> None:
    assert settled(before, now) is None


def test_a_newer_proof_under_another_boot_counts_whatever_the_hosts_clock_says() -> None:
    for before in (BEFORE, PROVEN_BEFORE):
        found = settled(before, seen("two", proven_at=3.0))
        assert found is not None
        assert (found.outcome, found.proven_at) == (PROVEN, 3.0)
        assert found.boots_by == "loader 537087644082, firmware SeaBIOS 1.16"


def test_a_rehearsal_that_failed_is_told_at_once() -> None:
    found = settled(BEFORE, seen("two", proven_at=None, boots_by="", rehearsal_failed="nothing was cleared"))
    assert found is not None
    assert (found.outcome, found.sentence) == (FAILED, "it came back, and nothing was cleared")
    assert found.is_trouble


def test_what_is_overdue_is_told_by_how_far_it_came() -> None:
    lost = overdue(BEFORE, BEFORE, wait_s=900.0, said="cannot be reached")
    assert lost.outcome == LOST
    assert lost.sentence.startswith("not heard of under another boot for 15 min: look at its console")
    assert lost.sentence.endswith("(its reboot said: cannot be reached)")
    back = overdue(BEFORE, seen("two", proven_at=None, boots_by=""), wait_s=900.0, said="")
    assert (back.outcome, "systemctl status kernroll-guard" in back.sentence) == (FAILED, True)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (None, "has not enrolled: `kernroll hosts enroll -i INVENTORY --limit a`"),
        (replace(BEFORE, rollout="trial", step="bake"), "trial holds it, at bake: wait until that has ended"),
        (replace(BEFORE, connected=False), "its agent is not connected"),
        (replace(BEFORE, boot=None), "does not tell what it boots"),
    ],
)
def test_hosts_that_must_not_go_down_are_named_with_what_to_do(known: HostView | None, words: str) -> None:
    assert words in objection("a", known)
    assert objection("a", BEFORE) == ""
