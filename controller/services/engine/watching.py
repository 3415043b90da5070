"""Listens to the delivery side of every host in an active rollout: a trial boot that ended is told to its attempt."""

import asyncio
from contextlib import aclosing

import structlog

from controller.domain import bounds
from controller.domain.delivery import BootEnd, DeliveryStatus
from controller.domain.record.events import TrialEnded
from controller.domain.record.names import Key
from controller.domain.state.attempt import Attempt
from controller.services.engine.engine import Engine
from controller.services.ports import Clock, Delivery

_log = structlog.get_logger("watching")

# After a watch that broke.
_PAUSE_S = 1.0


class Watcher:
    """Keeps one watch over the hosts that active rollouts hold, and starts it anew when that set changes."""

    def __init__(self, engine: Engine, delivery: Delivery, clock: Clock, *, pause_s: float = _PAUSE_S) -> None:
        self._engine = engine
        self._delivery = delivery
        self._clock = clock
        self._pause_s = pause_s

    async def run(self) -> None:
        """Watch until cancelled."""
        seen = -1
        watched = -1
        task: asyncio.Task[None] | None = None
        try:
            while True:
                if self._engine.world.active_version != watched:
                    watched = self._engine.world.active_version
                    hosts = self._engine.world.active_hosts()
                    await _ended(task)
                    task = asyncio.create_task(self._watch(hosts)) if hosts else None
                seen = await self._engine.wait_for_change(seen, timeout_s=30.0)
        finally:
            await _ended(task)

    async def _watch(self, hosts: tuple[str, ...]) -> None:
        """Watch these hosts until cancelled. A watch that breaks begins anew, with the present state of every host."""
        while True:
            try:
                async with aclosing(self._delivery.watch(hosts)) as changes:
                    async for status in changes:
                        await self.noticed(status)
            except Exception:
                _log.exception("watch_broke", hosts=len(hosts))
            await asyncio.sleep(self._pause_s)

    async def noticed(self, status: DeliveryStatus) -> None:
        """Tell the host's attempt if the boot it asked for has ended by itself."""
        await tell_trial_end(self._engine, status, self._clock.now())


async def tell_trial_end(engine: Engine, status: DeliveryStatus, now: float) -> None:
    """Tell the host's attempt if the status says that the boot it asked for has ended by itself."""
    attempt = engine.world.active_attempt(status.host)
    if attempt is None:
        return
    ended = _trial_end(attempt, status, now, engine.resumed_at)
    if ended is not None:
        _log.info("trial_ended", host=status.host, end=ended.end, line=ended.line)
        await engine.observe(Key(attempt.uid, attempt.host), ended)


def _trial_end(attempt: Attempt, status: DeliveryStatus, now: float, resumed_at: float) -> TrialEnded | None:
    if attempt.trial is not None or not attempt.trial_command_id:
        return None
    for boot in status.boots:
        asked = boot.command_id == attempt.trial_command_id
        if asked and boot.end is not None and boot.end not in (BootEnd.REPLACED, BootEnd.STOPPED):
            return TrialEnded(
                at=now,
                command_id=boot.command_id,
                end=boot.end,
                line=bounds.sentence(boot.console_line),
                unattended=boot.started_at < resumed_at,
            )
    return None


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
