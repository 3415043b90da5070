"""A fleet in memory with faults by kernel: drives the pure engine through virtual time, with no waiting."""

import heapq
from collections.abc import Callable
from functools import partial
from typing import Any, assert_never

from simulated_host import COSTS, NEW, OLD, SPEC, Faults, SimulatedHost
from simulated_plan import UID, planned_trial

from controller.domain.caller import Caller
from controller.domain.deciding.advance import advance
from controller.domain.deciding.verbs import Request, decide_verb
from controller.domain.delivery import BootEnd
from controller.domain.hosts.host import Host
from controller.domain.record.control import Verb
from controller.domain.record.effects import (
    AcknowledgeBoot,
    ArmKernel,
    BlessKernel,
    CancelCommand,
    DrainHost,
    Effect,
    RebootHost,
    RevertKernel,
    RunWorkload,
    StageKernel,
    UncordonHost,
)
from controller.domain.record.events import (
    AbortStarted,
    AttemptEvent,
    CommandReported,
    CommandState,
    DeliveryReported,
    Event,
    FatalLogged,
    HostHeard,
    HostSilent,
    Moved,
    PlaceReported,
    PlannedHost,
    RevertStarted,
    RolloutStarted,
    RunReported,
    RunState,
    TrialEnded,
)
from controller.domain.record.journey import Role, Step, Trigger
from controller.domain.record.names import Key
from controller.domain.record.policy import WavePolicy
from controller.domain.state.rollout import Rollout, State
from controller.services.state.world import World

COST = "swap_mount.cost"
# What a simulated workload measures, where it is not the cost.
METRICS = {"kernel_build": "kernel_build.system_time"}


