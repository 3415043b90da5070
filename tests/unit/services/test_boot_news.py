"""What kernroll-boot writes down while a host is connected is known without a new session."""

from dataclasses import replace

from engine_parts import Parts, host
from own_boot import OLD, own_boot

from controller.domain.hosts.loaders import HostBoot
from controller.services.agents.sessions import Held

HELD = Held(boot_id="a-boot-1", command_ids=frozenset(), spooled_reports=0)


def blessed() -> HostBoot:
    """Return what the host says once its default has changed."""
    boot = own_boot("a")
    return replace(boot, delivery=replace(boot.delivery, revision=9, default="b" * 64))


async def test_a_default_that_changes_is_known_at_once_and_after_a_restart() -> None:
    parts = await Parts().start()
    stream = parts.stream()
    await parts.sessions.connected(stream, replace(host(), boot=own_boot("a")))
    before = parts.engine.world.hosts["a"].boot
    assert before is not None
    assert before.delivery.default == OLD
    await parts.sessions.holds(stream, HELD, blessed())
    assert parts.engine.world.hosts["a"].boot == blessed()
    assert parts.engine.world.hosts["a"].connected
    again = await Parts(parts.disk, parts.clock).start()
    assert again.engine.world.hosts["a"].boot == blessed()


async def test_the_word_of_an_older_stream_says_nothing_of_what_boots() -> None:
    parts = await Parts().start()
    older, newer = parts.stream(), parts.stream()
    await parts.sessions.connected(older, replace(host(), boot=own_boot("a")))
    await parts.sessions.connected(newer, replace(host(boot="2"), boot=own_boot("a")))
    await parts.sessions.holds(older, HELD, blessed())
    assert parts.engine.world.hosts["a"].boot == own_boot("a")
