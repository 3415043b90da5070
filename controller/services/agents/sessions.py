"""Agents' sessions: what a host says becomes a recorded observation; what it is asked goes down its stream."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from controller.domain.errors import KernrollError, Temporary
from controller.domain.hosts.host import Host
from controller.domain.hosts.loaders import HostBoot
from controller.domain.record.effects import AgentEffect, CancelCommand
from controller.domain.record.events import (
    CommandReported,
    CommandState,
    FatalLogged,
    HostHeard,
    HostSilent,
    RunReported,
    SeriousLogged,
)
from controller.domain.record.journey import ORDERED, Step
from controller.domain.record.names import Key, key_of_command
from controller.domain.record.policy import Task
from controller.domain.state.attempt import Attempt
from controller.domain.state.kernel_log import learnt_from_log
from controller.gate.kernel_log import Continued
from controller.services.agents.boot_news import BootNews
from controller.services.agents.boot_requests import Ask, BootRequests
from controller.services.agents.identity import Clones
from controller.services.agents.kernel_logs import KernelLogs, LogReported
from controller.services.engine.engine import Engine
from controller.services.ports import Clock, Store
from controller.views.models import LiveProgress

__all__ = ["AgentStream", "LogReported", "Sessions"]

_log = structlog.get_logger("sessions")

# A stream that takes nothing for this long is broken.
_SEND_TIMEOUT_S = 30.0
# What one host may add to one rollout's log without having been asked, while this controller runs: boots, lines of its
# log. Far more than any honest host has to say; whoever says more is not heard, which is a failure.
_MOST_UNASKED = 5000
# In place of a run's evidence.
_TOO_LATE = {"…": "left out: the run was told of after its command had been given up"}
# A controller that dies forgets at most so much of when a host was heard.
_SAVED_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What an agent says, in a heartbeat, that it holds."""

    boot_id: str
    # Accepted and not finished.
    command_ids: frozenset[str]
    # Reports that are not acknowledged.
    spooled_reports: int


@dataclass(slots=True, kw_only=True)
class AgentStream:
    """One connected agent. `send` hands a command to the stream; `close` ends the stream with a reason."""

    host: str
    send: Callable[[AgentEffect], Awaitable[None]]
    close: Callable[[str], None]
    # Hands over what kernroll-boot is asked; None when the agent takes no such requests.
    ask_boot: Ask | None = None


