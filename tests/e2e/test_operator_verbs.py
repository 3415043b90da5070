"""What an operator asks for in the middle or afterwards: abort and revert on real VMs."""

import pytest
from real_fleet import NEW, OLD, RealFleet, spec

from controller.domain.delivery import BootCause, BootEnd
from controller.domain.record.control import Verb

pytestmark = pytest.mark.e2e


def test_abort_during_probation_brings_the_host_back(fleet: RealFleet) -> None:
    fleet.start(spec(repetitions=3))
    fleet.steps_to("probation")
    with fleet.client() as client:
        client.control_rollout("trial", Verb.ABORT, "enough seen")
    ended = fleet.ended()
    assert ended.state == "aborted", ended.blocking_reason
    fleet.returns(OLD)
    old, trial, back = fleet.boots()
    assert (trial.cause, trial.end, back.cause, back.end) == (
        BootCause.TRIAL,
        BootEnd.REPLACED,
        BootCause.REVERT,
        None,
    )
    assert back.kernel == old.kernel
    assert "enough seen" in fleet.explanation()


def test_revert_after_the_promotion_returns_finished_hosts(fleet: RealFleet) -> None:
    fleet.start(spec())
    assert fleet.ended().state == "promoted"
    assert fleet.release().startswith(f"{NEW}+")
    with fleet.client() as client:
        client.control_rollout("trial", Verb.REVERT, "a change of mind")
    ended = fleet.ended()
    assert ended.state == "reverted", ended.blocking_reason
    fleet.returns(OLD)
    boots = fleet.boots()
    assert [boot.cause for boot in boots] == [BootCause.INITIAL, BootCause.TRIAL, BootCause.REVERT]
    assert boots[2].kernel == boots[0].kernel
    assert "a change of mind" in fleet.explanation()
