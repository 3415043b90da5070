"""The hosts of one world and what is counted about them: who is down, what runs where, how often it booted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from controller.adapters.delivery.hypervisor.records import BootEnded, BootStarted
from controller.domain.hosts.host import Host
from controller.domain.record.control import RestOpened
from controller.domain.record.events import WaveOpened
from controller.domain.record.verdicts import WaveJudged
from controller.domain.spec.document import Limits
from controller.domain.spec.margins import margins_of
from controller.sim.hosts.agent import Agent
from controller.sim.hosts.fates import Fate, fate_of
from controller.sim.hosts.fleet import by_stratum, old_kernel
from controller.sim.hosts.link import Link
from controller.sim.hosts.machine import Machine
from controller.sim.process import ControllerProcess
from controller.views.simulation import SimulatedWaveView, SimulationView

if TYPE_CHECKING:
    from controller.sim.simulation import Simulation

_USUAL_BOOT_S: Final = 60.0
_USUAL_STAGE_S: Final = 30.0
_SHARE_OF_TIMEOUT: Final = 0.4
_BROKEN: Final = (
    "panics_at_boot",
    "resets_at_boot",
    "hangs_at_boot",
    "dies_after_s",
    "hangs_after_s",
    "oopses_after_s",
    "kills_workloads",
)


class Inhabitants:
    """All hosts, each with machine, agent and link."""

    def __init__(self, world: "Simulation", facts: Sequence[Host]) -> None:
        self._world = world
        case, universe = world.case, world.universe
        limits: Limits = case.spec.limits
        # Without a timeout of the spec's own the engine's default is long.
        boot_s = min(_USUAL_BOOT_S, _SHARE_OF_TIMEOUT * (limits.boot_timeout_s or 10 * _USUAL_BOOT_S))
        self.stage_s = min(_USUAL_STAGE_S, _SHARE_OF_TIMEOUT * limits.stage_timeout_s)
        self.strata = by_stratum(facts)
        self.fates: dict[str, Fate] = {}
        self.machines: dict[str, Machine] = {}
        self.agents: dict[str, Agent] = {}
        self._down: set[str] = set()
        self._most_down = 0
        self._boots = 0
        self._since: dict[str, float] = {}
        self._bad_s = 0.0
        world.witness.spooled = lambda host, report_id: self.agents[host].spool.get(report_id)
        margins = margins_of(case.spec)
        self._worse = world.measures.regressions(margins, tuple(self.strata))
        self._worse_strata = {stratum for stratum, _ in self._worse}
        for host in facts:
            fate = fate_of(case.faults, case.seed, host.name, host.stratum)
            machine = Machine(universe, host.name, fate, old=old_kernel(host), boot_s=boot_s)
            agent = Agent(universe, host, fate, machine=machine, measures=world.measures)
            agent.on_acknowledged = world.witness.acknowledged
            agent.link = Link(universe, host.name, fate, case.faults.network, listener=lambda: world.leader)
            self.fates[host.name] = fate
            self.machines[host.name] = machine
            self.agents[host.name] = agent
            self._wire(host, machine, agent)

    def _wire(self, host: Host, machine: Machine, agent: Agent) -> None:
        world, name, original = self._world, host.name, old_kernel(host).digest

        def started(record: BootStarted) -> None:
            world.witness.booted(name, record, original=original)
            if world.uid:
                self._boots += 1
            if record.kernel != original and self.is_bad(name, host.stratum):
                self._since[name] = world.universe.now()

        def ended(_record: BootEnded) -> None:
            self._down.add(name)
            if world.uid:
                self._most_down = max(self._most_down, len(self._down))
            if name in self._since:
                self._bad_s += world.universe.now() - self._since.pop(name)
            agent.stopped()
            world.ended_boot(name)

        def is_up(number: int) -> None:
            self._down.discard(name)
            agent.started(number)

        machine.on_started, machine.on_ended, machine.on_up = started, ended, is_up

    def is_bad(self, name: str, stratum: str) -> bool:
        """Return whether the new kernel is truly worse on this host: broken, or in a stratum where it regresses."""
        return stratum in self._worse_strata or self._is_broken(self.fates[name])

    def _is_broken(self, fate: Fate) -> bool:
        return any(getattr(fate, name) not in (False, None) for name in _BROKEN)

    def switch_on(self) -> None:
        """Let every machine run."""
        for machine in self.machines.values():
            machine.switch_on()

    def all_connected(self, process: ControllerProcess) -> bool:
        """Return whether every agent has a stream to this controller."""
        hosts = process.engine.world.hosts
        return len(hosts) == len(self.agents) and all(host.connected for host in hosts.values())

    def kernel_side(self, name: str) -> tuple[str, str, str, str]:
        """Return a machine's kernels: at the beginning, by default, running, armed."""
        machine = self.machines[name]
        status = machine.status()
        return machine.old.digest, status.default, status.running or "", status.armed or ""

    def ending(self) -> dict[str, tuple[str, str, str, int]]:
        """Return where every host is in the end: its step, its default kernel, what runs, how often it booted."""
        attempts = self._world.witness.seen.attempts[self._world.uid]
        found = {}
        for name, machine in self.machines.items():
            step = attempts[name].step.value if name in attempts else ""
            found[name] = (step, machine.state.default, machine.running, machine.number)
        return found

    def outcome(self, duration_s: float) -> SimulationView:
        """Return what the run came to."""
        world = self._world
        now = world.universe.now()
        rollout = world.witness.seen.rollouts[world.uid]
        attempts = world.witness.seen.attempts[world.uid]
        steps: dict[str, int] = {}
        for attempt in attempts.values():
            steps[attempt.step.value] = steps.get(attempt.step.value, 0) + 1
        return SimulationView(
            seed=world.case.seed,
            hosts=len(self.agents),
            state=rollout.state.value,
            reason=rollout.reason,
            duration_s=duration_s,
            waves=self._waves(),
            steps=dict(sorted(steps.items())),
            boots=self._boots,
            most_unavailable=self._most_down,
            bad_kernel_host_s=self._bad_s + sum(now - since for since in self._since.values()),
            events=world.witness.events,
            incidents=dict(sorted(world.incidents.items())),
            true_regressions=self._worse,
            broken_hosts=sum(self._is_broken(fate) for fate in self.fates.values()),
            breaches=tuple(str(breach) for breach in world.witness.breaches),
        )

    def _waves(self) -> tuple[SimulatedWaveView, ...]:
        world = self._world
        rollout = world.witness.seen.rollouts[world.uid]
        began = rollout.started_at or 0.0
        waves = [SimulatedWaveView(hosts=len(rollout.waves[0]), opened_s=0.0)]
        for logged in world.disk.log:
            event = logged.event
            if isinstance(event, WaveJudged):
                waves[-1] = replace(waves[-1], judged_s=event.at - began, decision=event.decision)
            elif isinstance(event, WaveOpened):
                waves.append(SimulatedWaveView(hosts=len(rollout.waves[event.wave]), opened_s=event.at - began))
            elif isinstance(event, RestOpened):
                # They are open at once, and judged together.
                opened = rollout.waves[len(waves) :]
                waves += [SimulatedWaveView(hosts=len(wave), opened_s=event.at - began) for wave in opened]
        return tuple(waves)
