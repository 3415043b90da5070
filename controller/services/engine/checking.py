"""Asks the checks of a wave, each until it passes, fails, or is not wanted any more."""

import asyncio

import structlog

from controller.domain.deciding.checks import learnt, question, wanted
from controller.domain.errors import Permanent, Temporary
from controller.domain.printable import printable
from controller.domain.record.checks import Answer, Check, Outcome
from controller.domain.record.control import CheckReported
from controller.domain.record.effects import RunCheck
from controller.domain.record.names import Key, key_of_command
from controller.services.engine.engine import Engine
from controller.services.ports import Checker, Clock

_log = structlog.get_logger("checking")

# One try, the connection included.
_ASK_TIMEOUT_S = 30.0


class CheckRunner:
    """Works off the effects that ask checks. Nothing but an answer that says so is a pass."""

    def __init__(
        self, engine: Engine, checker: Checker, clock: Clock, *, ask_timeout_s: float = _ASK_TIMEOUT_S
    ) -> None:
        self._engine = engine
        self._checker = checker
        self._clock = clock
        self._ask_timeout_s = ask_timeout_s

    async def work(self, effect: RunCheck) -> None:
        """Ask until there is a last word or nobody wants it, record what is new, then forget the effect.

        A crash in between asks again, which does no harm.
        """
        key = key_of_command(effect.command_id)
        rollouts = self._engine.world.rollouts
        while (check := wanted(rollouts[key.uid], effect, self._clock.now())) is not None:
            report = await self._report(effect, check, key)
            # Asked when nothing else is under way: meanwhile it may have been superseded.
            await self._engine.record(key, lambda: learnt(rollouts[key.uid], effect, report))  # noqa: B023 - called at once
            if wanted(rollouts[key.uid], effect, self._clock.now()) is not None:
                await asyncio.sleep(check.every_s)
        await self._engine.effect_done(effect.command_id)

    async def _report(self, effect: RunCheck, check: Check, key: Key) -> CheckReported:
        answer = await self._asked(check, effect, key)
        return CheckReported(
            at=self._clock.now(),
            wave=effect.wave,
            number=effect.number,
            check=check.name,
            outcome=answer.outcome,
            detail=answer.detail,
            value=answer.value,
        )

    async def _asked(self, check: Check, effect: RunCheck, key: Key) -> Answer:
        """Return the answer; whatever goes wrong is an error and never a pass."""
        try:
            async with asyncio.timeout(self._ask_timeout_s):
                return await self._checker.ask(check, question(self._engine.world.rollouts[key.uid], effect))
        except TimeoutError:
            detail = f"no answer from {check.url} within {self._ask_timeout_s:g} s"
        except (Permanent, Temporary) as error:
            detail = str(error)
        except Exception as error:
            _log.exception("cannot_ask", command_id=effect.command_id)
            detail = f"internal error: {printable(repr(error))}; please report it"
        _log.warning("check_error", command_id=effect.command_id, error=detail)
        return Answer(outcome=Outcome.ERROR, detail=detail)
