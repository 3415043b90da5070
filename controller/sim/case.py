"""What makes one simulated run: everything in it follows from these values."""

from dataclasses import dataclass

from controller.domain.spec.document import RolloutSpec
from controller.sim.faults.parse import Faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One rollout in one world."""

    seed: str
    hosts: int
    spec_yaml: str
    file_name: str
    spec: RolloutSpec
    faults: Faults
    # What an operator does with a paused rollout once no host moves any more: a verb; empty: nothing.
    then: str = ""
    # Nothing goes wrong any more after so many commits; None: no limit.
    calm_after: int | None = None
    # The controller is killed at this point of its work, counted from 1; None: it is not.
    die_at: int | None = None
