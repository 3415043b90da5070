"""A fleet in memory whose one host's power may be cut, and a management controller that does as it is told to."""

from typing import Any

from simulated_fleet import SPEC, UID, Faults, Simulation

from controller.domain.record.actions.power_cycles import CycleOutcome, PowerCycleBegun, PowerCycled, PowerSeen
from controller.domain.record.effects import CyclePower, Effect
from controller.domain.record.events import CommandState, HostSilent
from controller.domain.record.journey import Step
from controller.domain.record.names import Key

ONCE = SPEC.replace("    revert_timeout: 90s\n", "    revert_timeout: 90s\n    power_cycle: once\n")
SEEN = PowerSeen(controller="ipmi://bmc-a", on=True, says=("Processor | IERR | Asserted",))
# A host that nothing is heard of under the new kernel, and one that falls silent and does not come back.
UNHEARD = {
    Step.FALLBACK: Faults(unanswered="hello"),
    Step.REVERTING: Faults(silent_in=Step.PROBATION, measurements=[CommandState.COMPLETED], never_returns=True),
}


class PowerCut(Simulation):
    """See Simulation."""

    def __init__(
        self,
        faults: Faults,
        *,
        outcome: CycleOutcome = CycleOutcome.DONE,
        helps: bool = True,
        after_s: float = 2.0,
        spec: str = ONCE,
    ) -> None:
        super().__init__(
            [["a"]], {"a": Faults(**{**vars(faults), "measurements": list(faults.measurements)})}, spec=spec
        )
        self.outcome = outcome
        # Whether the host boots its default kernel once its power is back.
        self.helps = helps
        self.after_s = after_s
        self.orders: list[CyclePower] = []

    @property
    def attempt(self) -> Any:
        """The host's attempt."""
        return self.world.attempts[UID]["a"]

    def _perform(self, effect: Effect) -> None:
        if not isinstance(effect, CyclePower):
            super()._perform(effect)
            return
        self.orders.append(effect)
        command_id = effect.command_id
        if self.outcome in (CycleOutcome.DONE, CycleOutcome.UNKNOWN):
            self.tell(1.0, "a", lambda: PowerCycleBegun(at=self.now, command_id=command_id, seen=SEEN))
        detail = "" if self.outcome is CycleOutcome.DONE else "as simulated"
        self.tell(
            self.after_s,
            "a",
            lambda: PowerCycled(at=self.now, command_id=command_id, outcome=self.outcome, detail=detail),
        )
        if self.helps and self.outcome is not CycleOutcome.REFUSED:
            self.later(self.after_s, self._power_is_back)

    def _power_is_back(self) -> None:
        host = self.hosts["a"]
        host.running, host.silenced = host.default, False
        host.boots += 1
        self.record(Key(UID, "a"), HostSilent(at=self.now))
        self._hear(host, 10.0)
