"""Reading Ansible inventories with Ansible's own program, in a process of its own.

INI, YAML, directories, group_vars, host_vars and inventory plugins mean what they mean to Ansible; an inventory that is
a program is run, as Ansible runs it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.domain.errors import InvalidInput, Permanent, Temporary

_PROGRAM = "ansible-inventory"
_MOST_BYTES = 256 * 2**20
_FAILED = re.compile(r"Failed to parse inventory with '(\w+)' plugin: (.+)")
_ORIGIN = re.compile(r"^Origin: (.+)$", re.MULTILINE)
_WARNING = re.compile(r"^\[WARNING\]: (.+)$", re.MULTILINE)
# A warning says what is wrong with a file; an error of Ansible's own settings stands beside it.
_SETTINGS = {
    "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_LOCALHOST_WARNING": "0",
    "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
    # Ansible refuses to start in a locale without it.
    "LC_ALL": "C.UTF-8",
}


@dataclass(frozen=True, slots=True)
class Listing:
    """What an inventory says."""

    # As `ansible-inventory --list` prints it.
    content: Mapping[str, Any]
    # What Ansible warned of.
    warnings: tuple[str, ...]


def read_inventory(path: Path, *, timeout_s: float) -> Listing:
    """Return what an inventory says; a .json file is taken for what `ansible-inventory --list` printed.

    Raises InvalidInput that names the file, and the line where Ansible tells it.
    """
    if not path.exists():
        raise InvalidInput(f"{path}: no such file or directory")
    if path.suffix == ".json":
        try:
            return Listing(_parsed(path.read_bytes(), str(path)), ())
        except OSError as error:
            raise InvalidInput(f"{path}: {(error.strerror or str(error)).lower()}") from error
    program = shutil.which(_PROGRAM, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise Permanent(
            f"{path}: {_PROGRAM} is not installed: install ansible-core, or print the inventory where it is "
            f"(`{_PROGRAM} -i {path} --list > inventory.json`) and import that"
        )
    try:
        finished = subprocess.run(
            [program, "-i", str(path), "--list"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, **_SETTINGS},
        )
    except subprocess.TimeoutExpired as error:
        raise Temporary(f"{path}: {_PROGRAM} took longer than {timeout_s:.0f} s and was ended") from error
    except OSError as error:
        raise Permanent(f"{program} cannot be run: {error.strerror}") from error
    said = finished.stderr.decode("utf-8", "replace")
    if finished.returncode != 0:
        raise InvalidInput(f"{path}: {_failure(said, path)}")
    return Listing(_parsed(finished.stdout, str(path)), tuple(_WARNING.findall(said)))


def _parsed(content: bytes, name: str) -> Mapping[str, Any]:
    if len(content) > _MOST_BYTES:
        raise InvalidInput(f"{name}: is larger than {_MOST_BYTES >> 20} MiB")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name}: is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{name}: is not what `{_PROGRAM} --list` prints: it must be an object of groups")
    return found


def _failure(said: str, path: Path) -> str:
    """Return why Ansible cannot read a file: what the plugin says that reads such files, and where."""
    wanted = ("auto", "yaml") if path.suffix in (".yaml", ".yml") else ("ini", "host_list", "advanced_host_list")
    failures = _FAILED.findall(said)
    chosen = next((text for plugin, text in failures if plugin in wanted), failures[-1][1] if failures else "")
    origin = next((place for place in _ORIGIN.findall(said) if place.startswith(str(path)) and place != str(path)), "")
    if not chosen:
        lines = [line for line in said.splitlines() if line.strip()]
        return f"{_PROGRAM} cannot read it: {lines[-1] if lines else 'it does not say why'}"
    where = f" ({origin})" if origin else ""
    return f"{chosen.removeprefix('Failed to parse inventory: ').rstrip('.')}{where}"
