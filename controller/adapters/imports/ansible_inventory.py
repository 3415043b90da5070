"""Reading Ansible inventories with Ansible's own program, in a process of its own.

INI, YAML, directories, group_vars, host_vars and inventory plugins mean what they mean to Ansible; an inventory that is
a program is run, as Ansible runs it.
"""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.adapters.imports.inventory_size import PROGRAMS, check_size
from controller.adapters.local.named_files import open_file, read_file, shown
from controller.adapters.local.tools import OutOfTime, Tool
from controller.domain.errors import InvalidInput, Permanent, Temporary
from controller.domain.fleet.inventory import LABEL_VARIABLES, is_template
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
_SCRIPT = re.compile(r"Failed to parse inventory with 'script' plugin: (.+)")
_SOURCE = re.compile(r"^Origin: <inventory plugin 'script' with source '(.+)'>$", re.MULTILINE)
_SCRIPT_SAID = "Standard error from inventory script:"
_LISTING_READ_AS_YAML = re.compile(r"in\s+group\s+\(_meta\)")
# What a program prints is what counts. Ansible would read its source as a list of hosts where it prints nothing.
_OF_PROGRAMS = {"ANSIBLE_INVENTORY_ENABLED": "script,auto"}
# What Ansible calls a variable that it has filled in for us.
_FILLED_IN = "kernroll_filled_in_{}"
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

    Templates in the variables that become labels are filled in, as far as Ansible can. Raises InvalidInput that names
    the file, and the line where Ansible tells it.
    """
    if not path.exists():
        raise InvalidInput(f"{shown(path)}: no such file or directory")
    if path.suffix == ".json":
        try:
            return Listing(_parsed(read_file(path, _MOST_BYTES), shown(path)), ())
        except OSError as error:
            raise InvalidInput(f"{shown(path)}: {(error.strerror or str(error)).lower()}") from error
    program = _installed(path)
    check_size(path)
    printed, said = _listed(program, path, timeout_s)
    content = _parsed(printed, shown(path))
    if names := sorted({name for _, name in _templates(content)}):
        _fill_in(content, names, program, path, timeout_s)
    return Listing(content, tuple(map(printable, _WARNING.findall(said)[:_MOST_WARNINGS])))


def composed(path: Path, expressions: Mapping[str, str], *, timeout_s: float) -> Mapping[str, Mapping[str, Any]]:
    """Return every host's variables, and beside them what Ansible makes of each expression, under its name.

    An expression that cannot be evaluated for a host, as of a variable that it does not have, is left out there.
    Raises as `read_inventory` does.
    """
    if not path.exists():
        raise InvalidInput(f"{shown(path)}: no such file or directory")
    program = _installed(path)
    check_size(path)
    printed, _ = _with_composed(program, path, expressions, timeout_s)
    hosts: Mapping[str, Mapping[str, Any]] = _parsed(printed, shown(path))["_meta"]["hostvars"]
    return hosts


def _installed(path: Path) -> str:
    program = shutil.which(_PROGRAM, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise Permanent(
            f"{shown(path)}: {_PROGRAM} is not installed: install ansible-core, or print the inventory where it is "
            f"(`{_PROGRAM} -i {shown(path)} --list > inventory.json`) and import that"
        )
    return program


def _with_composed(program: str, path: Path, expressions: Mapping[str, str], timeout_s: float) -> tuple[bytes, str]:
    """Return what Ansible prints and says where its own plugin evaluates these expressions for every host."""
    source = {
        "plugin": "ansible.builtin.constructed",
        "strict": False,
        "use_vars_plugins": True,
        "compose": dict(expressions),
    }
    with tempfile.TemporaryDirectory(prefix="kernroll-") as folder:
        file = Path(folder, "constructed.yaml")
        file.write_text(json.dumps(source), encoding="utf-8")
        return _listed(program, path, timeout_s, file)


def _templates(content: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield hosts' variables and the name of each of them that becomes a label and is a template."""
    meta = content.get("_meta")
    hosts = meta.get("hostvars") if isinstance(meta, dict) else None
    for own in hosts.values() if isinstance(hosts, dict) else ():
        if isinstance(own, dict):
            yield from ((own, name) for name in LABEL_VARIABLES if is_template(own.get(name)))


def _fill_in(content: Mapping[str, Any], names: Sequence[str], program: str, path: Path, timeout_s: float) -> None:
    """Put what Ansible makes of templates in their place; one that it cannot fill in stays as it is."""
    printed, _ = _with_composed(program, path, {_FILLED_IN.format(name): name for name in names}, timeout_s)
    hosts = _parsed(printed, shown(path))["_meta"]["hostvars"]
    before = content["_meta"]["hostvars"]
    for name, own in hosts.items():
        for variable in names:
            filled_in = own.get(_FILLED_IN.format(variable))
            if filled_in is not None and is_template(before.get(name, {}).get(variable)):
                before[name][variable] = _as_text(filled_in)


def _as_text(value: Any) -> Any:
    """Return numbers and booleans that a template gives as text: nobody could write them in another way."""
    if isinstance(value, dict):
        return {name: _as_text(each) for name, each in value.items()}
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _listed(program: str, path: Path, timeout_s: float, *more: Path) -> tuple[bytes, str]:
    """Return what Ansible prints of an inventory and more sources, and what it says beside that."""
    try:
        with Tool(
            [program, *(word for source in (path, *more) for word in ("-i", str(source))), "--list"],
            timeout_s=timeout_s,
            environment={**os.environ, **_SETTINGS, **(_OF_PROGRAMS if _is_program(path) else {})},
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
    if why := _failed_program(said):
        raise InvalidInput(why)
    if _LISTING_READ_AS_YAML.search(said):
        raise InvalidInput(
            f"{shown(path)}: holds _meta, as what `{_PROGRAM} --list` prints, which Ansible does not read from a file "
            "of this name: give it a name that ends in .json"
        )
    if code:
        raise InvalidInput(f"{shown(path)}: {printable(_failure(said, path))}")
    return printed, said


def _is_program(path: Path) -> bool:
    """Return whether Ansible is to run a file rather than read it."""
    if not path.is_file() or not os.access(path, os.X_OK):
        return False
    try:
        with open_file(path) as file:
            return file.read(max(map(len, PROGRAMS))).startswith(PROGRAMS)
    except OSError:
        return False


def _failed_program(said: str) -> str:
    """Return what became of a program that gave no inventory, with its own words; empty when none failed."""
    for part in said.split("[WARNING]: "):
        why, source = _SCRIPT.match(part), _SOURCE.search(part)
        if why is None or source is None or not _is_program(Path(source[1])):
            continue
        words = " ".join(part.partition(_SCRIPT_SAID)[2].split())
        told = f"its program gives no inventory: {why[1].rstrip('.')}{f'; it said: {words}' if words else ''}"
        return f"{shown(source[1])}: {printable(told)}"
    return ""


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
