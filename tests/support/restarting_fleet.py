"""A simulated fleet under a controller that comes and goes, and what must hold whatever happens."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace

from simulated_fleet import NEW, OLD, UID, SimulatedHost, Simulation

from controller.domain.advance_attempt import resumed
from controller.domain.advance_rollout import holds_budget
from controller.domain.delivery import BootEnd
from controller.domain.effects import (
    AcknowledgeBoot,
    ArmKernel,
    BlessKernel,
    Effect,
    RebootHost,
    RevertKernel,
    RunWorkload,
    StageKernel,
)
from controller.domain.events import (
    AttemptEvent,
    CommandReported,
    DeliveryReported,
    HostHeard,
    HostSilent,
    RunReported,
    TrialEnded,
)
from controller.domain.journey import Role, Step
from controller.domain.rollout import FOLLOWING, State
from controller.services.world import Key, folded

_VERBS: dict[type, str] = {
    StageKernel: "stage",
    ArmKernel: "arm",
    RebootHost: "reboot",
    BlessKernel: "bless",
    RevertKernel: "revert",
}
_RECONNECT_S = 2.0


@dataclass(kw_only=True)
class Machine:
    """What a host's supervisor and agent know without the controller."""

    # Whether the agent of the present boot is up.
    up: bool = True
    # The conditions of the armed boot, and whether the present trial was acknowledged and blessed.
    boot_timeout_s: float = 0.0
    probation_timeout_s: float = 0.0
    acknowledged: bool = False
    blessed: bool = False
    # How the newest trial ended by itself.
    ended: TrialEnded | None = None


