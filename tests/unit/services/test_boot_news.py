"""What kernroll-boot writes down is known while its host is connected, and before it counts as back."""

from dataclasses import replace

import pytest
from engine_parts import Parts, host, walked
from own_boot import OLD, own_boot

from controller.domain.hosts.loaders import HostBoot
from controller.domain.record.events import Failure, FailureKind
from controller.domain.record.journey import Step
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


@pytest.mark.parametrize("late_s", [1.0, 10_000.0], ids=["before the boot deadline", "after it"])
async def test_a_host_that_is_back_from_a_panic_says_so_before_it_is_back(late_s: float) -> None:
    parts = await walked(Step.VERIFY)
    attempt = parts.attempt()
    await parts.sessions.disconnected(parts.sessions._connected["a"])
    parts.clock.at += late_s
    await parts.engine.settle()
    trial = replace(own_boot("a").delivery.boots[1], command_id=attempt.trial_command_id)
    boot = own_boot("a")
    boot = replace(boot, delivery=replace(boot.delivery, boots=(boot.delivery.boots[0], trial, boot.delivery.boots[2])))
    await parts.sessions.connected(parts.stream(), replace(host(boot="3"), boot=boot))
    await parts.engine.settle()
    ended = parts.attempt()
    assert ended.gone_since is not None
    assert ended.since - ended.gone_since == late_s
    assert (ended.step, ended.failure) == (
        Step.REVERTED,
        Failure(kind=FailureKind.PANIC, sentence="the kernel panicked", line="Kernel panic - not syncing"),
    )
