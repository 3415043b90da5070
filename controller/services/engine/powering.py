"""Cuts the power of hosts that neither boot nor fall back: once, whatever becomes of the controller meanwhile.

That the order is about to be given is recorded before it is. A controller that finds such a record, and no end of it,
does not give the order again: it records that nobody knows.
"""

import asyncio

import structlog

from controller.domain import bounds
from controller.domain.deciding.power_cycles import Due, due
from controller.domain.errors import KernrollError, OutcomeUnknown, Permanent, Temporary
from controller.domain.printable import printable
from controller.domain.record.actions.power_cycles import CycleOutcome, PowerCycleBegun, PowerCycled, PowerSeen
from controller.domain.record.effects import CyclePower
from controller.domain.record.events import Event
from controller.domain.record.names import Key, key_of_command
from controller.services.engine.engine import Engine
from controller.services.ports import Clock, Power

_log = structlog.get_logger("power")

# A management controller that cannot be reached is tried so often, with this pause between.
_TRIES = 3
_PAUSE_S = 10.0
# One call, reading the inventory included. Adapters give up before; they know better what they waited for.
_CALL_TIMEOUT_S = 600.0


class PowerRunner:
    """Works off the effects that cut a host's power. Every end of one is recorded, in words."""

    def __init__(
        self,
        engine: Engine,
        power: Power,
        clock: Clock,
        *,
        pause_s: float = _PAUSE_S,
        call_timeout_s: float = _CALL_TIMEOUT_S,
    ) -> None:
        self._engine = engine
        self._power = power
        self._clock = clock
        self._pause_s = pause_s
        self._call_timeout_s = call_timeout_s
        # Command -> how it ended, until that is recorded.
        self._ends: dict[str, PowerCycled] = {}

    async def work(self, effect: CyclePower) -> None:
        """Do it, or record why not, then forget the effect. Raises Temporary when that cannot be recorded for now."""
        key = key_of_command(effect.command_id)
        end = self._ends.get(effect.command_id) or await self._end(effect, key)
        if end is not None:
            self._ends[effect.command_id] = end
            _log.warning("power_cycle", host=effect.host, outcome=end.outcome.value, detail=end.detail)
            await self._engine.record(key, lambda: (end,))
            del self._ends[effect.command_id]
        await self._engine.effect_done(effect.command_id)

    async def _end(self, effect: CyclePower, key: Key) -> PowerCycled | None:
        """Return how it ended; None when nobody waits for it any more."""
        tries = 0
        while True:
            match self._due(effect, key):
                case Due.NOTHING:
                    return None
                case Due.SPARE:
                    return self._ended(effect, CycleOutcome.SPARED, "it was heard again before")
                case Due.UNKNOWN:
                    told = "the controller ended while the order was given, and does not give it a second time"
                    return self._ended(effect, CycleOutcome.UNKNOWN, told)
                case Due.WAIT:
                    await asyncio.sleep(self._pause_s)
                case Due.CYCLE:
                    tries += 1
                    try:
                        async with asyncio.timeout(self._call_timeout_s):
                            seen = await self._power.look(effect.host)
                    except (Temporary, TimeoutError) as error:
                        if tries == _TRIES:
                            return self._ended(effect, CycleOutcome.REFUSED, self._told(error, effect))
                        await asyncio.sleep(self._pause_s)
                        continue
                    except Exception as error:
                        return self._ended(effect, CycleOutcome.REFUSED, self._told(error, effect))
                    if await self._begun(effect, key, seen):
                        return await self._cycled(effect)

    async def _begun(self, effect: CyclePower, key: Key, seen: PowerSeen) -> bool:
        """Record that the order is given now; False when meanwhile it may not be given any more."""
        recorded: list[Event] = []

        def decide() -> tuple[Event, ...]:
            if self._due(effect, key) is Due.CYCLE:
                recorded.append(PowerCycleBegun(at=self._clock.now(), command_id=effect.command_id, seen=seen))
            return tuple(recorded)

        await self._engine.record(key, decide)
        return bool(recorded)

    async def _cycled(self, effect: CyclePower) -> PowerCycled:
        """Give the order, once, and return what came of it."""
        try:
            async with asyncio.timeout(self._call_timeout_s):
                await self._power.cycle(effect.host)
        except (Permanent, Temporary) as error:
            return self._ended(effect, CycleOutcome.REFUSED, self._told(error, effect))
        except Exception as error:
            return self._ended(effect, CycleOutcome.UNKNOWN, self._told(error, effect))
        return self._ended(effect, CycleOutcome.DONE, "")

    def _due(self, effect: CyclePower, key: Key) -> Due:
        world = self._engine.world
        if effect.command_id not in self._engine.outstanding:
            return Due.NOTHING
        silence_s = world.rollouts[key.uid].policy.silence_timeout_s
        return due(world.attempts[key.uid][key.host], effect.command_id, silence_s, self._clock.now())

    def _ended(self, effect: CyclePower, outcome: CycleOutcome, detail: str) -> PowerCycled:
        return PowerCycled(
            at=self._clock.now(), command_id=effect.command_id, outcome=outcome, detail=bounds.sentence(detail)
        )

    def _told(self, error: Exception, effect: CyclePower) -> str:
        match error:
            case KernrollError() | OutcomeUnknown():
                return str(error)
            case TimeoutError():
                return f"no answer from the management controller of {effect.host} within {self._call_timeout_s:g} s"
            case _:
                _log.error("cannot_cycle_power", command_id=effect.command_id, exc_info=error)
                return f"internal error: {printable(repr(error))}; please report it"
