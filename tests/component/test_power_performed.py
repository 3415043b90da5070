"""From the decision to the machine: a host that is not heard has its power cut by a real protocol, once."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from boot_machine import require_debian
from engine_parts import Parts
from management_controllers import PASSWORD, USER, Emulated, ipmi, ipmitool, redfish
from performing import Performing
from unheard_host import COMMAND, unheard

from controller.adapters.power.address import IPMI, Managed
from controller.adapters.power.ipmi import Ipmi
from controller.adapters.power.managed import Controller, InventoryPower, controller_of
from controller.domain.record.actions.power_cycles import CycleOutcome
from controller.domain.record.journey import Step
from controller.services.engine.performing import Performer
from controller.services.engine.powering import PowerRunner


@pytest.fixture(params=[redfish, ipmi])
def emulated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Emulated]:
    require_debian()
    emulator: Callable[[Path], AbstractContextManager[Emulated]] = request.param
    with emulator(tmp_path) as one:
        yield one


def inventory(one: Emulated) -> Path:
    """Return an inventory whose host "a" has this management controller."""
    (one.folder / "password").write_text(PASSWORD, encoding="utf-8")
    own = {
        "kernroll_power": one.address,
        "kernroll_power_user": USER,
        "kernroll_power_password_file": "password",
        **one.variables,
    }
    lines = "".join(f"      {name}: {value}\n" for name, value in own.items())
    (one.folder / "inventory.yaml").write_text(f"all:\n  hosts:\n    a:\n{lines}", encoding="utf-8")
    return one.folder / "inventory.yaml"


def performing_by(parts: Parts, one: Emulated) -> Performing:
    """Return a controller that cuts power as a real one does."""

    def connected(reached: Managed) -> Controller:
        return Ipmi(reached, program=ipmitool(one.folder)) if reached.address.kind == IPMI else controller_of(reached)

    made = Performing(parts)
    made.performer = Performer(
        parts.engine,
        parts.sessions,
        made.delivery,
        parts.kernels,
        parts.clock,
        places=made.places,
        power=PowerRunner(parts.engine, InventoryPower(inventory(one), connected), parts.clock),
        pause_s=0.0,
    )
    parts.engine.on_effects = made.performer.submit
    return made


async def test_a_host_that_is_not_heard_is_cut_once_and_comes_back(emulated: Emulated) -> None:
    performing = performing_by(await unheard(), emulated)
    performing.go()
    await performing.idle()
    power = performing.parts.attempt().power
    assert power is not None
    assert (power.outcome, power.detail) == (CycleOutcome.DONE, "")
    assert power.seen is not None
    assert (power.seen.controller, power.seen.on) == (emulated.address, True)
    assert emulated.orders == 1
    await performing.performer.close()
    again = performing_by(await Parts(performing.parts.disk, performing.parts.clock).start(), emulated)
    again.go()
    await again.idle()
    assert COMMAND not in again.parts.engine.outstanding
    await again.parts.connect(boot="3")
    await again.parts.engine.settle()
    assert again.parts.attempt().step is Step.REVERTED
    assert emulated.orders == 1
    await again.performer.close()
    told = " ".join(repr(logged.event) for logged in performing.parts.disk.log)
    assert emulated.address in told
    assert PASSWORD not in told
