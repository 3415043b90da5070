"""What deliveries do on hosts, told while they do it: at once to whoever watches, and gathered into the log."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import structlog

from controller.domain import bounds
from controller.domain.errors import KernrollError
from controller.domain.printable import printable
from controller.domain.record.actions.work import WorkKind, WorkLine, WorkTold
from controller.domain.record.deadlines import step_limits
from controller.domain.record.names import Key, key_of_command
from controller.domain.redaction import redacted
from controller.domain.state.attempt import Attempt
from controller.services.engine.engine import Engine
from controller.services.ports import Clock
from controller.views.models import LiveProgress
from controller.words import duration_text

_log = structlog.get_logger("working")

# Lines that come within it are one event of the log; a controller that dies forgets at most so much.
_GATHER_S: Final = 5.0
# How often watchers see how long a task takes. One that takes no longer is told when it is done.
_LOOK_S: Final = 2.0
# When a task that takes long is told of in the log, and after the last of them again and again.
_STILL_S: Final = (10.0, 30.0, 60.0)
_AGAIN_S: Final = 60.0


class WorkJournal:
    """See WorkLog: writes into the attempts' streams of the event log."""

    def __init__(self, engine: Engine, clock: Clock, *, gather_s: float = _GATHER_S, look_s: float = _LOOK_S) -> None:
        self._engine = engine
        self._clock = clock
        self._gather_s = gather_s
        self._look_s = look_s
        # By host, what is under way there.
        self.live: dict[str, LiveProgress] = {}
        # By command, what was told of it: a host that is tried again and again says the same again and again.
        self._told: dict[str, set[tuple[str, str, str]]] = {}
        # The loop alone would let go of them.
        self._tasks: set[asyncio.Task[None]] = set()

    def work(self, host: str, command_id: str, way: str) -> "HostWork":
        """See WorkLog."""
        for command in [one for one in self._told if one not in self._engine.outstanding and one != command_id]:
            del self._told[command]
        known = self._told.setdefault(command_id, set())
        return HostWork(_journal=self, host=host, command_id=command_id, way=way, _known=known)

    async def close(self) -> None:
        """Write what was told last, and look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def now(self) -> float:
        """Return the time."""
        return self._clock.now()

    def attempt(self, host: str, command_id: str) -> Attempt | None:
        """Return the attempt whose command it is, where the host is in it still."""
        key = key_of_command(command_id)
        return self._engine.world.attempts.get(key.uid, {}).get(host) if key.host == host else None

    def limit_s(self, attempt: Attempt) -> float | None:
        """Return how long the attempt's step may take."""
        policy = self._engine.world.rollouts[attempt.uid].policy
        return step_limits(policy, attempt.boot_timeout_s).get(attempt.step)

    def start(self, work: "HostWork") -> None:
        """Look after a command's work until it has ended."""
        task = asyncio.get_running_loop().create_task(self._look_after(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_after(self, work: "HostWork") -> None:
        try:
            gathered_s = self._gather_s
            while not work.ended:
                self.live[work.host] = LiveProgress(step=work.now_text(), fraction=0.0, delivers=True)
                await self._engine.touch()
                gathered_s += self._look_s
                if gathered_s >= self._gather_s and work.lines:
                    gathered_s = 0.0
                    await self._write(work)
                await work.changed(self._look_s)
                work.look()
        finally:
            work.stop()
            self.live.pop(work.host, None)
            await self._write(work)
            await self._engine.touch()

    async def _write(self, work: "HostWork") -> None:
        event = work.taken()
        if event is None or self.attempt(work.host, event.command_id) is None:
            return
        try:
            await self._engine.observe(Key(key_of_command(event.command_id).uid, work.host), event)
        except KernrollError as error:
            # Nothing depends on it but the deadline, and that is the one that was.
            _log.warning("work_not_recorded", host=work.host, command_id=event.command_id, error=str(error))


@dataclass(slots=True, kw_only=True)
class HostWork:
    """See Work: of one command."""

    _journal: WorkJournal
    host: str
    command_id: str
    way: str
    # What was told of the command, in earlier tries as well.
    _known: set[tuple[str, str, str]]
    lines: list[WorkLine] = field(default_factory=list)
    ended: bool = False
    _left_out: int = 0
    _began: bool = False
    # The task at work, when it began, and how often it was told to be at it still.
    _task: str = ""
    _since: float = 0.0
    _stills: int = 0
    # How many others' turn is waited for; None while nobody's is.
    _waits: str | None = None
    # What was left of the step's time when the waiting began; None where that is not known.
    _left_s: float | None = None
    _moves: bool = False
    _deadline: float | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, kind: WorkKind, what: str, *, seconds: float = 0.0, sentence: str = "") -> None:
        """See Work."""
        now = self._journal.now()
        sentence = redacted(sentence)
        if kind is WorkKind.WAITS:
            self._hold(now)
            if self._waits is None:
                self._add(now, kind, what, sentence=sentence)
            self._waits, self._since = sentence, now if self._waits is None else self._since
        elif kind is WorkKind.RUNNING:
            self._task, self._since, self._stills = what, now, 0
        else:
            if kind in (WorkKind.BEGAN, WorkKind.ENDED):
                self._release(now)
                self._task, self._since, self._stills = what, now, 0
            self._add(now, kind, what, seconds=seconds, sentence=sentence)
        if not self._began:
            self._began = True
            self._journal.start(self)
        self.ended = self.ended or kind is WorkKind.ENDED
        self._news.set()

    def now_text(self) -> str:
        """Return what is under way, and for how long."""
        if self._waits is not None:
            return self._waits
        long_s = self._journal.now() - self._since
        through = "by ssh" if self.way == "ssh" else "through its agent"
        return printable(f"{through}: {self._task}{f', for {duration_text(long_s)}' if long_s >= 1 else ''}", 200)

    async def changed(self, most_s: float) -> None:
        """Return when the work has ended, or after `most_s`."""
        try:
            async with asyncio.timeout(most_s):
                while not self.ended:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return

    def look(self) -> None:
        """Tell of a task that takes long, at longer and longer intervals."""
        if self.ended or self._waits is not None or not self._task:
            return
        now = self._journal.now()
        if now - self._since >= _still_at(self._stills):
            self._stills += 1
            self._add(now, WorkKind.RUNNING, self._task, seconds=now - self._since)

    def stop(self) -> None:
        """Note that nobody tells of it any more."""
        if not self.ended:
            self._add(self._journal.now(), WorkKind.ENDED, self._task, sentence="this controller stops")
            self.ended = True

    def taken(self) -> WorkTold | None:
        """Return what was told since the last time, None when nothing was."""
        if not self.lines and not self._moves:
            return None
        event = WorkTold(
            at=self._journal.now(),
            command_id=self.command_id,
            way=self.way,
            lines=tuple(self.lines),
            moves_deadline=self._moves,
            deadline=self._deadline,
        )
        self.lines, self._moves = [], False
        return event

    def _add(self, now: float, kind: WorkKind, what: str, *, seconds: float = 0.0, sentence: str = "") -> None:
        again = (kind, what, f"{self._stills}" if kind is WorkKind.RUNNING else sentence)
        if again in self._known:
            return
        if len(self._known) >= bounds.WORK_LINES and kind is not WorkKind.ENDED:
            self._left_out += 1
            return
        self._known.add(again)
        if kind is WorkKind.ENDED and self._left_out:
            sentence = f"{sentence}{'; ' if sentence else ''}{self._left_out} more lines are left out"
        line = WorkLine(
            at=now,
            kind=kind,
            what=bounds.name(redacted(what)),
            seconds=round(bounds.seconds(seconds), 1),
            sentence=printable(sentence, bounds.WORK_CHARACTERS),
        )
        self.lines.append(line)

    def _hold(self, now: float) -> None:
        """Let the step's time stand still while others' turn is waited for."""
        attempt = self._journal.attempt(self.host, self.command_id)
        if self._waits is None and attempt is not None and attempt.command_id == self.command_id:
            self._left_s = None if attempt.deadline is None else attempt.deadline - now
            self._moves, self._deadline = True, None

    def _release(self, now: float) -> None:
        """Let it go on from where it stood; a controller that died while it stood still gives it anew."""
        attempt = self._journal.attempt(self.host, self.command_id)
        if attempt is None or attempt.command_id != self.command_id:
            return
        if self._waits is not None or attempt.deadline is None:
            left_s = self._journal.limit_s(attempt) if self._left_s is None else max(0.0, self._left_s)
            self._moves, self._deadline = True, None if left_s is None else now + left_s
            self._waits = self._left_s = None


def _still_at(times: int) -> float:
    """Return after how long a task is told of again that was told of so often."""
    return _STILL_S[times] if times < len(_STILL_S) else _STILL_S[-1] + _AGAIN_S * (times - len(_STILL_S) + 1)
