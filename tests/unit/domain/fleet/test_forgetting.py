"""Forgetting a host beside the rollouts that know it."""

import pytest
from engine_parts import Parts, walked

from controller.domain.caller import Caller
from controller.domain.errors import Conflict
from controller.domain.record.journey import Step


@pytest.mark.parametrize("step", [Step.BASELINE, Step.VERIFY, Step.PROBATION])
async def test_a_host_in_flight_is_not_forgotten(step: Step) -> None:
    parts = await walked(step)
    with pytest.raises(Conflict, match=rf"a is in flight in rollout trial \({step.value}\).*rollout abort trial"):
        await parts.operations.fleet.forget("a", "reinstalled", Caller("olga"))
    assert "a" in parts.engine.world.hosts


async def test_a_host_at_rest_is_forgotten_and_the_books_know(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = await walked(Step.DONE)
    said: list[tuple[str, str]] = []
    parts.operations.fleet.on_forgotten = lambda host, why: said.append((host, why))
    await parts.operations.fleet.forget("a", "scrapped", Caller("olga"))
    assert said == [("a", "a was forgotten by olga: scrapped")]
    assert parts.engine.world.hosts == parts.disk.hosts == {}
    await parts.engine.settle()
    again = await Parts(parts.disk, parts.clock).start()
    assert again.engine.world.hosts == {}
    assert again.engine.world.fleet.revision == 1
