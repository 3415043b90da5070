"""The port of power: the fake, an emulator of Redfish and a simulator of IPMI keep the same promises."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from boot_machine import require_debian
from fake_power import FakePower
from management_controllers import ENTRY, PASSWORD, USER, Emulated, ipmi, ipmitool, redfish
from real_prometheus import free_port

from controller.adapters.power.address import IPMI, Managed
from controller.adapters.power.inventory import managed
from controller.adapters.power.ipmi import Ipmi
from controller.adapters.power.managed import Controller, InventoryPower, NoPower, controller_of
from controller.domain.errors import KernrollError, NotFound, OutcomeUnknown, Permanent, Temporary
from controller.services.ports import Power

HOST = "metal-1"
Variables = Mapping[str, str]
Emulator = Callable[..., AbstractContextManager[Emulated]]


class World:
    """An implementation with one host, and what a test sees of it."""

    def __init__(self, power: Power, orders: Callable[[], int], address: str) -> None:
        self.power = power
        # How often its management controller was told to cut the host's power, or to give it.
        self.orders = orders
        self.address = address


def inventory(folder: Path, address: str, variables: Variables) -> InventoryPower:
    """Return the port over an inventory with the host, and another one that has no management controller."""
    lines = "".join(f"      {name}: {value}\n" for name, value in own_variables(folder, address, variables).items())
    (folder / "inventory.yaml").write_text(f"all:\n  hosts:\n    plain-1:\n    {HOST}:\n{lines}", encoding="utf-8")
    return InventoryPower(folder / "inventory.yaml", lambda reached: connected(folder, reached))


def own_variables(folder: Path, address: str, variables: Variables) -> dict[str, str | None]:
    (folder / "password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    given = {"kernroll_power": address, "kernroll_power_user": USER, "kernroll_power_password_file": "password"}
    return {**given, **variables}


def connected(folder: Path, reached: Managed) -> Controller:
    if reached.address.kind != IPMI:
        return controller_of(reached)
    return Ipmi(reached, program=ipmitool(folder), answer_s=1)


def at(folder: Path, address: str, variables: Variables) -> Controller:
    """Return a management controller as the port finds it, without reading an inventory for it."""
    return connected(folder, managed(folder / "inventory.yaml", HOST, own_variables(folder, address, variables)))


@contextmanager
def emulated(emulator: Emulator, folder: Path, *, on: bool) -> Iterator[World]:
    require_debian()
    with emulator(folder, on=on) as one:
        yield World(inventory(folder, one.address, one.variables), lambda: one.orders, one.address)


@contextmanager
def fake(_folder: Path, *, on: bool) -> Iterator[World]:
    power = FakePower(HOST)
    power.on[HOST] = on
    power.says = (f"{ENTRY} asserted",)
    yield World(power, lambda: power.cycles(HOST), f"redfish://bmc-{HOST}")


def by_redfish(folder: Path, *, on: bool) -> AbstractContextManager[World]:
    return emulated(redfish, folder, on=on)


def by_ipmi(folder: Path, *, on: bool) -> AbstractContextManager[World]:
    return emulated(ipmi, folder, on=on)


@pytest.fixture(params=[fake, by_redfish, by_ipmi])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with request.param(tmp_path, on=True) as one:
        yield one


@pytest.fixture(params=[fake, by_redfish, by_ipmi])
def world_without_power(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with request.param(tmp_path, on=False) as one:
        yield one


async def test_it_knows_who_has_a_management_controller(world: World) -> None:
    assert await world.power.without(["plain-1", HOST, "nobody"]) == ("plain-1", "nobody")


async def test_looking_changes_nothing(world: World) -> None:
    seen = await world.power.look(HOST)
    assert seen.on is True
    assert seen.controller == world.address
    assert PASSWORD not in repr(seen)
    assert USER not in seen.controller
    assert world.orders() == 0


async def test_a_host_is_power_cycled_by_one_order(world: World) -> None:
    await world.power.cycle(HOST)
    assert world.orders() == 1


async def test_a_host_without_power_is_switched_on(world_without_power: World) -> None:
    world = world_without_power
    assert (await world.power.look(HOST)).on is False
    await world.power.cycle(HOST)
    assert world.orders() == 1


@pytest.mark.parametrize("host", ["plain-1", "nobody"])
async def test_a_host_without_a_management_controller_is_refused(world: World, host: str) -> None:
    for call in (world.power.look, world.power.cycle):
        with pytest.raises(NotFound, match=host):
            await call(host)
    assert world.orders() == 0


async def test_a_controller_without_an_inventory_knows_none() -> None:
    assert await NoPower().without([HOST]) == (HOST,)
    for call in (NoPower().look, NoPower().cycle):
        with pytest.raises(NotFound, match="start it with --inventory"):
            await call(HOST)


# --- what only real ones have ---


@pytest.fixture(params=[redfish, ipmi])
def controller(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Emulated]:
    require_debian()
    with request.param(tmp_path) as one:
        yield one


def refusal(asked: Controller) -> KernrollError:
    """Return how both verbs fail, which is in the same way."""
    with pytest.raises(KernrollError) as looked:
        asked.look()
    with pytest.raises(KernrollError) as cycled:
        asked.cycle()
    assert type(looked.value) is type(cycled.value)
    assert str(looked.value) == str(cycled.value)
    assert PASSWORD not in str(looked.value)
    return looked.value


@pytest.mark.parametrize(
    "wrong",
    [{"kernroll_power_user": "nobody"}, {"kernroll_power_password": "wrong", "kernroll_power_password_file": ""}],
)
def test_wrong_credentials_are_named(controller: Emulated, tmp_path: Path, wrong: Variables) -> None:
    error = refusal(at(tmp_path, controller.address, {**controller.variables, **wrong}))
    assert isinstance(error, Permanent)
    user = wrong.get("kernroll_power_user", USER)
    assert f"does not take user {user!r} with this password; correct kernroll_power_user or the password" in str(error)
    assert controller.orders == 0


@pytest.mark.parametrize("place", ["redfish://127.0.0.1:{}/redfish/v1/Systems/1", "ipmi://127.0.0.1:{}"])
def test_a_controller_that_is_away_may_be_tried_again(tmp_path: Path, place: str) -> None:
    require_debian()
    address = place.format(free_port())
    error = refusal(at(tmp_path, address, {}))
    assert isinstance(error, Temporary)
    assert str(error).startswith(f"{address} cannot be reached: ")


@pytest.mark.parametrize("place", ["redfish://bmc.invalid/redfish/v1/Systems/1", "ipmi://bmc.invalid"])
def test_a_name_without_an_address_may_be_tried_again(tmp_path: Path, place: str) -> None:
    require_debian()
    error = refusal(at(tmp_path, place, {}))
    assert isinstance(error, Temporary)
    assert str(error).startswith(f"{place} cannot be reached: ")


def test_a_log_of_events_is_told(tmp_path: Path) -> None:
    require_debian()
    with ipmi(tmp_path) as one:
        seen = at(tmp_path, one.address, {}).look()
    assert len(seen.says) == 1
    assert ENTRY in seen.says[0]
    assert "Asserted" in seen.says[0]


def test_what_a_system_says_of_itself_is_told(tmp_path: Path) -> None:
    with redfish(tmp_path) as one:
        seen = at(tmp_path, one.address, one.variables).look()
    assert seen.says == ("health: OK", "state: Enabled")


def test_a_certificate_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    with redfish(tmp_path) as one:
        error = refusal(at(tmp_path, one.address, {}))
        assert one.orders == 0
    assert isinstance(error, Permanent)
    assert str(error).startswith(f"the certificate of {one.address} is not trusted: ")
    assert "kernroll_power_ca_file" in str(error)


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_certificates_are_not_looked_at_where_the_inventory_says_so(tmp_path: Path) -> None:
    with redfish(tmp_path) as one:
        at(tmp_path, one.address, {"kernroll_power_verify": "false", "kernroll_power_ca_file": ""}).cycle()
        assert one.orders == 1


def test_a_system_that_is_not_there_is_named(tmp_path: Path) -> None:
    with redfish(tmp_path) as one:
        address = one.address.rpartition("/")[0] + "/another"
        error = refusal(at(tmp_path, address, one.variables))
    assert isinstance(error, Permanent)
    assert str(error) == f"{address} answers 404: it has no such system; correct kernroll_power"


def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    reached = managed(tmp_path / "inventory.yaml", HOST, own_variables(tmp_path, "ipmi://127.0.0.1", {}))
    error = refusal(Ipmi(reached, program="/nowhere/ipmitool"))
    assert isinstance(error, Permanent)
    assert "install the Debian package ipmitool" in str(error)


def test_an_order_without_an_answer_is_unknown(tmp_path: Path) -> None:
    """The simulator is asked whether there is power, and ends before it answers the order."""
    require_debian()
    with ipmi(tmp_path) as one:
        gone = tmp_path / "chassis"
        gone.write_text(gone.read_text().replace('echo "power to', 'kill -9 $(cat pid); echo "power to'))
        with pytest.raises(OutcomeUnknown, match="was given the order and its answer was lost"):
            at(tmp_path, one.address, {}).cycle()
