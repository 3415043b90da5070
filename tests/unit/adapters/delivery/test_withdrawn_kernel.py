"""A host takes back what was armed: the controller hears why, as a fault of the host's rig, and may arm it again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from engine_parts import UID, walked
from own_disk_worlds import HOST, AskedWorld, OwnDiskWorld

from controller.domain.delivery import BootCause
from controller.domain.errors import Permanent
from controller.domain.kernels import Kernel
from controller.domain.record.events import CONDEMNING, DeliveryReported, FailureKind
from controller.domain.record.journey import Step
from controller.domain.record.names import Key

CHANGED = "is not as it was when .* was armed; nothing is armed any more, and the host was not rebooted"


async def arm(world: OwnDiskWorld, command_id: str, kernel: Kernel) -> None:
    await world.delivery.arm(HOST, command_id, kernel.digest, boot_timeout_s=100.0, probation_timeout_s=100.0)


@pytest.mark.parametrize("kind", [OwnDiskWorld, AskedWorld])
async def test_a_kernel_that_changed_since_it_was_armed_is_not_booted(
    kind: type[OwnDiskWorld],
    tmp_path: Path,
    make_kernel: Callable[..., Kernel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, new = kind(tmp_path / "machine", make_kernel("old"), monkeypatch), make_kernel("new")
    await world.delivery.stage(HOST, "u/h/1", new)
    await arm(world, "u/h/2", new)
    world.machine.write(f"/boot/vmlinuz-{new.release}", "another kernel")
    # Asked again it boots the default no more than it did before.
    for _ in range(2):
        with pytest.raises(Permanent, match=CHANGED):
            await world.delivery.reboot(HOST, "u/h/3")
    told = world.host.boot
    assert told is not None
    assert (told.delivery.armed, told.delivery.running, len(told.delivery.boots)) == (None, "old", 1)
    assert "is not as it was" in told.withdrawn
    await arm(world, "u/h/4", new)
    await world.delivery.reboot(HOST, "u/h/5")
    assert (await world.delivery.status(HOST)).boots[-1].cause is BootCause.TRIAL


async def test_it_is_a_fault_of_the_hosts_rig_and_not_of_the_kernel() -> None:
    parts = await walked(Step.REBOOT)
    why = "a: /boot/vmlinuz-2.0 is not as it was when 2.0 was armed; nothing is armed any more"
    answer = DeliveryReported(
        at=parts.clock.at,
        command_id=parts.attempt().command_id,
        default_kernel="old-digest",
        running_kernel="old-digest",
        error=why,
    )
    await parts.engine.observe(Key(UID, "a"), answer)
    await parts.engine.settle()
    failure = parts.attempt().failure
    assert failure is not None
    assert (failure.kind, failure.sentence) == (FailureKind.DELIVERY, why)
    assert failure.kind not in CONDEMNING
