"""Management controllers as an Ansible inventory names them, read anew whenever one is asked for.

Ansible fills in templates and decrypts what is in a vault; what it gives back stays in memory.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from controller.adapters.imports.ansible_inventory import composed
from controller.adapters.local.named_files import read_file, shown
from controller.adapters.power.address import Managed, parse_address
from controller.domain.errors import InvalidInput
from controller.domain.printable import printable

POWER: Final = "kernroll_power"
USER: Final = "kernroll_power_user"
PASSWORD: Final = "kernroll_power_password"
PASSWORD_FILE: Final = "kernroll_power_password_file"
CA_FILE: Final = "kernroll_power_ca_file"
VERIFY: Final = "kernroll_power_verify"
_VARIABLES: Final = (POWER, USER, PASSWORD, PASSWORD_FILE, CA_FILE, VERIFY)
# A host's name as it has enrolled, where the inventory calls it otherwise.
_NAMED: Final = "kernroll_host"
# What Ansible makes of a variable comes back under this name: in an encoding, so that nothing in it looks like a
# template, and as plain text where it was encrypted.
_FOUND: Final = "kernroll_found_{}"
_LITERAL: Final = "__ansible_unsafe"
_MOST_PASSWORD_BYTES: Final = 4096
_MOST_AUTHORITY_BYTES: Final = 4 << 20
_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read_power(inventory: Path, *, timeout_s: float) -> Mapping[str, Mapping[str, str | None]]:
    """Return host -> its variables of power, for hosts with a management controller.

    A variable that is written and that Ansible cannot fill in or decrypt is None. Raises as reading inventories does.
    """
    expressions = {_FOUND.format(name): f"{name} | string | b64encode" for name in (*_VARIABLES, _NAMED)}
    found: dict[str, Mapping[str, str | None]] = {}
    for name, variables in composed(inventory, expressions, timeout_s=timeout_s).items():
        if variables.get(POWER) is None:
            continue
        own = {each: _text(variables.get(_FOUND.format(each))) for each in (*_VARIABLES, _NAMED) if each in variables}
        found[own.pop(_NAMED, None) or name] = own
    return found


def managed(inventory: Path, host: str, variables: Mapping[str, str | None]) -> Managed:
    """Return how a host's management controller is reached. Raises InvalidInput that names file, host and variable."""
    where = f"{shown(inventory)}: host {host}"
    for name, value in variables.items():
        if value is None:
            raise InvalidInput(
                f"{where}: {name} cannot be filled in or decrypted; where it is in a vault, start the controller with "
                "ANSIBLE_VAULT_PASSWORD_FILE"
            )
    given = {name: value for name, value in variables.items() if value}
    try:
        address = parse_address(given.get(POWER, ""))
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {POWER} {error}") from error
    return Managed(
        address=address,
        user=_user(where, given),
        password=_password(where, given, inventory),
        ca_file=_authority(where, given, inventory),
        verify=_verify(where, given),
    )


def _text(value: Any) -> str | None:
    """Return what was found, None when it was not."""
    encoded = value.get(_LITERAL) if isinstance(value, dict) else value
    if not isinstance(encoded, str):
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _user(where: str, given: Mapping[str, str]) -> str:
    user = given.get(USER, "")
    if not user or not user.isprintable() or user.startswith("-") or ":" in user:
        raise InvalidInput(f"{where}: {USER} must name the user of its management controller, without a colon")
    return user


def _password(where: str, given: Mapping[str, str], inventory: Path) -> str:
    if (PASSWORD in given) == (PASSWORD_FILE in given):
        raise InvalidInput(f"{where}: needs one of {PASSWORD_FILE} and {PASSWORD} (in a vault)")
    if PASSWORD in given:
        password, source = given[PASSWORD], PASSWORD
    else:
        path = _beside(inventory, given[PASSWORD_FILE])
        password, source = _first_line(where, path), f"{PASSWORD_FILE} {shown(path)}"
    if not password or not password.isprintable():
        raise InvalidInput(f"{where}: {source} must hold one line with a password")
    return password


def _first_line(where: str, path: Path) -> str:
    content = _read(f"{where}: {PASSWORD_FILE}", path, _MOST_PASSWORD_BYTES)
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{where}: {PASSWORD_FILE} {shown(path)} is not UTF-8") from error


def _authority(where: str, given: Mapping[str, str], inventory: Path) -> Path | None:
    if CA_FILE not in given:
        return None
    path = _beside(inventory, given[CA_FILE])
    content = _read(f"{where}: {CA_FILE}", path, _MOST_AUTHORITY_BYTES)
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise InvalidInput(f"{where}: {CA_FILE} {shown(path)} holds no certificate in PEM form")
    return path


def _verify(where: str, given: Mapping[str, str]) -> bool:
    written = given.get(VERIFY, "true")
    verify = _TRUTH.get(written.lower())
    if verify is None:
        raise InvalidInput(f"{where}: {VERIFY} must be true or false (got {printable(written, 20)!r})")
    if not verify and CA_FILE in given:
        raise InvalidInput(f"{where}: {VERIFY} is false although {CA_FILE} says whom to trust; leave one of them out")
    return verify


def _beside(inventory: Path, written: str) -> Path:
    """Return a path that is relative to the inventory's folder."""
    return (inventory if inventory.is_dir() else inventory.parent) / written


def _read(what: str, path: Path, most_bytes: int) -> bytes:
    """Return a small file's content. Raises InvalidInput."""
    try:
        return read_file(path, most_bytes)
    except InvalidInput as error:
        raise InvalidInput(f"{what} {error}") from error
    except OSError as error:
        raise InvalidInput(f"{what} {shown(path)} cannot be read: {(error.strerror or str(error)).lower()}") from error
