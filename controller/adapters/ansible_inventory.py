"""Reading Ansible inventories with Ansible's own program, in a process of its own.

INI, YAML, directories, group_vars, host_vars and inventory plugins mean what they mean to Ansible; an inventory that is
a program is run, as Ansible runs it.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.adapters.inventory_size import check_size
from controller.adapters.named_files import read_file, shown
from controller.adapters.tools import OutOfTime, Tool
from controller.domain.errors import InvalidInput, Permanent, Temporary
from controller.domain.printable import printable

_PROGRAM = "ansible-inventory"
_MOST_BYTES = 128 << 20
_MOST_VALUES = 5_000_000
_MOST_WARNINGS = 100
# 100 000 hosts take it some 200 MiB.
_MEMORY_BYTES = 1536 << 20
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
        raise InvalidInput(f"{shown(path)}: no such file or directory")
    if path.suffix == ".json":
        try:
            return Listing(_parsed(read_file(path, _MOST_BYTES), shown(path)), ())
        except OSError as error:
            raise InvalidInput(f"{shown(path)}: {(error.strerror or str(error)).lower()}") from error
    program = shutil.which(_PROGRAM, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise Permanent(
            f"{shown(path)}: {_PROGRAM} is not installed: install ansible-core, or print the inventory where it is "
            f"(`{_PROGRAM} -i {shown(path)} --list > inventory.json`) and import that"
        )
    check_size(path)
    printed, said = _listed(program, path, timeout_s)
    return Listing(_parsed(printed, shown(path)), tuple(map(printable, _WARNING.findall(said)[:_MOST_WARNINGS])))


def _listed(program: str, path: Path, timeout_s: float) -> tuple[bytes, str]:
    """Return what Ansible prints, and what it says beside that."""
    try:
        with Tool(
            [program, "-i", str(path), "--list"],
            timeout_s=timeout_s,
            environment={**os.environ, **_SETTINGS},
            memory_bytes=_MEMORY_BYTES,
        ) as tool:
            printed, code = tool.printed(_MOST_BYTES), None
            if printed is not None:
                code = tool.code()
            said = tool.said.decode("utf-8", "replace")
    except OutOfTime as error:
        raise Temporary(f"{shown(path)}: {_PROGRAM} took longer than {timeout_s:.0f} s and was ended") from error
    except OSError as error:
        raise Permanent(f"{program} cannot be run: {error.strerror}") from error
    if printed is None or (code and "MemoryError" in said + printed[-4096:].decode("utf-8", "replace")):
        raise InvalidInput(
            f"{shown(path)}: is too large: {_PROGRAM} takes more than {_MEMORY_BYTES >> 20} MiB for it, or prints more "
            f"than {_MOST_BYTES >> 20} MiB. Does a pattern or an alias in it stand for very many hosts or values?"
        )
    if code:
        raise InvalidInput(f"{shown(path)}: {printable(_failure(said, path))}")
    return printed, said


def _parsed(content: bytes, name: str) -> Mapping[str, Any]:
    # Each value takes a hundred bytes or so of memory, however short it is written.
    if sum(map(content.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise InvalidInput(f"{name}: holds more than {_MOST_VALUES} values, the most that are read")
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
