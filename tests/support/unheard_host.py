"""A controller whose one host has not come back in time, so that its power is to be cut."""

from engine_parts import TEXT, UID, Parts, walked

from controller.domain.record.events import HostSilent
from controller.domain.record.journey import Step
from controller.domain.record.names import Key, power_cycling

ONCE = TEXT.replace("    revert_timeout: 90s\n", "    revert_timeout: 90s\n    power_cycle: once\n")
KEY = Key(UID, "a")
COMMAND = power_cycling(KEY)


async def unheard() -> Parts:
    """Return a controller whose one host has not come back in time: its power is to be cut."""
    parts = await walked(Step.VERIFY, text=ONCE)
    await parts.engine.observe(KEY, HostSilent(at=parts.clock.at))
    while COMMAND not in parts.engine.outstanding:
        deadline = parts.attempt().deadline
        assert deadline is not None
        parts.clock.at = deadline
        await parts.engine.settle()
    assert parts.attempt().step is Step.FALLBACK
    return parts
