"""Agents' sessions: what a host says becomes a recorded observation; what it is asked goes down its stream."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import structlog

from controller.domain.attempt import MOST_FINDINGS, Attempt
from controller.domain.effects import AgentEffect, CancelCommand
from controller.domain.errors import Temporary
from controller.domain.events import (
    CommandReported,
    CommandState,
    FatalLogged,
    HostHeard,
    HostSilent,
    LogFinding,
    RunReported,
    SeriousLogged,
)
from controller.domain.hosts import Host
from controller.domain.journey import MEASURING, Step
from controller.domain.policy import Task
from controller.gate.kernel_log import Finding, Severity, classify
from controller.services.identity import Clones
from controller.services.loop import Engine
from controller.services.ports import Clock, Store
from controller.services.world import Key
from controller.views.models import LiveProgress

_log = structlog.get_logger("sessions")

# A stream that takes nothing for this long is broken.
_SEND_TIMEOUT_S = 30.0
# What one host may add to one rollout's log without having been asked, while this controller runs: boots, lines of its
# log. Far more than any honest host has to say; whoever says more is not heard, which is a failure.
_MOST_UNASKED = 5000
# A log that is longer is read in a thread, so that it holds nobody up.
_SHORT_LOG_CHARACTERS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReported:
    """Kernel-log lines a host reported, oldest first."""

    report_id: str
    boot_id: str
    lines: tuple[str, ...]


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


class Sessions:
    """All connected agents; also the Agents port for the performer."""

    def __init__(self, engine: Engine, store: Store, clock: Clock) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._connected: dict[str, AgentStream] = {}
        self._unasked: Counter[Key] = Counter()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="log")
        self.live: dict[str, LiveProgress] = {}
        # Of connected hosts, by their newest heartbeat.
        self.held: dict[str, Held] = {}
        # Host -> the command that its agent refused last, and is to answer by a report.
        self._refused: dict[str, str] = {}
        self.on_connected: Callable[[str], None] = lambda _host: None
        self.clones = Clones(clock)

    async def connected(self, session: AgentStream, host: Host) -> None:
        """Take over a host's new stream: remember its facts, replace an older stream, tell its attempt.

        Raises SentAway when another machine of the name is connected.
        """
        self.clones.check(host.name, host.boot_id, connected=session.host in self._connected)
        older = self._connected.get(session.host)
        self._connected[session.host] = session
        if older is not None:
            older.close("another session of this host has begun")
        now = self._clock.now()
        known = self._engine.world.hosts.get(host.name)
        # A Hello says nothing of the log; within one boot what was heard of it stands.
        serious = known.serious if known is not None and known.boot_id == host.boot_id else {}
        heard = replace(host, connected=True, last_seen=now, serious=serious)
        await self._store.save_host(heard)
        if self._connected.get(session.host) is not session:
            # A newer session began meanwhile: what it says of the host is newer too.
            return
        self._engine.world.see(heard)
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
        """Note that a stream ended, unless a newer one has replaced it."""
        if self._connected.get(session.host) is not session:
            return
        del self._connected[session.host]
        self.live.pop(session.host, None)
        self.held.pop(session.host, None)
        known = self._engine.world.hosts.get(session.host)
        now = self._clock.now()
        if known is not None:
            self._engine.world.see(replace(known, connected=False, last_seen=now))
        await self._engine.touch()
        _log.info("disconnected", host=session.host)
        while not self.is_connected(session.host):
            attempt = self._engine.world.active_attempt(session.host)
            if attempt is None or attempt.silent_since is not None:
                return
            try:
                await self._engine.observe(Key(attempt.uid, attempt.host), HostSilent(at=now))
            except Temporary as error:
                # Unrecorded, this silence would never end: nobody else notices that the host is gone.
                _log.warning("silence_not_recorded", host=session.host, error=str(error))
                await asyncio.sleep(error.retry_after_s)

    async def holds(self, session: AgentStream, held: Held) -> None:
        """Take note of what an agent holds. What it has taken and neither holds nor answers is to be tried again.

        Within one stream everything comes in the order in which it was said: an answer before the heartbeat that does
        not count it any more, and a receipt before the heartbeat that is to name its command.
        """
        if self._connected.get(session.host) is not session:
            # An older stream's word, overtaken by a newer one.
            return
        self.held[session.host] = held
        attempt = self._engine.world.active_attempt(session.host)
        if attempt is None or held.spooled_reports or attempt.boot_id != held.boot_id:
            return
        name = attempt.command_id
        unanswered = attempt.step in MEASURING and name and attempt.command is None
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
        if known is not None:
            self._engine.world.hosts[host] = replace(known, last_seen=self._clock.now())

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
        uid, _, rest = report.command_id.partition("/")
        attempt = self._engine.world.attempts.get(uid, {}).get(host)
        if attempt is None or rest.partition("/")[0] != host:
            # Nothing is kept of it: told again, it would be ignored again.
            _log.warning("report_of_unknown_command", host=host, command_id=report.command_id)
            return
        asked_for = _is_asked_for(attempt, report, self._engine.world.rollouts[uid].policy.tasks)
        # A second outcome of one command may correct the first, and is nothing that was asked for.
        if asked_for and (isinstance(report, RunReported) or attempt.command is None or self._may_add(attempt)):
            await self._engine.observe(Key(uid, host), report, report_id=_own(host, report.report_id))
        else:
            _log.info("report_not_asked_for", host=host, command_id=report.command_id, kind=type(report).__name__)
        if isinstance(report, CommandReported):
            await self._engine.effect_done(report.command_id)

    async def _kernel_log(self, host: str, report: LogReported) -> None:
        found = await self._classified(report.lines)
        # With the host first: told again after a failure in between, it changes nothing there.
        await self._remember_serious(host, report.boot_id, found)
        attempt = self._engine.world.active_attempt(host)
        event = None if attempt is None else self._learnt_from_log(attempt, report, found)
        # What is not news now would be none if it were told again: nothing has to be kept of it.
        if attempt is not None and event is not None and self._may_add(attempt):
            await self._engine.observe(Key(attempt.uid, host), event, report_id=_own(host, report.report_id))

    async def _classified(self, lines: Sequence[str]) -> Sequence[Finding]:
        if sum(map(len, lines)) <= _SHORT_LOG_CHARACTERS:
            return classify(lines)
        return await asyncio.get_running_loop().run_in_executor(self._threads, classify, lines)

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

    async def _remember_serious(self, host: str, boot_id: str, found: Sequence[Finding]) -> None:
        """Keep serious lines of the present boot with the host: a later rollout must know what its old kernel wrote."""
        known = self._engine.world.hosts.get(host)
        if known is None or known.boot_id != boot_id:
            return
        fresh = {one.signature: one.line for one in reversed(found) if one.severity is Severity.SERIOUS}
        room = MOST_FINDINGS - len(known.serious)
        added = {name: fresh[name] for name in sorted(fresh.keys() - known.serious.keys())[: max(0, room)]}
        if not added:
            return
        after = replace(known, serious={**known.serious, **added})
        await self._store.save_host(after)
        self._engine.world.hosts[host] = after

    def _learnt_from_log(
        self, attempt: Attempt, report: LogReported, found: Sequence[Finding]
    ) -> FatalLogged | SeriousLogged | None:
        """Return what the lines say that is worth recording: the first fatal one, else serious ones not seen yet."""
        fatal = next((one for one in found if one.severity is Severity.FATAL), None)
        if fatal is not None and attempt.fatal is not None and attempt.fatal.boot_id == report.boot_id:
            # The first of a boot is the one that counts.
            return None
        if fatal is not None:
            return FatalLogged(
                at=self._clock.now(),
                report_id=report.report_id,
                boot_id=report.boot_id,
                signature=fatal.signature,
                line=fatal.line,
            )
        known = {one.signature for one in attempt.findings if one.boot_id == report.boot_id}
        fresh = {
            one.signature: LogFinding(signature=one.signature, line=one.line, boot_id=report.boot_id)
            for one in reversed(found)
            if one.severity is Severity.SERIOUS and one.signature not in known
        }
        findings = tuple(fresh[signature] for signature in sorted(fresh))[: max(0, MOST_FINDINGS - len(known))]
        return SeriousLogged(at=self._clock.now(), report_id=report.report_id, findings=findings) if findings else None

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

    def is_connected(self, host: str) -> bool:
        """Whether the host has a stream now."""
        return host in self._connected


def _own(host: str, report_id: str) -> str:
    """Return the report's name among those of all hosts: no host can use up another's."""
    return f"{host}/{report_id}"


def _is_asked_for(attempt: Attempt, report: RunReported | CommandReported, tasks: Sequence[Task]) -> bool:
    """Whether a report tells something that was ordered and is not known: a run once, and as many as were ordered.

    What is told of a command that was given up counts nowhere, so nothing is kept of it.
    """
    if report.command_id != attempt.command_id:
        return False
    if isinstance(report, CommandReported):
        return attempt.command is None or attempt.command.state is not report.state
    task = tasks[attempt.task]
    known = any(run.command_id == report.command_id and run.index == report.index for run in attempt.runs)
    return not known and report.index < task.repetitions + task.warmups


def _is_news(attempt: Attempt, host: Host) -> bool:
    changed = (attempt.boot_id, attempt.release) != (host.boot_id, host.kernel_release)
    return changed or attempt.silent_since is not None
