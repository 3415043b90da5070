"""How a trial boot ended is known before the host's attempt is over."""

from dataclasses import replace

import pytest
from engine_parts import host, walked
from own_boot import own_boot

from controller.domain.record.events import Failure, FailureKind
from controller.domain.record.journey import Step


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
    assert (ended.step, ended.failure) == (
        Step.REVERTED,
        Failure(kind=FailureKind.PANIC, sentence="the kernel panicked", line="Kernel panic - not syncing"),
    )
