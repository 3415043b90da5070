"""A simulated agent: it obeys each command once, keeps its reports until they are acknowledged, and reconnects."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, assert_never

from controller.domain.hosts.host import Host
from controller.domain.record.effects import CancelCommand, RunWorkload
from controller.domain.record.events import CommandReported, CommandState, RunReported, RunState
from controller.services.agents.sessions import LogReported
from controller.sim.hosts.fates import Fate
from controller.sim.hosts.link import Acknowledged, Downward, Link, Ordered, Receipt, Report, Session
from controller.sim.hosts.machine import PANIC_LINE, Machine
from controller.sim.hosts.measures import Measures, run_duration_s
from controller.sim.universe import Universe

_FIRST_DIAL_S: Final = 1.0
# The order to panic on purpose, and how long it takes.
_DRILL: Final = "panic_drill"
_DRILL_S: Final = 3.0
_LONGEST_BACKOFF_S: Final = 15.0
OOPS_LINE: Final = "BUG: Bad page state in process kswapd0  pfn:1004f2"
WARNING_LINE: Final = "WARNING: CPU: 0 PID: 41 at kernel/workqueue.c:2254 __queue_work+0x2f8/0x410"


@dataclass(slots=True, kw_only=True)
class _Active:
    """The command that runs now."""

    effect: RunWorkload
    boot: int
    run: int = 0


class Agent:
    """One host's agent. What it must not forget (spool, commands, epoch) survives boots; the rest does not."""

    def __init__(self, universe: Universe, facts: Host, fate: Fate, *, machine: Machine, measures: Measures) -> None:
        self._universe = universe
        self._fate = fate
        self._machine = machine
        self._measures = measures
        self._stratum = facts.stratum
        self._old_release = facts.kernel_release
        self.facts = facts
        self.link: Link | None = None
        # A report of this host counts as durable from now on.
        self.on_acknowledged: Callable[[str, str], None] = lambda _host, _report_id: None
        # The boot that the agent runs under; 0 while it does not run.
        self._boot = 0
        self._session: Session | None = None
        self._redials = 0
        self.spool: dict[str, Report] = {}
        self._finished: dict[str, str] = {}
        self._active: _Active | None = None
        self._epoch = 0
        self._breaks_left = fate.rig_breaks

    # --- boots ---

    def started(self, number: int) -> None:
        """User space is up: report what the last boot left half-way, and call the controller."""
        self._boot = number
        kernel = self._machine.state.kernels[self._machine.running]
        release = self._old_release if self._fate.ignores_new_kernel else kernel.release
        self.facts = replace(self.facts, boot_id=f"{self.facts.name}-{number}", kernel_release=release)
        if self._active is not None:
            self._interrupted(self._active)
        new = not self._machine.on_old_kernel
        if new and self._fate.oopses_after_s is not None:
            self._universe.later(self._fate.oopses_after_s, self._logs, number, OOPS_LINE)
        if new and self._fate.warns_after_s is not None:
            self._universe.later(self._fate.warns_after_s, self._logs, number, WARNING_LINE)
        if new and self._fate.hangs_after_s is not None:
            self._universe.later(self._fate.hangs_after_s, self._hang, number)
        self._redials = 0
        self._universe.later(_FIRST_DIAL_S, self._dial, number)

    def stopped(self) -> None:
        """The machine is down, and with it the agent."""
        self._boot = 0
        if self._session is not None:
            self._session.cut()
            self._session = None

    def _hang(self, boot: int) -> None:
        """The kernel schedules nothing any more; the machine stays on."""
        if boot == self._boot:
            self.stopped()

    def _interrupted(self, active: _Active) -> None:
        """Tell of the command that the machine's end cut off."""
        effect = active.effect
        detail = f"the host was restarted during run {active.run}; cleaned up since"
        self._tell(self._run_report(active, RunState.DIED, detail))
        self._finish(effect.command_id, CommandState.DIED, detail)

    def _logs(self, boot: int, line: str) -> None:
        if boot == self._boot:
            name = f"log-{boot}-{line[:7]}"
            self._tell(LogReported(report_id=name, boot_id=self.facts.boot_id, lines=(line,)))

    # --- streams ---

    def _dial(self, boot: int) -> None:
        if boot != self._boot or self._session is not None or self.link is None:
            return
        session = self.link.dial(self, self.facts)
        if session is None:
            self._redials += 1
            wait_s = min(_LONGEST_BACKOFF_S, 2.0**self._redials)
            self._universe.later(
                self._universe.jitter(wait_s, self.facts.name, boot, "dial", self._redials), self._dial, boot
            )
            return
        self._redials = 0
        self._session = session
        for report in list(self.spool.values()):
            session.up(report)

    def lost(self, session: Session) -> None:
        """The stream is gone: call again, as long as this boot lasts."""
        if session is not self._session:
            return
        self._session = None
        self._redials += 1
        self._universe.later(
            self._universe.jitter(_FIRST_DIAL_S, self.facts.name, self._boot, "lost", self._redials),
            self._dial,
            self._boot,
        )

    def take(self, session: Session, message: Downward) -> None:
        """Take what the controller says."""
        if session is not self._session:
            return
        match message:
            case Acknowledged(report_id=report_id):
                self.on_acknowledged(self.facts.name, report_id)
                self.spool.pop(report_id, None)
            case Ordered(effect=effect, epoch=epoch):
                refused = self._obey(effect, epoch)
                session.up(Receipt(command_id=effect.command_id, refused=refused))
            case _:
                assert_never(message)

    def _tell(self, report: Report) -> None:
        if report.report_id in self.spool:
            return
        self.spool[report.report_id] = report
        if self._session is not None:
            self._session.up(report)

    # --- commands ---

    def _obey(self, effect: RunWorkload | CancelCommand, epoch: int) -> str:
        """Begin what is asked; return why it is refused, empty when it is not."""
        command_id = effect.command_id
        if command_id in self._finished:
            return self._finished[command_id]
        if self._active is not None and self._active.effect.command_id == command_id:
            return ""
        if epoch < self._epoch:
            return f"stale epoch {epoch}: epoch {self._epoch} has been obeyed"
        self._epoch = epoch
        if isinstance(effect, CancelCommand):
            self._cancel(effect.target_command_id)
            self._finished[command_id] = ""
            return ""
        if self._active is not None:
            why = f"busy with command {self._active.effect.command_id}"
            self._finish(command_id, CommandState.REFUSED, why)
            self._finished[command_id] = why
            return why
        self._active = _Active(effect=effect, boot=self._boot)
        if effect.task.workload == _DRILL:
            self._universe.later(_DRILL_S, self._panic, self._active)
        else:
            self._next_run(self._active)
        return ""

    def _panic(self, active: _Active) -> None:
        """Do as told: the kernel panics, and the next boot tells of it."""
        if active is self._active and active.boot == self._boot:
            self._machine.fail(active.boot, PANIC_LINE)

    def _cancel(self, target: str) -> None:
        if target in self._finished:
            return
        active = self._active is not None and self._active.effect.command_id == target
        self._finish(target, CommandState.CANCELLED, "cancelled" if active else "cancelled before it was received")

    def _next_run(self, active: _Active) -> None:
        effect = active.effect
        if active.run == effect.task.warmups + effect.task.repetitions:
            self._finish(effect.command_id, CommandState.COMPLETED, "")
            return
        takes_s = run_duration_s(effect.task, effect.timeout_s)
        self._universe.later(
            self._universe.jitter(takes_s, effect.command_id, active.run), self._run_over, active, active.run
        )

    def _run_over(self, active: _Active, run: int) -> None:
        if active is not self._active or active.boot != self._boot or active.run != run:
            return
        if self._breaks_left:
            self._breaks_left -= 1
            self._finish(active.effect.command_id, CommandState.INFRASTRUCTURE, "the rig broke: no space left")
            return
        if self._fate.outcome is not None:
            self._finish(active.effect.command_id, self._fate.outcome, "as simulated")
            return
        if self._fate.kills_workloads and not self._machine.on_old_kernel and run >= active.effect.task.warmups:
            why = "killed by signal 11"
            self._tell(self._run_report(active, RunState.DIED, why))
            self._finish(active.effect.command_id, CommandState.DIED, why)
            return
        self._tell(self._run_report(active, RunState.OK, ""))
        active.run += 1
        self._next_run(active)

    def _run_report(self, active: _Active, state: RunState, error: str) -> RunReported:
        effect, index = active.effect, active.run
        name, new = self.facts.name, not self._machine.on_old_kernel
        values = {}
        if state is RunState.OK:
            values = self._measures.values(
                effect.task.workload,
                (name, self._stratum),
                new=new,
                run=f"{effect.command_id}#{index}",
                noise=self._fate.noise_factor,
            )
        return RunReported(
            at=self._machine.clock(),
            report_id=f"{effect.command_id}#{index}",
            command_id=effect.command_id,
            boot_id=f"{name}-{active.boot}",
            workload=effect.task.workload,
            index=index,
            warmup=index < effect.task.warmups,
            state=state,
            error=error,
            values=values,
            release=self.facts.kernel_release,
        )

    def _finish(self, command_id: str, state: CommandState, detail: str) -> None:
        self._finished[command_id] = ""
        if self._active is not None and self._active.effect.command_id == command_id:
            self._active = None
        self._tell(
            CommandReported(
                at=self._universe.now(),
                report_id=f"{command_id}!",
                command_id=command_id,
                state=state,
                detail=detail,
            )
        )