class Sessions:
    """All connected agents; also the Agents port for the performer."""

    def __init__(self, engine: Engine, store: Store, clock: Clock) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._connected: dict[str, AgentStream] = {}
        self._logs = KernelLogs(engine, store, clock)
        self._unasked: Counter[Key] = Counter()
        # Host -> when its record was written; writes under way.
        self._saved_at: dict[str, float] = {}
        self._saving: set[asyncio.Future[None]] = set()
        # Ends of streams that are being noted.
        self._noting: set[asyncio.Future[None]] = set()
        self.live: dict[str, LiveProgress] = {}
        # Of connected hosts, by their newest heartbeat.
        self.held: dict[str, Held] = {}
        # Host -> the command that its agent refused last, and is to answer by a report.
        self._refused: dict[str, str] = {}
        self.on_connected: Callable[[str], None] = lambda _host: None
        self.clones = Clones(clock)
        self.boot_requests = BootRequests(self._way_to_boot)
        self._boot_news = BootNews(engine, store, clock)

    async def connected(self, session: AgentStream, host: Host) -> None:
        """Take over a host's new stream: remember its facts, replace an older stream, tell its attempt.

        Raises SentAway when another machine of the name is connected.
        """
        self.clones.check(host.name, host.boot_id, connected=session.host in self._connected)
        older = self._connected.get(session.host)
        self._connected[session.host] = session
        if older is not None:
            older.close("another session of this host has begun")
            self.boot_requests.ended(session.host)
        now = self._clock.now()
        known = self._engine.world.hosts.get(host.name)
        # A Hello says nothing of the log; within one boot what was heard of it stands.
        heard = replace(host, connected=True, last_seen=now)
        if known is not None and known.boot_id == host.boot_id:
            heard = replace(heard, serious=known.serious, fatal=known.fatal, unread=known.unread)
        self._saved_at[host.name] = now
        await self._store.save_host(heard)
        if self._connected.get(session.host) is not session:
            # A newer session began meanwhile: what it says of the host is newer too.
            return
        self._engine.world.see(heard)
        await self._boot_news.tell_trial_end(host)
        attempt = self._engine.world.active_attempt(host.name)
        if attempt is not None and _is_news(attempt, host) and self._may_add(attempt):
            event = HostHeard(at=now, boot_id=host.boot_id, release=host.kernel_release)
            await self._engine.observe(Key(attempt.uid, attempt.host), event)
        self._engine.world.mark_host(host.name)
        self._engine.wake()
        await self._engine.touch()
        self.on_connected(host.name)
        _log.info("connected", host=host.name, boot_id=host.boot_id, release=host.kernel_release)

    async def disconnected(self, session: AgentStream) -> None:
        """Note that a stream ended, unless a newer one has replaced it; to the end, even if the caller is cancelled.

        A stream's end is told in two ways, its last message and its cancellation, and the second may find us here.
        """
        if self._connected.get(session.host) is not session:
            return
        del self._connected[session.host]
        self.live.pop(session.host, None)
        self.held.pop(session.host, None)
        self.boot_requests.ended(session.host)
        known = self._engine.world.hosts.get(session.host)
        if known is not None:
            # It was heard when it last spoke; that it is gone is noticed later.
            self._engine.world.see(replace(known, connected=False))
        noting = asyncio.ensure_future(self._gone(session.host, self._clock.now()))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)
        await asyncio.shield(noting)

    async def _gone(self, host: str, now: float) -> None:
        await self._save(host)
        await self._engine.touch()
        _log.info("disconnected", host=host)
        while not self.is_connected(host):
            attempt = self._engine.world.active_attempt(host)
            if attempt is None or attempt.silent_since is not None:
                return
            try:
                await self._engine.observe(Key(attempt.uid, attempt.host), HostSilent(at=now))
            except Temporary as error:
                # Unrecorded, this silence would never end: nobody else notices that the host is gone.
                _log.warning("silence_not_recorded", host=host, error=str(error))
                await asyncio.sleep(error.retry_after_s)

    async def holds(self, session: AgentStream, held: Held, boot: HostBoot | None = None) -> None:
        """Take note of what an agent holds. What it has taken and neither holds nor answers is to be tried again.

        `boot` is what its kernroll-boot has written down, where it says so anew.

        Within one stream everything comes in the order in which it was said: an answer before the heartbeat that does
        not count it any more, and a receipt before the heartbeat that is to name its command.
        """
        if self._connected.get(session.host) is not session:
            # An older stream's word, overtaken by a newer one.
            return
        self.held[session.host] = held
        if boot is not None:
            await self._boot_news.told(session.host, boot)
        attempt = self._engine.world.active_attempt(session.host)
        if attempt is None or held.spooled_reports or attempt.boot_id != held.boot_id:
            return
        name = attempt.command_id
        unanswered = attempt.step in ORDERED and name and attempt.command is None
        taken = name not in self._engine.outstanding or self._refused.get(session.host) == name
        if not unanswered or not taken or name in held.command_ids:
            return
        _log.warning("command_lost", host=session.host, command_id=name)
        # Not told a second time under the same name: an agent that lost what it knew might have carried it out.
        lost = CommandReported(
            at=self._clock.now(),
            report_id="",
            command_id=name,
            state=CommandState.INFRASTRUCTURE,
            detail="the agent has taken it, and neither holds it any more nor has an answer to it",
        )
        await self._engine.observe(Key(attempt.uid, attempt.host), lost)
        await self._engine.effect_done(name)

    def heartbeat(self, host: str) -> None:
        """Note that the host is alive."""
        known = self._engine.world.hosts.get(host)
        if known is None:
            return
        now = self._clock.now()
        self._engine.world.hosts[host] = replace(known, last_seen=now)
        if now - self._saved_at.get(host, 0.0) >= _SAVED_EVERY_S:
            self._saved_at[host] = now
            saving = asyncio.ensure_future(self._save(host, connected=True))
            self._saving.add(saving)
            saving.add_done_callback(self._saving.discard)

    async def _save(self, host: str, *, connected: bool = False) -> None:
        """Keep when the host was heard, unless a newer session begins or ends: that one saves for itself."""
        known = self._engine.world.hosts.get(host)
        if known is None or self.is_connected(host) != connected:
            return
        try:
            await self._store.save_host(known)
        except KernrollError as error:
            _log.warning("host_not_saved", host=host, error=str(error))

    async def progressed(self, host: str, progress: LiveProgress) -> None:
        """Show what the agent is doing; never recorded."""
        self.live[host] = progress
        await self._engine.touch()

    async def accepted(self, host: str, command_id: str, refused: str) -> None:
        """The agent holds the command durably: no need to send it again. What it refuses it also reports."""
        effect = self._engine.outstanding.get(command_id)
        if not isinstance(effect, AgentEffect) or effect.host != host:
            return
        if not refused or isinstance(effect, CancelCommand):
            await self._engine.effect_done(command_id)
        else:
            self._refused[host] = command_id

    async def catch_up(self, uid: str) -> None:
        """Tell an ended rollout's attempts what their hosts have said since."""
        for name, attempt in self._engine.world.attempts[uid].items():
            host = self._engine.world.hosts.get(name)
            if host is None or attempt.step not in (Step.DONE, Step.LOST):
                continue
            now = self._clock.now()
            if not host.connected:
                await self._engine.observe(Key(uid, name), HostSilent(at=now))
            elif _is_news(attempt, host):
                event = HostHeard(at=now, boot_id=host.boot_id, release=host.kernel_release)
                await self._engine.observe(Key(uid, name), event)

    async def reported(self, host: str, report: RunReported | CommandReported | LogReported) -> None:
        """Record a report durably; returning means it may be acknowledged. A repeated one changes nothing."""
        if isinstance(report, LogReported):
            await self._kernel_log(host, report)
            return
        key = key_of_command(report.command_id)
        uid = key.uid
        attempt = self._engine.world.attempts.get(uid, {}).get(host)
        if attempt is None or key.host != host:
            # Nothing is kept of it: told again, it would be ignored again.
            _log.warning("report_of_unknown_command", host=host, command_id=report.command_id)
            return
        tasks = self._engine.world.rollouts[uid].policy.tasks
        awaited = _is_awaited(attempt, report, tasks)
        told = report if awaited else _belated(attempt, report, tasks)
        if told is not None and (awaited or self._may_add(attempt)):
            await self._engine.observe(Key(uid, host), told, report_id=_own(host, report.report_id))
        else:
            _log.info("report_not_asked_for", host=host, command_id=report.command_id, kind=type(report).__name__)
        if isinstance(report, CommandReported):
            await self._engine.effect_done(report.command_id)

    async def _kernel_log(self, host: str, report: LogReported) -> None:
        told = await self._logs.read(host, report)
        # With the host first: told again after a failure in between, it changes nothing there.
        await self._logs.remember(host, report.boot_id, told)
        attempt = self._engine.world.active_attempt(host)
        event = None if attempt is None else self._learnt_from_log(attempt, report, told)
        # What is not news now would be none if it were told again: nothing has to be kept of it.
        if attempt is not None and event is not None and self._may_add(attempt):
            await self._engine.observe(Key(attempt.uid, host), event, report_id=_own(host, report.report_id))

    def _may_add(self, attempt: Attempt) -> bool:
        """Count what a host adds unasked to its attempt; once that is too much it is not heard any more."""
        key = Key(attempt.uid, attempt.host)
        self._unasked[key] += 1
        if self._unasked[key] <= _MOST_UNASKED:
            return True
        _log.error("host_says_too_much", host=attempt.host, most=_MOST_UNASKED)
        if session := self._connected.get(attempt.host):
            session.close(f"{attempt.host} has told {_MOST_UNASKED} things that it was not asked for")
        return False

    def _learnt_from_log(
        self, attempt: Attempt, report: LogReported, told: Continued
    ) -> FatalLogged | SeriousLogged | None:
        """Return what the lines say that is worth recording: the first that condemns, else others not seen yet."""
        world, now = self._engine.world, self._clock.now()
        known_lines = world.rollouts[attempt.uid].policy.known_lines
        others = world.attempts[attempt.uid].values()
        fatal, findings = learnt_from_log(attempt, others, known_lines, told.findings, told.replaced)
        if fatal is not None:
            # The first of a boot is the one that counts.
            if attempt.fatal is not None and attempt.fatal.boot_id == report.boot_id:
                return None
            return FatalLogged(
                at=now,
                report_id=report.report_id,
                boot_id=report.boot_id,
                signature=fatal.signature,
                line=fatal.line,
            )
        replaced = () if told.replaced is None else (told.replaced.signature,)
        if not findings:
            return None
        return SeriousLogged(at=now, report_id=report.report_id, findings=findings, replaced=replaced)

    async def send(self, effect: AgentEffect) -> bool:
        """See Agents.send."""
        session = self._connected.get(effect.host)
        if session is None:
            return False
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await session.send(effect)
        except TimeoutError as error:
            session.close(f"a command was not taken within {_SEND_TIMEOUT_S:.0f} s")
            raise Temporary(f"{effect.host} does not take what it is sent", retry_after_s=1.0) from error
        return True

    def forget(self, host: str, reason: str) -> None:
        """End the session of a host that does not count any more."""
        self.clones.forget(host)
        session = self._connected.get(host)
        if session is not None:
            session.close(reason)

    def end(self, reason: str) -> None:
        """End all sessions: each says goodbye, and what it leaves behind is recorded while that can be done."""
        for session in tuple(self._connected.values()):
            session.close(reason)

    def _way_to_boot(self, host: str) -> Ask | None:
        session = self._connected.get(host)
        return None if session is None else session.ask_boot

    def is_connected(self, host: str) -> bool:
        """Whether the host has a stream now."""
        return host in self._connected


