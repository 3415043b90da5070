"""The counts that decisions are made from."""

from dataclasses import replace

from simulated_fleet import UID, Simulation

from controller.domain.attempt import planned_attempt
from controller.domain.events import Failure, FailureKind, PlannedHost
from controller.domain.tally import Tally, tally_moved


def test_failures_that_condemn_are_never_crowded_out() -> None:
    rollout, tally = Simulation([["a"]]).rollout, Tally()
    attempts = [
        planned_attempt(
            PlannedHost(host=f"h{n}", stratum="s", architecture="x86_64"), rollout="r", uid=UID, wave=0, position=n
        )
        for n in range(150)
    ]
    for attempt in attempts:
        kind = FailureKind.PANIC if attempt is attempts[-1] else FailureKind.INFRASTRUCTURE
        failed = replace(attempt, failure=Failure(kind=kind, sentence="it broke"), failed_at=1.0)
        tally = tally_moved(tally, None, attempt, rollout)
        tally = tally_moved(tally, attempt, failed, rollout)
    assert len(tally.failures) == 100
    assert tally.broken == 149
    assert (tally.failures[0].host, tally.failures[0].condemns) == ("h149", True)
