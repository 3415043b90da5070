"""The engine: record what is learnt, decide what follows, persist it, then let it be performed."""

import asyncio
from collections.abc import Callable

import structlog

from controller.domain.advance import advance
from controller.domain.effects import Effect
from controller.domain.events import AttemptEvent, Event, HostSilent
from controller.domain.journey import MUST_BE_HEARD
from controller.domain.snapshot import Decision
from controller.services.ports import Clock, Store
from controller.services.records import Commit
from controller.services.world import Key, World, folded

_log = structlog.get_logger("engine")

# A tick that decides more often than this without coming to rest is a bug of ours, not work.
_MOST_DECISIONS_PER_AGGREGATE = 10_000


class Engine:
    """Owns the world. All changes go through here, one at a time, and are durable before anything acts on them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._changes = 0
        self.world = World()
        # Command id -> effect: what was decided and is not known to be done.
        self.outstanding: dict[str, Effect] = {}
        self._streams: dict[str, tuple[str, ...]] = {}
        self.on_effects: Callable[[tuple[Effect, ...]], None] = lambda _effects: None

    async def start(self) -> None:
        """Continue from the store: fold the log, restart the clocks of hosts that are not heard yet."""
        loaded = await self._store.load()
        self.world = folded(((logged.stream, logged.event) for logged in loaded.events), loaded.hosts)
        for effect in loaded.effects:
            self._remember(effect)
        now = self._clock.now()
        for host in self.world.active_hosts():
            attempt = self.world.active_attempt(host)
            if attempt is not None and attempt.step in MUST_BE_HEARD and attempt.silent_since is None:
                await self.observe(Key(attempt.uid, host), HostSilent(at=now))
        self.on_effects(loaded.effects)
        self._wake.set()

    async def observe(self, key: Key, event: AttemptEvent, *, report_id: str = "") -> bool:
        """Record what was learnt about one host's attempt; False when this report was recorded before."""
        async with self._lock:
            return await self._commit(key, (event,), None, report_id)

    async def record(self, key: Key, events: tuple[Event, ...]) -> None:
        """Record an operator's decision about a rollout."""
        async with self._lock:
            await self._commit(key, events, None, "")

    async def note_report(self, report_id: str) -> bool:
        """Record that a report was received that belongs to no attempt; False when it was received before."""
        async with self._lock:
            return await self._store.commit(
                Commit(stream="reports", expected_revision=0, events=(), report_id=report_id)
            )

    async def effect_done(self, command_id: str) -> None:
        """Forget an effect that has been performed."""
        if self.outstanding.pop(command_id, None) is not None:
            await self._store.effect_done(command_id)

    async def settle(self) -> int:
        """Decide until nothing is due; return the number of decisions."""
        decisions = 0
        self.world.mark_due(self._clock.now())
        while (key := self.world.take_dirty()) is not None:
            async with self._lock:
                decision = advance(self.world.snapshot(key), self._clock.now())
                if decision.events:
                    await self._commit(key, decision.events, _effects_of(key, decision), "")
            decisions += bool(decision.events)
            assert decisions < _MOST_DECISIONS_PER_AGGREGATE * max(1, len(self.world.hosts) + 1), "decisions do not end"
        return decisions

    async def run(self) -> None:
        """Settle whenever something changed or a deadline has come, until cancelled."""
        while True:
            self._wake.clear()
            await self.settle()
            await self._until_woken()

    async def _until_woken(self) -> None:
        deadline = self.world.next_deadline()
        timeout_s = None if deadline is None else max(0.0, deadline - self._clock.now()) + 0.01
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            pass

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
        )
        if not await self._store.commit(commit):
            return False
        for event in events:
            self.world.apply(key, event)
            _log.info("recorded", stream=key.stream, kind=type(event).__name__, what=_brief(event))
        if effects is not None:
            self._replace(key.stream, effects)
            self.on_effects(effects)
        self._wake.set()
        await self.touch()
        return True

    def _replace(self, stream: str, effects: tuple[Effect, ...]) -> None:
        for command_id in self._streams.pop(stream, ()):
            self.outstanding.pop(command_id, None)
        for effect in effects:
            self._remember(effect)
        self._streams[stream] = tuple(effect.command_id for effect in effects)

    def _remember(self, effect: Effect) -> None:
        self.outstanding[effect.command_id] = effect
        uid, _, rest = effect.command_id.partition("/")
        stream = Key(uid, rest.partition("/")[0]).stream
        self._streams[stream] = (*self._streams.get(stream, ()), effect.command_id)


def _effects_of(key: Key, decision: Decision) -> tuple[Effect, ...] | None:
    """A host's move replaces what its earlier moves left outstanding; a rollout's decisions have no effects."""
    return decision.effects if key.host else None


def _brief(event: Event) -> str:
    for name in ("trigger", "reason", "state", "end", "count"):
        value = getattr(event, name, None)
        if value is not None:
            step = getattr(event, "step", "")
            return f"{value} -> {step}" if step else str(value)
    return ""
