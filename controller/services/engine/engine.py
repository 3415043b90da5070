"""The engine: record what is learnt, decide what follows, persist it, then let it be performed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import structlog

from controller.domain.deciding.advance import advance
from controller.domain.deciding.moves import resumed
from controller.domain.errors import Conflict, Temporary
from controller.domain.judging.learning import learnt
from controller.domain.judging.old_against_old import judgements
from controller.domain.record.effects import Effect
from controller.domain.record.events import AttemptEvent, Event, RolloutPaused
from controller.domain.record.journey import Step
from controller.domain.record.names import Key, key_of_command
from controller.domain.record.verdicts import WaveJudged
from controller.domain.state.rollout import State
from controller.domain.state.snapshot import NOTHING, Decision
from controller.gate.ledger import Boot, Judgement
from controller.services.ports import Clock, Store
from controller.services.records import Commit
from controller.services.state.world import World, folded

_log = structlog.get_logger("engine")

# A tick that decides more often than this without coming to rest is a bug of ours, not work.
_MOST_DECISIONS_PER_AGGREGATE = 10_000
# However far away the next deadline is, the clock is read again by then: it may have been set forward.
_LONGEST_SLEEP_S = 30.0

_T = TypeVar("_T")


class Engine:
    """Owns the world. All changes go through here, one at a time, and are durable before anything acts on them."""

    def __init__(self, store: Store, clock: Clock, *, longest_sleep_s: float = _LONGEST_SLEEP_S) -> None:
        self._store = store
        self._clock = clock
        self._longest_sleep_s = longest_sleep_s
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._changes = 0
        self.world = World()
        # Command id -> effect: what was decided and is not known to be done.
        self.outstanding: dict[str, Effect] = {}
        self._streams: dict[str, tuple[str, ...]] = {}
        # Host -> its command ids of those; a host that connects costs what it was asked, not what the fleet was.
        self._of_host: dict[str, dict[str, None]] = {}
        # When this controller began to listen; 0 before `start`.
        self.resumed_at = 0.0
        self._latest = 0.0
        # Commits under way; the loop alone would let go of them.
        self._commits: set[asyncio.Task[Any]] = set()
        # Rollout uid -> the bug of ours that stops it, until that is recorded.
        self._stuck: dict[str, str] = {}
        # Why this controller may not go on: another one has taken over, or memory and store have parted.
        self._lost: Conflict | None = None
        self.on_effects: Callable[[tuple[Effect, ...]], None] = lambda _effects: None

    async def start(self) -> None:
        """Continue from the store: fold the log, restart the clocks of hosts that are not heard yet."""
        loaded = await self._store.load()
        hosts = {name: replace(host, connected=False) for name, host in loaded.hosts.items()}
        self.world = folded(((logged.stream, logged.event) for logged in loaded.events), hosts)
        for effect in loaded.effects:
            self._remember(effect)
        self.resumed_at = self._now()
        await self._resume()
        self.on_effects(loaded.effects)
        self._wake.set()

    async def _resume(self) -> None:
        """Let silence and deadlines count from now. One transaction, however many hosts there are."""
        events: dict[Key, Event] = {}
        for host in self.world.active_hosts():
            attempt = self.world.active_attempt(host)
            if attempt is not None and (attempt.in_flight or attempt.step is Step.DONE):
                policy = self.world.rollouts[attempt.uid].policy
                events[Key(attempt.uid, host)] = resumed(attempt, policy, self.resumed_at)
        await self._store.commit_all(
            [
                Commit(stream=key.stream, expected_revision=self.world.revision(key), events=(event,))
                for key, event in events.items()
            ]
        )
        for key, event in events.items():
            self.world.apply(key, event)

    async def close(self) -> None:
        """Wait for the commits under way: the store may be closed afterwards."""
        await asyncio.gather(*self._commits, return_exceptions=True)

    async def observe(self, key: Key, event: AttemptEvent, *, report_id: str = "") -> bool:
        """Record what was learnt about one host's attempt; False when this report was recorded before."""
        return await self._alone(lambda: self._commit(key, (event,), None, report_id))

    async def record(self, key: Key, decide: Callable[[], tuple[Event, ...]]) -> None:
        """Record an operator's decision about a rollout, or what was learnt about it; nothing when that is nothing.

        `decide` is asked when nothing else is under way, so that what it checks is still so when it is recorded.
        """
        await self._alone(lambda: self._record(key, decide))

    async def _record(self, key: Key, decide: Callable[[], tuple[Event, ...]]) -> None:
        if events := decide():
            await self._commit(key, events, None, "")

    async def effect_done(self, command_id: str) -> None:
        """Forget an effect that has been performed."""
        if not self._forget(command_id):
            return
        try:
            await self._store.effect_done(command_id)
        except Temporary as error:
            # It stays in the outbox: after a restart it is performed again, which its receiver notices.
            _log.warning("effect_not_removed", command_id=command_id, error=str(error))
        except Conflict as error:
            # Another controller has taken over.
            self._lost = error
            self._wake.set()

    async def settle(self) -> int:
        """Decide until nothing is due; return the number of decisions."""
        decisions = 0
        self.world.mark_due(self._now())
        while (key := self.world.take_dirty()) is not None:
            # Most hosts that are looked at stay as they are: that takes no task and no turn. A rollout may judge a
            # wave, which walks its hosts and is not done twice.
            if key.host and not self._lock.locked() and not self._advance(key).events:
                continue
            try:
                decisions += await self._alone(lambda key=key: self._decide(key))  # type: ignore[misc]  # bound now
            except BaseException:
                self.world.mark(key)
                raise
            assert decisions < _MOST_DECISIONS_PER_AGGREGATE * max(1, len(self.world.hosts) + 1), "decisions do not end"
        return decisions

    async def run(self) -> None:
        """Settle whenever something changed or a deadline has come, until cancelled.

        Raises Conflict when this controller may not go on. A store that fails for now is tried again.
        """
        while True:
            self._wake.clear()
            if self._lost is not None:
                raise self._lost
            try:
                await self.settle()
            except Temporary as error:
                _log.error("store_fails", error=str(error), retry_after_s=error.retry_after_s)
                await asyncio.sleep(error.retry_after_s)
                continue
            await self._until_woken()

    async def _until_woken(self) -> None:
        deadline = self.world.next_deadline()
        ahead_s = self._longest_sleep_s if deadline is None else max(0.0, deadline - self._now()) + 0.01
        try:
            async with asyncio.timeout(min(ahead_s, self._longest_sleep_s)):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _now(self) -> float:
        """Return the time, which never goes back: a deadline that has come stays due until it is acted on."""
        self._latest = max(self._latest, self._clock.now())
        return self._latest

    async def _alone(self, act: Callable[[], Awaitable[_T]]) -> _T:
        """Run `act` when no other change is under way, to its end even if the caller is cancelled meanwhile.

        A stream that breaks cancels its handler: had the store taken the event by then, memory would not know of it.
        """

        async def in_turn() -> _T:
            async with self._lock:
                return await act()

        task = asyncio.get_running_loop().create_task(in_turn())
        self._commits.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[_T]) -> None:
        self._commits.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warning("not_recorded", error=str(task.exception()))

    async def _decide(self, key: Key) -> bool:
        """Decide about one aggregate and record it; return whether anything was decided."""
        decision = self._advance(key)
        if decision.events:
            await self._commit(key, decision.events, _effects_of(key, decision), "")
        return bool(decision.events)

    def _advance(self, key: Key) -> Decision:
        """Ask what follows. A bug of ours pauses the rollout it concerns and leaves the others alone."""
        running = self.world.rollouts[key.uid].state is State.RUNNING
        if not running:
            self._stuck.pop(key.uid, None)
        elif not key.host and key.uid in self._stuck:
            return Decision(events=(RolloutPaused(at=self._now(), reason=self._stuck[key.uid]),))
        try:
            decision = advance(self.world.snapshot(key), self._now())
            self.world.wake(key, decision.wake_at)
            return decision
        except Exception as error:
            _log.exception("cannot_decide", stream=key.stream)
            if running:
                what = key.host or "the rollout"
                self._stuck[key.uid] = f"internal error while deciding about {what}: {error!r}; please report it"
                self.world.mark(Key(key.uid))
            return NOTHING

    def outstanding_of(self, host: str) -> tuple[Effect, ...]:
        """Return what the host is asked and has not confirmed."""
        return tuple(self.outstanding[command_id] for command_id in self._of_host.get(host, ()))

    def host_named(self, name: str) -> Host | None:
        """Return what is known of a host."""
        return self.world.hosts.get(name)

    def delivery_of(self, host: str, command_id: str) -> str:
        """Return the delivery that is pinned in the plan of a command, or else of the host's newest rollout."""
        return self.world.delivery_of(host, command_id)

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    @property
    def changes(self) -> int:
        """Grows with every recorded change."""
        return self._changes

    async def wait_for_change(self, seen: int, timeout_s: float) -> int:
        """Return the number of changes once it exceeds `seen`, or after the timeout."""
        async with self._changed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait_for(lambda: self._changes > seen)
            except TimeoutError:
                pass
        return self._changes

    async def touch(self) -> None:
        """Tell watchers that something visible changed that is not in the log (an agent's progress)."""
        self._changes += 1
        async with self._changed:
            self._changed.notify_all()

    async def _commit(
        self, key: Key, events: tuple[Event, ...], effects: tuple[Effect, ...] | None, report_id: str
    ) -> bool:
        commit = Commit(
            stream=key.stream,
            expected_revision=self.world.revision(key),
            events=events,
            effects=effects,
            report_id=report_id,
            boots=self._boots(key, events),
            judgements=self._judgements(key, events),
        )
        rehearsed = self.world.rehearse(key, events)
        try:
            if not await self._store.commit(commit):
                return False
        except Conflict as error:
            self._lost = error
            self._wake.set()
            raise
        for event, after in zip(events, rehearsed, strict=True):
            self.world.apply(key, event, after)
            _log.info("recorded", stream=key.stream, kind=type(event).__name__, what=_brief(event))
        if effects is not None:
            self._replace(key.stream, effects)
            self.on_effects(effects)
        self._wake.set()
        await self.touch()
        return True

    def _boots(self, key: Key, events: tuple[Event, ...]) -> tuple[Boot, ...]:
        if not key.host:
            return ()
        rollout, attempt = self.world.rollouts[key.uid], self.world.attempts[key.uid][key.host]
        return tuple(boot for event in events for boot in learnt(rollout, attempt, event))

    def _judgements(self, key: Key, events: tuple[Event, ...]) -> tuple[Judgement, ...]:
        judged = [event for event in events if isinstance(event, WaveJudged)]
        return tuple(one for event in judged for one in judgements(self.world.rollouts[key.uid], event))

    def _replace(self, stream: str, effects: tuple[Effect, ...]) -> None:
        for command_id in self._streams.pop(stream, ()):
            self._forget(command_id)
        for effect in effects:
            self._remember(effect)
        self._streams[stream] = tuple(effect.command_id for effect in effects)

    def _remember(self, effect: Effect) -> None:
        self.outstanding[effect.command_id] = effect
        key = key_of_command(effect.command_id)
        self._of_host.setdefault(key.host, {})[effect.command_id] = None
        self._streams[key.stream] = (*self._streams.get(key.stream, ()), effect.command_id)

    def _forget(self, command_id: str) -> bool:
        """Let go of an effect; return whether it was outstanding."""
        host = key_of_command(command_id).host
        names = self._of_host.get(host, {})
        names.pop(command_id, None)
        if not names:
            self._of_host.pop(host, None)
        return self.outstanding.pop(command_id, None) is not None


def _effects_of(key: Key, decision: Decision) -> tuple[Effect, ...] | None:
    """A host's move replaces what its earlier moves left outstanding.

    Of a rollout's decisions only one that asks its checks does: the others leave checks that are under way alone.
    """
    return decision.effects if key.host else decision.effects or None


def _brief(event: Event) -> str:
    for name in ("trigger", "reason", "state", "end", "count"):
        value = getattr(event, name, None)
        if value is not None:
            step = getattr(event, "step", "")
            return f"{value} -> {step}" if step else str(value)
    return ""
