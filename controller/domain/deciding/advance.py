"""The one decision function: a snapshot and the time in, events and effects out."""

from typing import assert_never

from controller.domain.deciding.moves import advance_attempt
from controller.domain.deciding.waves import advance_rollout
from controller.domain.state.snapshot import AttemptSnapshot, Decision, RolloutSnapshot, Snapshot


def advance(snapshot: Snapshot, now: float) -> Decision:
    """Return what is due now for one host's attempt or one rollout. Pure: same inputs, same answer.

    Call again after applying the answer, until it is empty.
    """
    match snapshot:
        case AttemptSnapshot():
            return advance_attempt(snapshot, now)
        case RolloutSnapshot():
            return advance_rollout(snapshot, now)
        case _:
            assert_never(snapshot)
