"""Machines that fail late: a panic long after the boot, before and after the blessing, and cuts of their power."""

import pytest
from real_fleet import HOST, NEW, OLD, PANIC_ON_NMI, RealFleet, spec

from controller.domain.delivery import BootCause, BootEnd

pytestmark = pytest.mark.e2e

PANIC = "Kernel panic - not syncing: NMI: Not continuing"


def assert_reverted_because(fleet: RealFleet, *parts: str) -> None:
    """The rollout has brought the host back, and its one sentence says why."""
    ended = fleet.ended()
    assert ended.state == "reverted", ended.blocking_reason
    fleet.returns(OLD)
    sentence = fleet.explanation()
    for part in (HOST, *parts):
        assert part in sentence


def test_a_panic_during_probation_falls_back(fleet: RealFleet) -> None:
    fleet.start(spec(command_line=PANIC_ON_NMI))
    fleet.reaches(lambda host: host.step == "probation" and "swapon" in host.detail, "a probation run")
    fleet.inject_nmi()
    assert_reverted_because(fleet, "the kernel panicked", PANIC)
    assert [(boot.cause, boot.end) for boot in fleet.boots()] == [
        (BootCause.INITIAL, BootEnd.REPLACED),
        (BootCause.TRIAL, BootEnd.PANIC),
        (BootCause.FALLBACK, None),
    ]


def test_a_panic_after_the_blessing_is_seen_and_reverted(fleet: RealFleet) -> None:
    fleet.start(spec(command_line=PANIC_ON_NMI, bake_s=120.0))
    fleet.steps_to("bake")
    fleet.inject_nmi()
    assert_reverted_because(fleet, "the kernel panicked", PANIC)
    boots = fleet.boots()
    assert [boot.cause for boot in boots[:2]] == [BootCause.INITIAL, BootCause.TRIAL]
    assert boots[1].end is BootEnd.PANIC
    # The blessed kernel is the default, so the machine first comes up under it again.
    assert (boots[-1].cause, boots[-1].kernel) == (BootCause.REVERT, boots[0].kernel)
    assert len(boots) <= 4


def test_a_power_cut_during_probation_falls_back(fleet: RealFleet) -> None:
    fleet.start(spec())
    fleet.reaches(lambda host: host.step == "probation" and "swapon" in host.detail, "a probation run")
    fleet.cut_power()
    assert_reverted_because(fleet, "the machine reset by itself")
    assert [(boot.cause, boot.end) for boot in fleet.boots()] == [
        (BootCause.INITIAL, BootEnd.REPLACED),
        (BootCause.TRIAL, BootEnd.RESET),
        (BootCause.FALLBACK, None),
    ]


def test_a_power_cut_during_the_baseline_is_measured_again(fleet: RealFleet) -> None:
    fleet.start(spec())
    fleet.reaches(lambda host: host.step == "baseline" and "swapon" in host.detail, "a baseline run")
    fleet.cut_power()
    ended = fleet.ended()
    assert ended.state == "promoted", ended.blocking_reason
    assert [(boot.cause, boot.end) for boot in fleet.boots()] == [
        (BootCause.INITIAL, BootEnd.RESET),
        (BootCause.RESTART, BootEnd.REPLACED),
        (BootCause.TRIAL, None),
    ]
    assert dict(fleet.report()["hosts"][0]["runs"]) == {"died": 1, "ok": 2}
    assert fleet.release().startswith(f"{NEW}+")
