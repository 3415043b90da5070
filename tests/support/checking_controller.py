"""A controller that asks real checks: its performer and its loop run as in a real one."""

import asyncio

from engine_parts import TEXT, UID, Parts, ScriptedDelivery, walked
from patience import PATIENCE_S

from controller.adapters.places.nowhere import Nowhere
from controller.domain.record.journey import Step
from controller.domain.state.askings import Result
from controller.domain.state.rollout import Rollout, State
from controller.services.engine.checking import CheckRunner
from controller.services.engine.performing import Performer
from controller.services.ports import Checker

HOOK = "http://hook/orders"
DEADLINE_S = PATIENCE_S


def with_hook(url: str = HOOK, more: str = "") -> str:
    return f"{TEXT}  checks:\n  - {{name: orders, webhook: {{url: '{url}'}}, every: 1s, deadline: 300s{more}}}\n"


class Checking:
    """A controller with a performer; the loop runs as in a real one."""

    def __init__(self, parts: Parts, checker: Checker) -> None:
        self.parts = parts
        runner = CheckRunner(parts.engine, checker, parts.clock, ask_timeout_s=10.0)
        self.performer = Performer(
            parts.engine,
            parts.sessions,
            ScriptedDelivery(),
            parts.kernels,
            parts.clock,
            places=Nowhere(),
            checks=runner,
            pause_s=0.0,
        )
        parts.engine.on_effects = self.performer.submit
        self._loop: asyncio.Task[None] | None = None

    @property
    def rollout(self) -> Rollout:
        return self.parts.engine.world.rollouts[UID]

    @property
    def result(self) -> Result:
        return self.rollout.askings[-1].results[0]

    def run(self) -> None:
        self._loop = asyncio.create_task(self.parts.engine.run())

    async def until(self, state: State) -> None:
        """Wait for a state, change by change."""
        seen = 0
        async with asyncio.timeout(DEADLINE_S):
            while self.rollout.state is not state:
                seen = await self.parts.engine.wait_for_change(seen, DEADLINE_S)

    async def end(self) -> None:
        """Stop as a controller does."""
        await self.performer.close()
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        await self.parts.engine.close()


async def baked(checker: Checker, text: str) -> Checking:
    """Return a controller whose one host is about to be done."""
    parts = await walked(Step.BAKE, text)
    checking = Checking(parts, checker)
    parts.clock.at += 60.0
    return checking
