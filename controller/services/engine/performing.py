"""Carries out what was decided: at least once, in order per host, until it is done or superseded."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from controller.domain import bounds
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import Conflict, Permanent, Temporary
from controller.domain.record.effects import (
    AcknowledgeBoot,
    AgentEffect,
    ArmKernel,
    BlessKernel,
    CancelCommand,
    CyclePower,
    DeliveryEffect,
    DrainHost,
    Effect,
    PlaceEffect,
    RebootHost,
    RevertKernel,
    RunCheck,
    RunWorkload,
    StageKernel,
    UncordonHost,
)
from controller.domain.record.events import DeliveryReported, PlaceReported
from controller.domain.record.names import Key, key_of_command
from controller.services.engine.checking import CheckRunner
from controller.services.engine.engine import Engine
from controller.services.engine.powering import PowerRunner
from controller.services.ports import Agents, Clock, Delivery, Kernels, Places

_log = structlog.get_logger("perform")

# After an error that nobody foresaw.
_PAUSE_S = 5.0
# Before what was refused is tried again.
_REFUSED_PAUSES = 12


@dataclass(slots=True, kw_only=True)
class _Turn:
    """The one effect that a host's delivery is at, or its place."""

    command_id: str
    task: asyncio.Task[None] | None
    # Whether it may be broken off: while it waits to be tried again, while it stages, and while it drains. A call that
    # changes what boots next is waited for: broken off here it might still be carried out there, after what supersedes
    # it.
    may_stop: bool = False


# A host, and whether its place works on it or its delivery.
_Worked = tuple[str, bool]


def _worked(effect: DeliveryEffect | PlaceEffect) -> _Worked:
    return effect.host, isinstance(effect, PlaceEffect)