class Simulation:
    """Virtual time, the pure engine, and simulated hosts."""

    def __init__(
        self,
        waves: list[list[str]],
        faults: dict[str, Faults] | None = None,
        *,
        role: Role = Role.TREATED,
        max_in_flight: int = 2,
        on_refuted: str = "pause",
        spec: str = SPEC,
        aa: bool = False,
        strata: dict[str, str] | None = None,
        labels: dict[str, dict[str, str]] | None = None,
        wave_policies: tuple[WavePolicy, ...] | None = None,
        drilled: tuple[str, ...] = (),
        nodes: tuple[str, ...] = (),
    ) -> None:
        self.now = 1000.0
        self.world = World()
        self.log: list[tuple[Key, Event]] = []
        self.taken: set[tuple[Step, Trigger]] = set()
        self.outstanding: dict[str, dict[str, Effect]] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        given = faults or {}
        self.labels = labels or {}
        names = [name for wave in waves for name in wave]
        self.hosts = {name: SimulatedHost(name=name, faults=given.get(name, Faults())) for name in names}
        for name in names:
            self.world.see(self._host(name))
        text = spec.replace("IN_FLIGHT", str(max_in_flight)).replace("ON_REFUTED", on_refuted)
        hosts = tuple(
            tuple(
                PlannedHost(
                    host=name,
                    stratum=(strata or {}).get(name, "x86_64/vm"),
                    architecture="x86_64",
                    role=role,
                    drill=name in drilled,
                    place="cluster" if name in nodes else "",
                )
                for name in wave
            )
            for wave in waves
        )
        self.record(Key(UID), planned_trial(hosts, text, at=self.now, wave_policies=wave_policies, aa=aa))
        self.record(Key(UID), RolloutStarted(at=self.now, by="test"))

    def _host(self, name: str) -> Host:
        host = self.hosts[name]
        return Host(
            name=name,
            architecture="x86_64",
            platform="vm",
            page_size_bytes=4096,
            memory_bytes=2**31,
            cpu_count=1,
            kernel_release=host.release,
            kernel_version="#1",
            boot_id=host.boot_id,
            connected=True,
            labels=self.labels.get(name, {}),
            last_seen=self.now,
        )

    @property
    def rollout(self) -> Rollout:
        """The rollout as it stands."""
        return self.world.rollouts[UID]

    def step(self, host: str) -> Step:
        """Where the host stands."""
        return self.world.attempts[UID][host].step

    def record(self, key: Key, event: Event) -> None:
        """Fold an event, as a commit would."""
        if isinstance(event, Moved):
            before = self.world.attempts[UID][key.host].step
            self.taken.add((before, event.trigger))
        self.log.append((key, event))
        self.world.apply(key, event)

    def abort(self) -> None:
        """The operator aborts."""
        self.record(Key(UID), AbortStarted(at=self.now, reason="enough", by="test"))

    def revert(self) -> None:
        """The operator reverts; an ended rollout first learns the present boots of its hosts."""
        if self.rollout.ended:
            for name, attempt in self.world.attempts[UID].items():
                host = self.hosts[name]
                if attempt.step in (Step.DONE, Step.LOST) and not host.silenced:
                    self.record(Key(UID, name), HostHeard(at=self.now, boot_id=host.boot_id, release=host.release))
        self.record(Key(UID), RevertStarted(at=self.now, reason="go back", by="test"))

    def ask(self, verb: Verb, by: str = "test", remark: str = "", **options: Any) -> None:
        """An operator asks; raises what the verb raises."""
        request = Request(verb=verb, by=Caller(by), remark=remark, **options)
        for event in decide_verb(self.rollout, self.world.attempts[UID], request, self.now):
            self.record(Key(UID), event)

    def run(self, *, until: Callable[[], bool] = lambda: False, horizon_s: float = 5000.0) -> None:
        """Go on until the condition holds or nothing happens any more; more than `horizon_s` of it is a failure."""
        end = self.now + horizon_s
        while True:
            self.settle()
            if until():
                return
            following = [at for at in (self._next_agenda(), self.world.next_deadline()) if at is not None]
            resting = self.rollout.ended or self.rollout.state in (State.PAUSED, State.AWAITING_APPROVAL)
            if not following or (resting and min(following) >= end):
                return
            self.now = max(self.now, min(following))
            assert self.now < end, f"still busy after {horizon_s} s: {self.rollout.state} {self.rollout.reason}"
            while self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()

    def run_out(self) -> None:
        """Let everything happen that is on its way."""
        while self._agenda:
            self.now, _, act = heapq.heappop(self._agenda)
            act()

    def _next_agenda(self) -> float | None:
        return self._agenda[0][0] if self._agenda else None

    def settle(self) -> None:
        """Decide until nothing is due, performing what is decided."""
        self.world.mark_due(self.now)
        while (key := self.world.take_dirty()) is not None:
            decision = advance(self.world.snapshot(key), self.now)
            self.world.wake(key, decision.wake_at)
            for event in decision.events:
                self.record(key, event)
            if decision.events and key.host:
                self.outstanding[key.host] = {effect.command_id: effect for effect in decision.effects}
                for effect in decision.effects:
                    self._perform(effect)
                self._strike(key.host)

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do something at a later moment."""
        self._count += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._count, act))

    def tell(self, delay_s: float, host: str, make: Callable[[], AttemptEvent]) -> None:
        """Let the host's attempt learn something later, as long as a rollout holds it."""

        def act() -> None:
            event = make()
            from_agent = isinstance(event, RunReported | CommandReported | HostHeard)
            if host in self.world.active and not (from_agent and self.hosts[host].silenced):
                self.record(Key(UID, host), event)

        self.later(delay_s, act)

    def _strike(self, name: str) -> None:
        """Let the faults that are tied to a step happen."""
        host, step = self.hosts[name], self.step(name)
        if host.faults.silent_in is step:
            host.silenced = True
            self.tell(1.0, name, lambda: HostSilent(at=self.now))
        if host.faults.fatal_in is step:
            host.faults.fatal_in = None
            line = "BUG: Bad page state in process swapon"
            self.tell(
                1.0,
                name,
                lambda: FatalLogged(at=self.now, report_id="k", boot_id=host.boot_id, signature="bad_page", line=line),
            )
        if host.faults.dies_in is step:
            host.faults.dies_in = None
            host.trial_command = self.world.attempts[UID][name].trial_command_id
            self._end_trial(host, BootEnd.PANIC, 1.0)

    def _perform(self, effect: Effect) -> None:
        host = self.hosts[effect.host]
        if effect.command_id in host.done:
            return
        host.done.add(effect.command_id)
        match effect:
            case RunWorkload():
                self._measure(host, effect)
            case CancelCommand():
                pass
            case StageKernel():
                self._answer(host, effect, "stage")
            case ArmKernel():
                if self._answer(host, effect, "arm"):
                    host.armed = effect.kernel
            case RebootHost():
                if self._answer(host, effect, "reboot"):
                    self._reboot(host, effect.command_id)
            case AcknowledgeBoot():
                pass
            case DrainHost():
                self._place_answers(host, effect, "drain")
            case UncordonHost():
                self._place_answers(host, effect, "uncordon")
            case BlessKernel():
                if self._answer(host, effect, "bless"):
                    host.default = host.running
            case RevertKernel():
                if self._answer(host, effect, "revert"):
                    self._return(host, effect.kernel)
            case _:
                assert_never(effect)

    def _answer(self, host: SimulatedHost, effect: Effect, verb: str) -> bool:
        """Answer a delivery verb; return whether it was carried out."""
        if host.faults.unanswered == verb:
            return False
        error = f"{verb} was refused" if host.faults.refused == verb else ""
        running = "another" if host.faults.strays else host.running
        default = host.default

        def report() -> DeliveryReported:
            return DeliveryReported(
                at=self.now, command_id=effect.command_id, error=error, default_kernel=default, running_kernel=running
            )

        self.tell(1.0, host.name, report)
        return not error

    def _place_answers(self, host: SimulatedHost, effect: Effect, verb: str) -> None:
        if host.faults.unanswered != verb:
            error = f"{verb} was refused" if host.faults.refused == verb else ""

            def answer() -> None:
                # However the rollout stands by then: what was drained is put back.
                told = PlaceReported(at=self.now, command_id=effect.command_id, error=error)
                self.record(Key(UID, host.name), told)

            self.later(1.0, answer)

    def _measure(self, host: SimulatedHost, effect: RunWorkload) -> None:
        if host.silenced or host.faults.unanswered == ("new" if host.running == NEW else "old"):
            return
        if effect.task.workload == "panic_drill":
            self._panic_on_purpose(host, effect)
            return
        outcome = host.faults.measurements.pop(0) if host.faults.measurements else CommandState.COMPLETED
        cost = host.faults.new_cost if host.running == NEW else COSTS[OLD]
        boot_id, release = host.boot_id, host.release
        good = outcome is CommandState.COMPLETED

        def run(index: int) -> RunReported:
            warmup = index < effect.task.warmups
            return RunReported(
                at=self.now,
                report_id=f"{effect.command_id}#{index}",
                command_id=effect.command_id,
                boot_id=boot_id,
                workload=effect.task.workload,
                index=index,
                warmup=warmup,
                state=RunState.OK if good or warmup else RunState.DIED,
                error="",
                values={METRICS.get(effect.task.workload, COST): cost + 0.1 * index},
                release=release,
            )

        for index in range(effect.task.warmups + (effect.task.repetitions if good else 1)):
            self.tell(5.0 + index, host.name, partial(run, index))
        self.tell(
            20.0,
            host.name,
            lambda: CommandReported(
                at=self.now,
                report_id=f"{effect.command_id}!",
                command_id=effect.command_id,
                state=outcome,
                detail="" if good else "as simulated",
            ),
        )

    def _panic_on_purpose(self, host: SimulatedHost, effect: RunWorkload) -> None:
        """The host panics, falls back, and its next agent tells that the command did not end."""
        if host.faults.drill == "ignored":
            return
        if host.faults.drill == "refused":
            state, detail = CommandState.INFRASTRUCTURE, "there is no /proc/sysrq-trigger"
        else:
            state, detail = CommandState.DIED, "the machine restarted"
            self.tell(1.0, host.name, lambda: HostSilent(at=self.now))
            self._end_trial(host, BootEnd.PANIC, 2.0)
        if host.faults.drill != "hangs":
            self.tell(
                20.0,
                host.name,
                lambda: CommandReported(
                    at=self.now, report_id=effect.command_id, command_id=effect.command_id, state=state, detail=detail
                ),
            )

    def _reboot(self, host: SimulatedHost, command_id: str) -> None:
        host.trial_command = command_id
        host.running, host.armed = host.armed or host.default, ""
        host.boots += 1
        if host.running == NEW and host.faults.ignores_new_kernel:
            host.running = host.default
        self.tell(1.5, host.name, lambda: HostSilent(at=self.now))
        if host.running == NEW and host.faults.trial_end is not None:
            self._end_trial(host, host.faults.trial_end, 10.0)
            return
        if host.running == NEW and host.faults.unanswered == "hello":
            return
        self._hear(host, 15.0)

    def _end_trial(self, host: SimulatedHost, end: BootEnd, delay_s: float) -> None:
        """The running kernel ends by itself; the host boots its default."""
        command = host.trial_command
        line = "Kernel panic - not syncing: simulated" if end is BootEnd.PANIC else ""
        self.tell(delay_s, host.name, lambda: TrialEnded(at=self.now, command_id=command, end=end, line=line))

        def fall() -> None:
            if host.faults.drill == "hangs":
                return
            host.running = host.default if host.faults.drill != "stays" else NEW
            host.boots += 1
            host.silenced = False
            if not host.faults.never_returns:
                self._hear(host, host.faults.returns_after_s)

        self.later(delay_s, fall)

    def _return(self, host: SimulatedHost, kernel: str) -> None:
        host.default, host.armed = kernel, ""
        if host.running == kernel:
            return
        host.running = kernel
        host.boots += 1
        host.silenced = False
        if not host.faults.never_returns:
            self._hear(host, host.faults.returns_after_s)

    def _hear(self, host: SimulatedHost, delay_s: float) -> None:
        self.tell(delay_s, host.name, lambda: HostHeard(at=self.now, boot_id=host.boot_id, release=host.release))