class RestartingFleet(Simulation):
    """Hosts fall back by themselves; the controller may be away; invariants are checked after every settling."""

    def __init__(self, waves: list[list[str]], *arguments: object, **named: object) -> None:
        self.machines = {name: Machine() for wave in waves for name in wave}
        self.asked: dict[str, Effect] = {}
        self.answered: set[str] = set()
        self.away_until: float | None = None
        super().__init__(waves, *arguments, **named)  # type: ignore[arg-type]  # passed on as they are

    # --- the world without the controller ---

    def tell(self, delay_s: float, host: str, make: Callable[[], AttemptEvent]) -> None:
        """Let the controller learn something later: reports wait for its return, the rest is seen again then."""
        boot = self.hosts[host].boots

        def act() -> None:
            event = make()
            if isinstance(event, RunReported | CommandReported) and self.away_until is not None:
                self.later(self.away_until - self.now + _RECONNECT_S + 1.0, act)
            elif isinstance(event, HostHeard):
                if boot == self.hosts[host].boots:
                    self.machines[host].up = True
                    self._connect(host)
            elif self.away_until is None:
                self._learn(host, event)

        self.later(delay_s, act)

    def _learn(self, name: str, event: AttemptEvent) -> None:
        if self.world.active.get(name) != UID or self.away_until is not None:
            return
        if self.hosts[name].silenced and isinstance(event, RunReported | CommandReported):
            return
        if isinstance(event, DeliveryReported):
            self.answered.add(event.command_id)
        if isinstance(event, TrialEnded) and self.world.attempts[UID][name].trial is not None:
            return
        self.record(Key(UID, name), event)

    def _connect(self, name: str) -> None:
        """The agent says Hello, if it is up and there is somebody to hear it."""
        host = self.hosts[name]
        if self.away_until is not None or host.silenced or not self.machines[name].up:
            return
        self.world.see(self._host(name))
        self.world.mark_host(name)
        self._learn(name, HostHeard(at=self.now, boot_id=host.boot_id, release=host.release))

    def _reboot(self, host: SimulatedHost, command_id: str) -> None:
        machine = self.machines[host.name]
        machine.up, machine.acknowledged, machine.blessed, machine.ended = False, False, False, None
        on_trial = bool(host.armed)
        host.silenced = False
        super()._reboot(host, command_id)
        if on_trial:
            self._expire(host, machine.boot_timeout_s, BootEnd.NOT_ACKNOWLEDGED, lambda: not machine.acknowledged)

    def _expire(self, host: SimulatedHost, after_s: float, end: BootEnd, overdue: Callable[[], bool]) -> None:
        boot = host.boots

        def act() -> None:
            if host.boots == boot and overdue():
                self._end_trial(host, end, 0.0)

        self.later(after_s, act)

    def _end_trial(self, host: SimulatedHost, end: BootEnd, delay_s: float) -> None:
        machine, boot, command = self.machines[host.name], host.boots, host.trial_command
        started_at = self.now

        def act() -> None:
            if host.boots != boot:
                return
            machine.ended = TrialEnded(
                at=self.now, command_id=command, end=end, line="", unattended=started_at < self.resumed_at
            )
            machine.up, host.silenced = False, False
            host.running = host.default
            host.boots += 1
            self._learn(host.name, HostSilent(at=self.now))
            self._learn(host.name, machine.ended)
            if not host.faults.never_returns:
                self._hear(host, host.faults.returns_after_s)

        self.later(delay_s, act)

    def _return(self, host: SimulatedHost, kernel: str) -> None:
        machine = self.machines[host.name]
        on_trial = host.running == kernel and host.default != kernel
        if host.running != kernel or on_trial:
            machine.up = False
            self._learn(host.name, HostSilent(at=self.now))
        super()._return(host, kernel)

    # --- what is asked of it ---

    def _perform(self, effect: Effect) -> None:
        known = self.asked.setdefault(effect.command_id, effect)
        assert known == effect, f"{effect.command_id} names two effects: {known} and {effect}"
        attempt = self.world.attempts[UID][effect.host]
        assert attempt.step is not Step.PENDING, f"{effect.host} is touched before its turn"
        host, machine = self.hosts[effect.host], self.machines[effect.host]
        verb = _VERBS.get(type(effect))
        if effect.command_id in host.done:
            if verb is not None and effect.command_id not in self.answered:
                self._answer(host, effect, verb)
            return
        if isinstance(effect, ArmKernel):
            machine.boot_timeout_s, machine.probation_timeout_s = effect.boot_timeout_s, effect.probation_timeout_s
        super()._perform(effect)
        if isinstance(effect, AcknowledgeBoot) and not machine.acknowledged:
            machine.acknowledged = True
            overdue_s = machine.probation_timeout_s
            self._expire(host, overdue_s, BootEnd.NOT_BLESSED, lambda: not machine.blessed)
        if isinstance(effect, BlessKernel) and host.default == host.running:
            machine.blessed = True

    # --- the controller comes and goes ---

    resumed_at = 0.0

    def restart(self, away_s: float) -> None:
        """Kill the controller between two decisions, and start another one later: it has the log and the outbox."""
        self.check_replay()
        self.away_until = end = self.now + away_s
        while self._agenda and self._agenda[0][0] <= end:
            self.now = max(self.now, self._agenda[0][0])
            heapq.heappop(self._agenda)[2]()
        self.now, self.away_until, self.resumed_at = end, None, end
        hosts = {name: replace(self._host(name), connected=False) for name in self.hosts}
        self.world = folded(((key.stream, event) for key, event in self.log), hosts)
        for name in self.world.active_hosts():
            attempt = self.world.attempts[UID][name]
            if attempt.in_flight or attempt.step is Step.DONE:
                self.record(Key(UID, name), resumed(attempt, self.rollout.policy, self.now))
        for name, effects in self.outstanding.items():
            for effect in effects.values():
                waits = not isinstance(effect, RunWorkload) and effect.command_id not in self.answered
                if waits and self.world.active.get(name) == UID:
                    self._perform(effect)
        for name, machine in self.machines.items():
            if machine.ended is not None:
                self._learn(name, machine.ended)
            self.later(_RECONNECT_S, lambda name=name: self._connect(name))  # type: ignore[misc]  # bound now

    def operate(self, state: State) -> None:
        """The operator asks for this state, if it may follow."""
        if state in FOLLOWING[self.rollout.state]:
            {State.ABORTING: self.abort, State.REVERTING: self.revert}[state]()

    # --- what must hold ---

    def settle(self) -> None:
        """Decide until nothing is due, then look whether everything is as it must be."""
        super().settle()
        rollout, tally = self.rollout, self.world.tallies[UID]
        assert holds_budget(rollout, tally), f"{tally.slots} slots, {rollout.policy.max_in_flight} allowed"
        if rollout.ended:
            assert not tally.in_flight, f"{rollout.state} with hosts in flight"
            assert not self.world.active, f"{rollout.state} holds {self.world.active}"

    def check_replay(self) -> None:
        """The log alone says what memory says."""
        again = folded(((key.stream, event) for key, event in self.log), self.world.hosts)
        for part in ("rollouts", "attempts", "tallies", "active"):
            assert getattr(again, part) == getattr(self.world, part), f"{part} differ after a replay"

    def check_end(self) -> None:
        """An ended rollout leaves every host where its state says."""
        rollout, attempts = self.rollout, self.world.attempts[UID]
        self.check_replay()
        for name, host in self.hosts.items():
            step = attempts[name].step
            if step in (Step.REVERTED, Step.SKIPPED):
                assert (host.default, host.running) == (OLD, OLD), f"{name} is {step} and runs {host.running}"
                assert not host.armed, f"{name} is {step} and would boot {host.armed} next"
            if step is Step.SKIPPED:
                assert host.boots == 1, f"{name} was booted and counts as skipped"
            if rollout.state in (State.REVERTED, State.REVERT_INCOMPLETE):
                # Only an abort that lost a host leaves others finished.
                stayed = step is Step.DONE and rollout.revert_asked_at is None
                back = step in (Step.REVERTED, Step.SKIPPED, Step.LOST)
                assert back or stayed, f"{name} is {step} after {rollout.state}"
                assert (step is Step.LOST) == (name in rollout.lost)
            if rollout.state is State.PROMOTED:
                assert step is Step.DONE
                assert attempts[name].role is not Role.TREATED or host.default == NEW
                assert attempts[name].failure is None
                assert attempts[name].silent_since is None