class Performer:
    """Works off the outbox. Every effect is looked up again before it is tried, so a superseded one is dropped."""

    def __init__(
        self,
        engine: Engine,
        agents: Agents,
        delivery: Delivery,
        kernels: Kernels,
        clock: Clock,
        *,
        places: Places,
        checks: CheckRunner | None = None,
        power: PowerRunner | None = None,
        pause_s: float = _PAUSE_S,
    ) -> None:
        """Prepare; without `checks` and `power` none is ever asked, and each ends by its deadline."""
        self._engine = engine
        self._agents = agents
        self._delivery = delivery
        self._places = places
        self._kernels = kernels
        self._clock = clock
        self._checks = checks
        self._power = power
        self._pause_s = pause_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: set[str] = set()
        # By host and by who works on it: a place that does not answer keeps no kernel waiting.
        self._busy: dict[_Worked, asyncio.Lock] = {}
        self._turns: dict[_Worked, _Turn] = {}
        # Command -> why its host was not put back into service when it was tried last.
        self._refusals: dict[str, str] = {}

    def submit(self, effects: tuple[Effect, ...]) -> None:
        """Start working on these effects; those already under way are left alone."""
        for effect in effects:
            if effect.command_id in self._running:
                continue
            self._running.add(effect.command_id)
            if isinstance(effect, DeliveryEffect | PlaceEffect):
                self._make_way(_worked(effect))
            task = asyncio.get_running_loop().create_task(self._work(effect))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def host_connected(self, host: str) -> None:
        """Send again what the host was asked and has not confirmed."""
        self.submit(tuple(effect for effect in self._engine.outstanding_of(host) if isinstance(effect, AgentEffect)))

    def _make_way(self, worked: _Worked) -> None:
        """Break off what the host is at when nobody wants it any more: a revert does not wait for a stage."""
        turn = self._turns.get(worked)
        if turn is None or turn.task is None or turn.command_id in self._engine.outstanding:
            return
        if turn.may_stop:
            _log.info("superseded", command_id=turn.command_id)
            turn.task.cancel()

    async def close(self) -> None:
        """Stop working; what is not done stays in the outbox."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, effect: Effect) -> None:
        try:
            if isinstance(effect, RunCheck):
                if (checks := self._checks) is not None:
                    await self._insist(effect, lambda: checks.work(effect))
            elif isinstance(effect, CyclePower):
                # Not in turn with the host's delivery, which may be waiting for that very host.
                if (power := self._power) is not None:
                    await self._insist(effect, lambda: power.work(effect))
            elif isinstance(effect, RunWorkload | CancelCommand):
                await self._insist(effect, lambda: self._send(effect))
            else:
                worked = _worked(effect)
                async with self._busy.setdefault(worked, asyncio.Lock()):
                    turn = _Turn(command_id=effect.command_id, task=asyncio.current_task())
                    self._turns[worked] = turn
                    await self._insist(effect, lambda: self._call(effect, turn), turn)
        finally:
            self._running.discard(effect.command_id)

    async def _insist(self, effect: Effect, act: Callable[[], Awaitable[None]], turn: _Turn | None = None) -> None:
        """Try until it is done or superseded. Whatever goes wrong, an outstanding effect is never let go of."""
        while effect.command_id in self._engine.outstanding:
            try:
                await act()
            except Conflict:
                # This controller may not go on; its loop ends it.
                return
            except Temporary as error:
                _log.warning("retry", command_id=effect.command_id, error=str(error), after_s=error.retry_after_s)
                await _pause(error.retry_after_s, turn)
            except Exception:
                _log.exception("cannot_perform", command_id=effect.command_id)
                await _pause(self._pause_s, turn)
            else:
                return

    async def _send(self, effect: AgentEffect) -> None:
        """Hand a command to the agent's stream; when it is away, its next Hello triggers this again."""
        sent = await self._agents.send(effect)
        _log.info("sent" if sent else "waiting_for_agent", command_id=effect.command_id)

    async def _call(self, effect: DeliveryEffect | PlaceEffect, turn: _Turn) -> None:
        """Ask once, within the time of whoever is asked, and record the answer."""
        status, refused = None, ""
        turn.may_stop = isinstance(effect, StageKernel | DrainHost)
        try:
            if isinstance(effect, PlaceEffect):
                async with asyncio.timeout(self._places.longest_s(effect)):
                    await self._move_load(effect)
            else:
                async with asyncio.timeout(self._delivery.longest_s(effect)):
                    await self._deliver(effect)
                    status = await self._status(effect)
        except TimeoutError as error:
            asked = "place" if isinstance(effect, PlaceEffect) else "delivery"
            told = f"no answer from the {asked} of {effect.host} in time"
            raise Temporary(told, retry_after_s=self._pause_s) from error
        except Permanent as error:
            refused = str(error)
        finally:
            turn.may_stop = False
        if refused and isinstance(effect, UncordonHost):
            # Whatever refuses it, somebody can mend that; nothing else brings the host back into service.
            await self._still_out(effect, refused)
            raise Temporary(refused, retry_after_s=_REFUSED_PAUSES * self._pause_s)
        await self._answer(effect, status, refused)

    async def _still_out(self, effect: UncordonHost, refused: str) -> None:
        """Record why a host stays out of service, once for each reason."""
        if self._refusals.get(effect.command_id) != refused:
            self._refusals[effect.command_id] = refused
            report = PlaceReported(at=self._clock.now(), command_id=effect.command_id, error=bounds.sentence(refused))
            await self._engine.observe(Key(key_of_command(effect.command_id).uid, effect.host), report)

    async def _move_load(self, effect: PlaceEffect) -> None:
        match effect:
            case DrainHost():
                await self._places.drain(effect.host, effect.command_id)
            case UncordonHost():
                await self._places.uncordon(effect.host, effect.command_id, drained_by=effect.drained_by)

    async def _status(self, effect: DeliveryEffect) -> DeliveryStatus | None:
        """Return the kernel side afterwards; None when it cannot be had and nothing depends on it."""
        try:
            return await self._delivery.status(effect.host)
        except Temporary as error:
            if isinstance(effect, StageKernel | RevertKernel):
                # The way back is read from it, and whether the host has gone it.
                raise
            _log.warning("delivery_status", host=effect.host, error=str(error))
            return None

    async def _deliver(self, effect: DeliveryEffect) -> None:
        delivery, host, command_id = self._delivery, effect.host, effect.command_id
        match effect:
            case StageKernel():
                await delivery.stage(host, command_id, await self._kernels.load(effect.kernel))
            case ArmKernel():
                await delivery.arm(
                    host,
                    command_id,
                    effect.kernel,
                    boot_timeout_s=effect.boot_timeout_s,
                    probation_timeout_s=effect.probation_timeout_s,
                    require_watchdog=effect.require_watchdog,
                )
            case RebootHost():
                await delivery.reboot(host, command_id)
            case AcknowledgeBoot():
                await delivery.acknowledge(host, command_id)
            case BlessKernel():
                await delivery.bless(host, command_id)
            case RevertKernel():
                await delivery.revert(host, command_id, effect.kernel)

    async def _answer(self, effect: DeliveryEffect | PlaceEffect, status: DeliveryStatus | None, error: str) -> None:
        """Record how it went, then forget the effect; a crash in between only repeats an idempotent call."""
        if error:
            _log.warning("refused", command_id=effect.command_id, error=error)
        uid = key_of_command(effect.command_id).uid
        report: DeliveryReported | PlaceReported
        if isinstance(effect, PlaceEffect):
            report = PlaceReported(at=self._clock.now(), command_id=effect.command_id, error=bounds.sentence(error))
        else:
            report = DeliveryReported(
                at=self._clock.now(),
                command_id=effect.command_id,
                error=bounds.sentence(error),
                default_kernel=status.default if status else "",
                running_kernel=(status.running or "") if status else "",
            )
        if effect.command_id in self._engine.outstanding:
            await self._engine.observe(Key(uid, effect.host), report)
        await self._engine.effect_done(effect.command_id)


async def _pause(pause_s: float, turn: _Turn | None) -> None:
    """Wait before the next try; whoever supersedes this one need not wait with it."""
    if turn is None:
        await asyncio.sleep(pause_s)
        return
    turn.may_stop = True
    try:
        await asyncio.sleep(pause_s)
    finally:
        turn.may_stop = False
