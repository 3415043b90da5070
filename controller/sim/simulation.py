"""One simulated world: hosts, network, controllers, operators and time, run to the end of a rollout."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final, assert_never

from controller.adapters.store.memory import Disk
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import Conflict, KernrollError, Permanent, Temporary
from controller.domain.record.checks import CheckKind, Outcome
from controller.domain.record.control import CheckReported, ChecksAsked
from controller.domain.record.events import Event, Moved, RolloutPaused
from controller.domain.record.journey import LEGS, Role, Step
from controller.domain.record.names import check_command
from controller.domain.state.rollout import Rollout, State
from controller.services.records import Commit
from controller.sim.case import Case
from controller.sim.faults.chaos import Kind, Moment, Strike, strikes_of
from controller.sim.hosts.delivery import SimulatedDelivery
from controller.sim.hosts.fleet import SimulatedKernels, groups_of, hosts_of
from controller.sim.hosts.inhabitants import Inhabitants
from controller.sim.hosts.measures import Measures
from controller.sim.hosts.monitoring import SimulatedMonitoring
from controller.sim.hosts.outlets import Outlets, SimulatedPower
from controller.sim.hosts.places import Cluster, SimulatedPlaces
from controller.sim.operators import BY, AnyRequest, CheckRequest, Draw, drawn_request, operate, plain_request
from controller.sim.process import ControllerProcess, SkewedClock
from controller.sim.rules.invariants import Rule
from controller.sim.rules.witness import Witness
from controller.sim.universe import Universe
from controller.views.simulation import SimulationView

# A controller that could not start is started again after this long; an operator who finds none tries again.
_RESTART_S: Final = 5.0
# After the end the world goes on for this long: nothing may be left that moves.
_GRACE_S: Final = 120.0
# Until the whole fleet has to be connected at the beginning.
_CONNECT_S: Final = 3600.0
_CHECK_S: Final = 60.0
# Progress is told once in so many events.
_TELL_EVERY: Final = 256
_DAY_S: Final = 86_400.0
# Events of one host's journey beside its measurements.
_EVENTS_PER_HOST: Final = 14


class Simulation:
    """The world around one rollout; also the observer of its controllers."""

    def __init__(self, case: Case, progress: Callable[[int], None]) -> None:
        self.case = case
        self._progress = progress
        self.universe = Universe(case.seed)
        self.disk = Disk()
        facts = hosts_of(case.spec, groups_of(case.spec, case.faults.fleet), case.hosts)
        places = {host.name: host.labels for host in facts}
        self.witness = Witness(self.disk, places=places, on_breach=self._stop)
        self.witness.on_event = self._recorded
        self.kernels = SimulatedKernels()
        self.monitoring = SimulatedMonitoring(self.universe, case.faults.monitoring)
        self.cluster = Cluster()
        self.outlets = Outlets()
        self.witness.serves = lambda host: self.fleet.fates[host].is_node and host not in self.cluster.out
        self.measures = Measures(case.spec, case.faults.effects, case.seed)
        self.fleet = Inhabitants(self, facts)
        self.leader: ControllerProcess | None = None
        self.processes: list[ControllerProcess] = []
        self.uid = ""
        self.incidents: dict[str, int] = {}
        # Places where a controller may die, counted over the whole run.
        self.points = 0
        self._commits = 0
        self._strikes: list[Strike] = []
        # Where the leader dies next; None: nowhere.
        self._dies: Moment | None = None
        self._away_s = 0.0
        # How often operators have asked for something.
        self._asked = 0
        # When the controller's clock was set last.
        self._jumped_at = -math.inf
        self._over = asyncio.Event()
        self._started_at = 0.0
        self._quiet_at: float | None = None
        self._then_done = False

    # --- what a controller lets us see ---

    def may_write(self, process: ControllerProcess, _what: str) -> bool:
        """See Observer."""
        return not self._point(process, Moment.BEFORE_COMMIT)

    def wrote(self, process: ControllerProcess, commits: Sequence[Commit]) -> bool:
        """See Observer."""
        if process.epoch != self.disk.epoch:
            self.witness.breach(Rule.EPOCH, f"epoch {process.epoch} writes after epoch {self.disk.epoch} began")
        self.witness.committed(commits)
        self._commits += len(commits)
        while self._strikes and self._strikes[0].at_commit <= self._commits:
            self._strike(self._strikes.pop(0))
        return not self._point(process, Moment.AFTER_COMMIT)

    def effect(self, process: ControllerProcess, what: str) -> bool:
        """See Observer."""
        moment = Moment.BEFORE_EFFECT if what.endswith("before") else Moment.AFTER_EFFECT
        return not self._point(process, moment)

    def _point(self, process: ControllerProcess, moment: Moment) -> bool:
        """Count one place where a controller may die; return whether it does."""
        if not self.uid:
            return False
        self.points += 1
        dies = self.case.die_at == self.points
        if self._dies is moment and process is self.leader:
            dies, self._dies = True, None
        if dies:
            self._count("crash")
            self.universe.later(self._away_s or _RESTART_S, self._start_process)
            if process is self.leader:
                self.leader = None
        return dies

    def acknowledges(self, host: str, report_id: str) -> None:
        """See Observer."""
        self.witness.acknowledged(host, report_id)

    def lost(self, process: ControllerProcess, error: BaseException) -> None:
        """See Observer."""
        replaced = isinstance(error, Conflict) and process.epoch < self.disk.epoch
        if not replaced and not isinstance(error, KernrollError):
            self.witness.breach(Rule.SERVED, f"{type(error).__name__}: {error}")
        if process is self.leader:
            if not replaced:
                self.witness.breach(Rule.SERVED, f"the only controller gives up: {error}")
            self.leader = None
            self.universe.later(_RESTART_S, self._start_process)

    # --- incidents ---

    def _count(self, what: str) -> None:
        self.incidents[what] = self.incidents.get(what, 0) + 1

    def _strike(self, strike: Strike) -> None:
        if self.case.calm_after is not None and self._commits > self.case.calm_after:
            return
        match strike.kind:
            case Kind.CRASH:
                self._dies, self._away_s = strike.moment, strike.lasts_s
            case Kind.LEADER_CHANGE:
                if self.leader is not None:
                    self._count(strike.kind.value)
                    self._replace_leader(self.leader, strike.lasts_s)
            case Kind.STORE_FAILS:
                self._count(strike.kind.value)
                self.disk.failure = Temporary("the disk is full", retry_after_s=_RESTART_S)
                self.universe.later(strike.lasts_s, self._store_works)
            case Kind.CLOCK_JUMP:
                if self.leader is not None:
                    self._count(strike.kind.value)
                    self.leader.clock.ahead_s += strike.lasts_s
                    self._jumped_at = self.universe.now()
                    self.universe.later(_RESTART_S, self.leader.engine.wake)
            case Kind.OPERATOR:
                self._asked += 1
                draw = Draw(seed=self.case.seed, verb=strike.verb, number=self._asked)
                request = drawn_request(draw, tuple(self.fleet.machines))
                self.universe.later(0.0, self.ask, request)
            case _:
                assert_never(strike.kind)

    def _store_works(self) -> None:
        self.disk.failure = None

    def _replace_leader(self, old: ControllerProcess, overlap_s: float) -> None:
        """Another controller takes over; the old one finds out by itself, or ends a while later."""
        self._start_process()
        self.universe.later(overlap_s + _RESTART_S, old.kill)

    def ask(self, request: AnyRequest) -> None:
        """Let the operator use a verb as soon as a controller answers."""
        if self._over.is_set():
            return
        if self.leader is None:
            self.universe.later(_RESTART_S, self.ask, request)
            return
        self.leader.spawn(self._operate(self.leader, request))

    async def _operate(self, process: ControllerProcess, request: AnyRequest) -> None:
        try:
            await operate(process.operations, self.case.spec.name, request, process.clock.now())
        except Permanent:
            self._count(f"operator {request.verb} refused")
            self.universe.later(_RESTART_S, self._paused)
        except Temporary:
            self.universe.later(_RESTART_S, self.ask, request)
        else:
            self._count(f"operator {request.verb}")

    # --- controllers ---

    def _start_process(self) -> None:
        if self._over.is_set():
            return
        process = ControllerProcess(
            self.universe,
            self.disk,
            self,
            kernels=self.kernels,
            clock=SkewedClock(self.universe),
            delivery=SimulatedDelivery(
                self.universe, self.fleet.machines, self.fleet.fates, stage_s=self.fleet.stage_s
            ),
            places=SimulatedPlaces(self.universe, self.cluster, self.fleet.fates),
            power=SimulatedPower(self.universe, self.outlets, self.fleet.machines, self.fleet.fates),
            checker=self.monitoring,
        )
        process.spawn(self._bring_up(process))

    async def _bring_up(self, process: ControllerProcess) -> None:
        self.processes = [one for one in self.processes if one.alive]
        self.processes.append(process)
        try:
            await process.start(self._status)
        except KernrollError:
            process.kill()
            self.universe.later(_RESTART_S, self._start_process)
            return
        if process.epoch == self.disk.epoch:
            self.leader = process

    def _status(self, host: str) -> DeliveryStatus:
        return self.fleet.machines[host].status()

    def ended_boot(self, host: str) -> None:
        """A machine's boot ended: whoever watches it hears of it."""
        for process in self.processes:
            if process.alive:
                process.notice(self._status(host))

    # --- the rollout ---

    async def run(self) -> SimulationView:
        """Start the rollout on a fleet that is up, and return what it came to."""
        self._start_process()
        self.fleet.switch_on()
        await self._until_connected()
        await self._start_rollout()
        self._strikes = list(strikes_of(self.case.faults, self.case.seed, self.expected_commits()))
        horizon_s = self._horizon_s()
        try:
            async with asyncio.timeout(horizon_s):
                await self._over.wait()
        except TimeoutError:
            self._forgotten(horizon_s)
        duration_s = (self._quiet_at or self.universe.now()) - self._started_at
        if not self.witness.breaches:
            await asyncio.sleep(_GRACE_S)
            self._check_end()
        for process in self.processes:
            process.kill()
        await asyncio.sleep(0)
        return self.fleet.outcome(duration_s)

    async def _start_rollout(self) -> None:
        """Ask for the rollout. A controller that dies over it leaves it in the log, or the operator asks again."""
        self._started_at = self.universe.now()
        leader = self.leader
        assert leader is not None, "nothing kills a controller before the rollout starts"
        asked = leader.spawn(leader.operations.start(self.case.spec_yaml, self.case.file_name, BY))
        await asyncio.wait({asked})
        if not asked.cancelled():
            asked.result()
        assert self.uid, "a controller can only die once the rollout is in the log"

    async def _until_connected(self) -> None:
        deadline_s = self.universe.loop.time() + _CONNECT_S
        while self.leader is None or not self.fleet.all_connected(self.leader):
            assert self.universe.loop.time() < deadline_s, "a host does not connect"
            await asyncio.sleep(_RESTART_S)

    def expected_commits(self) -> int:
        """Return about how many commits the rollout makes when all goes well."""
        runs = sum(task.warmups + task.repetitions + 1 for task in self.case.spec.workloads.given.values())
        return self.case.hosts * (_EVENTS_PER_HOST + len(LEGS[Role.TREATED]) * runs)

    def _horizon_s(self) -> float:
        """Return a time after which nobody can say that it still goes on: every wait at its longest."""
        policy = self.witness.seen.rollouts[self.uid].policy
        waves_s = sum(wave.max_duration_s for wave in policy.waves) + sum(policy.bake_s)
        approvals_s = policy.approval_timeout_s * sum(wave.approvals > 0 for wave in policy.waves)
        # Whatever is under way when a wave's time is over finishes its journey, and returns one host at a time.
        back_s = policy.baseline_timeout_s + policy.probation_timeout_s + self.case.hosts * policy.revert_timeout_s
        return waves_s + approvals_s + back_s + _DAY_S

    def _recorded(self, uid: str, host: str, event: Event) -> None:
        """See one event of the rollout that was just written."""
        self.uid = uid
        if self.witness.events % _TELL_EVERY == 0:
            self._progress(self.witness.seen.watches[uid].ended)
        rollout = self.witness.seen.rollouts[uid]
        if isinstance(event, ChecksAsked):
            self._persons_asked(rollout, event)
        if isinstance(event, CheckReported) and event.outcome is Outcome.PASS and not event.by:
            asked = check_command(uid, event.wave, event.number, event.check)
            if asked not in self.monitoring.passed:
                self.witness.breach(Rule.EVIDENCE, f"a pass of {event.check} is on record that nobody gave")
        if isinstance(event, RolloutPaused) and event.reason.startswith("internal error"):
            self.witness.breach(Rule.SERVED, event.reason)
        if isinstance(event, Moved):
            if event.deadline is not None:
                self._check_later(host, event.deadline)
        elif host:
            return
        if rollout.ended:
            self._quiet_at = self.universe.now()
            self._stop()
        elif rollout.state is State.PAUSED:
            self.universe.later(0.0, self._paused)

    def _persons_asked(self, rollout: Rollout, event: ChecksAsked) -> None:
        """Let persons report the manual checks of a wave, as far as they do."""
        for check in rollout.policy.checks:
            if check.kind is CheckKind.MANUAL:
                asked = (rollout.uid, event.wave, event.number, check.name)
                found = self.monitoring.drawn(*asked)
                # A person who speaks at all says yes or no.
                if found != "silent":
                    said = CheckRequest(verb="report_check", by=BY, check=check.name, passed=found != "fails")
                    self.universe.later(self.monitoring.person_s(*asked), self.ask, said)

    def _paused(self) -> None:
        """Look whether a paused rollout has come to rest, and do what the operator does then."""
        attempts = self.witness.seen.attempts[self.uid].values()
        if self.witness.seen.rollouts[self.uid].state is not State.PAUSED:
            return
        held = self.witness.seen.rollouts[self.uid].held
        if any(one.in_flight or (one.stratum in held and one.step is Step.DONE) for one in attempts):
            return
        if self.case.then and not self._then_done:
            self._then_done = True
            self.ask(plain_request(self.case.then))
            return
        self._quiet_at = self.universe.now()
        self._stop()

    def _check_later(self, host: str, deadline: float) -> None:
        self.universe.later(deadline - self.universe.now() + _CHECK_S + 1.0, self._check_deadline, host, deadline)

    def _check_deadline(self, host: str, deadline: float) -> None:
        """Look whether a host that waits was moved when its deadline came, by whoever leads."""
        attempt = self.witness.seen.attempts[self.uid][host]
        if attempt.deadline is None or self._over.is_set():
            return
        if attempt.deadline > deadline:
            self._check_later(host, attempt.deadline)
            return
        leader = self.leader
        # A clock that has just been set makes deadlines the past that nobody could keep yet.
        just_set = self.universe.now() - self._jumped_at < _CHECK_S
        if leader is None or self.disk.failure is not None or just_set:
            self._check_later(host, self.universe.now() + _CHECK_S)
        elif attempt.step is not Step.BAKE and self.witness.overdue(self.uid, host, leader.clock.now()):
            late_s = leader.clock.now() - attempt.deadline
            self.witness.breach(Rule.DEADLINE, f"{host} is in {attempt.step} {late_s:.0f} s beyond its deadline")

    def _stop(self) -> None:
        self._over.set()

    def _forgotten(self, horizon_s: float) -> None:
        rollout = self.witness.seen.rollouts[self.uid]
        busy = [one for one in self.witness.seen.attempts[self.uid].values() if not one.ended]
        where = ", ".join(f"{one.host} {one.step}" for one in busy[:5])
        stands = f"{rollout.state} ({rollout.reason or 'no reason'})"
        text = f"after {horizon_s:.0f} s it is {stands}; {len(busy)} hosts have not ended: {where}"
        self.witness.breach(Rule.LIVENESS, text)

    def _check_end(self) -> None:
        if self.leader is not None:
            self.witness.remembers(self.leader.engine.world)
        if self.witness.is_over(self.uid):
            self.witness.left_behind(self.uid, machines=self.fleet.kernel_side)
        if self.leader is not None:
            self.witness.left_out(self.uid, self.cluster.out)
        for host, cuts in self.outlets.cuts.items():
            if cuts > 1:
                self.witness.breach(Rule.POWER, f"that of {host} was cut {cuts} times")
        rollout = self.witness.seen.rollouts[self.uid]
        if rollout.state is State.PAUSED and not rollout.reason.strip():
            self.witness.breach(Rule.REASON, "paused without one")
