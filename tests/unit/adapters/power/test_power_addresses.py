"""Addresses of management controllers, and what stands beside them in an inventory: mistakes are named."""

from pathlib import Path

import pytest

from controller.adapters.power.address import parse_address
from controller.adapters.power.inventory import managed
from controller.domain.errors import InvalidInput

SYSTEM = "redfish://bmc.example/redfish/v1/Systems/1"
SECRET = "not-to-be-told"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (SYSTEM, ("redfish", "bmc.example", 443, "/redfish/v1/Systems/1")),
        (f"{SYSTEM}/", ("redfish", "bmc.example", 443, "/redfish/v1/Systems/1")),
        (
            "redfish://[fd00::1]:8443/redfish/v1/Systems/a.B-1",
            ("redfish", "fd00::1", 8443, "/redfish/v1/Systems/a.B-1"),
        ),
        ("ipmi://10.0.0.9", ("ipmi", "10.0.0.9", 623, "")),
        ("ipmi://bmc:6230/", ("ipmi", "bmc", 6230, "")),
    ],
)
def test_addresses_say_where_and_how(text: str, place: tuple[str, str, int, str]) -> None:
    address = parse_address(text)
    assert (address.kind, address.host, address.port, address.path) == place
    assert parse_address(address.shown) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must begin with redfish:// or ipmi://"),
        ("https://bmc.example/redfish/v1/Systems/1", "must begin with redfish:// or ipmi:// (got 'https')"),
        ("redfish://bmc.example", "must name the host's system"),
        ("redfish://bmc.example/redfish/v1/Chassis/1", "must name the host's system"),
        ("redfish://bmc.example/redfish/v1/Systems/../x", "must name the host's system"),
        ("ipmi://bmc.example/1", "has a path, which IPMI does not know"),
        ("ipmi://", "names no host"),
        ("ipmi://-oProxy", "names no host"),
        ("ipmi://bmc:port", "is no address"),
        (f"ipmi://admin:{SECRET}@bmc", "must not hold a user or a password"),
        ("ipmi://bmc?x=1", "must end with its path"),
    ],
)
def test_what_is_no_address_is_said(text: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_address(text)
    assert why in str(caught.value)
    assert SECRET not in str(caught.value)


def of(tmp_path: Path, **changes: str | None) -> dict[str, str | None]:
    (tmp_path / "pw").write_text(f"{SECRET}\n", encoding="utf-8")
    given: dict[str, str | None] = {"": SYSTEM, "_user": "admin", "_password_file": "pw", **changes}
    return {f"kernroll_power{name}": value for name, value in given.items() if value != "absent"}


def test_a_password_is_read_beside_the_inventory_and_never_shown(tmp_path: Path) -> None:
    found = managed(tmp_path / "inventory.yaml", "a", of(tmp_path))
    assert (found.address.shown, found.user, found.password, found.verify) == (SYSTEM, "admin", SECRET, True)
    assert SECRET not in repr(found)
    inventory = tmp_path / "folder"
    inventory.mkdir()
    (inventory / "pw").write_text("another", encoding="utf-8")
    assert managed(inventory, "a", of(tmp_path)).password == "another"
    given = of(tmp_path, _password=SECRET, _password_file="absent", _verify="False")
    assert managed(inventory, "a", given).verify is False


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"": "bmc.example"}, "kernroll_power must begin with redfish:// or ipmi://"),
        ({"": None}, "kernroll_power cannot be filled in or decrypted"),
        ({"_user": "absent"}, "kernroll_power_user must name the user"),
        ({"_user": "a:b"}, "kernroll_power_user must name the user"),
        ({"_password_file": "absent"}, "needs one of kernroll_power_password_file and kernroll_power_password"),
        ({"_password": SECRET}, "needs one of kernroll_power_password_file and kernroll_power_password"),
        ({"_password_file": "nowhere"}, "kernroll_power_password_file"),
        ({"_password_file": "."}, "kernroll_power_password_file"),
        ({"_password_file": "two"}, "two must hold one line with a password"),
        ({"_password_file": "latin"}, "is not UTF-8"),
        ({"_ca_file": "pw"}, "kernroll_power_ca_file"),
        ({"_verify": "perhaps"}, "kernroll_power_verify must be true or false (got 'perhaps')"),
        ({"_verify": "false", "_ca_file": "ca.pem"}, "leave one of them out"),
    ],
)
def test_a_mistake_names_file_host_and_variable(tmp_path: Path, changes: dict[str, str | None], why: str) -> None:
    (tmp_path / "two").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "latin").write_bytes(b"\xff\n")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n", encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        managed(tmp_path / "inventory.yaml", "a", of(tmp_path, **changes))
    assert str(caught.value).startswith(f"{tmp_path / 'inventory.yaml'}: host a: ")
    assert why in str(caught.value)
    assert SECRET not in str(caught.value)