def _own(host: str, report_id: str) -> str:
    """Return the report's name among those of all hosts: no host can use up another's."""
    return f"{host}/{report_id}"


def _is_awaited(attempt: Attempt, report: RunReported | CommandReported, tasks: Sequence[Task]) -> bool:
    """Whether a report tells something of the present command that is not known: a run once, of those ordered."""
    if report.command_id != attempt.command_id:
        return False
    if isinstance(report, CommandReported):
        return attempt.command is None
    known = any(run.command_id == report.command_id and run.index == report.index for run in attempt.runs)
    return not known and report.index < tasks[attempt.task].repetitions + tasks[attempt.task].warmups


def _belated(
    attempt: Attempt, report: RunReported | CommandReported, tasks: Sequence[Task]
) -> RunReported | CommandReported | None:
    """Return what is kept of a report that counts nowhere any more; None where nobody ever ordered what it tells.

    A second outcome of a command may correct the first; one of a command that was given up is on record.
    """
    if report.command_id not in attempt.commands:
        return None
    if isinstance(report, CommandReported):
        known = attempt.command if report.command_id == attempt.command_id else None
        return report if known is None or known.state is not report.state else None
    if any(run.command_id == report.command_id and run.index == report.index for run in attempt.runs):
        return None
    most = max(task.repetitions + task.warmups for task in tasks)
    return replace(report, evidence=_TOO_LATE) if report.index < most else None


def _is_news(attempt: Attempt, host: Host) -> bool:
    changed = (attempt.boot_id, attempt.release) != (host.boot_id, host.kernel_release)
    return changed or attempt.silent_since is not None
