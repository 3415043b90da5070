"""How much an inventory's files stand for, told before Ansible writes all of it out: ranges of hosts, YAML aliases.

Ansible takes h[1:10000000] and aliases of aliases for what they say, in gigabytes and minutes. Counted here is only
what is plain to see; what is not understood is left to Ansible, which runs within limits.
"""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, NodeEvent

from controller.adapters.local.named_files import read_file, shown
from controller.domain.errors import InvalidInput
from controller.domain.fleet.inventory import MOST_HOSTS

# Of one file; 100 000 hosts with ten variables each are some 20 MiB.
MOST_FILE_BYTES: Final = 64 << 20
# Of one directory; what more there is Ansible reads within its limits.
MOST_FILES: Final = 10_000
# Characters of a file whose aliases are counted, which takes some seconds at most; those that explode are short.
_MOST_ALIASED: Final = 1 << 20
# Values that a file stands for once its aliases are written out.
MOST_VALUES: Final = 1_000_000
# What a program begins with: Ansible runs it, and reads what it prints.
PROGRAMS: Final = (b"#!", b"\x7fELF")
_YAML: Final = (".yaml", ".yml", ".json", "")
# Which takes such a mark for what it is.
_MARKED_YAML: Final = re.compile(r"\ufeff(?:[ \t]*(?:#[^\n]*)?\r?\n)*(?:---|\{|[^\s:\[=]+[ \t]*:)")
_SECTION: Final = re.compile(r"\[([^\[\]\s]{1,256})\]\s*(?:[#;].*)?$")
_RANGE: Final = re.compile(r"\[([0-9]{1,20}|[A-Za-z]):([0-9]{1,20}|[A-Za-z])(?::([0-9]{1,20}))?\]")
# A host of an INI file is a line's first word; one of a YAML file is the key of a mapping.
_INI_HOST: Final = re.compile(r"[^\s#;=]{1,1024}")
_YAML_HOST: Final = re.compile(r"""\s*(?:[-?]\s+)?["']?([^\s"'#]{1,1024}\])[^\s"'#]{0,1024}["']?\s*:""")
_ALIAS: Final = re.compile(r"(?:^|[\s\[{,:])\*[^\s,\]}]", re.MULTILINE)


def check_size(path: Path) -> None:
    """Raise InvalidInput that names file and line where an inventory stands for more than is read."""
    for file in itertools.islice(_files(path), MOST_FILES):
        try:
            content = read_file(file, MOST_FILE_BYTES)
        except OSError as error:
            raise InvalidInput(f"{shown(file)}: {(error.strerror or str(error)).lower()}") from error
        if content.startswith(PROGRAMS):
            continue
        text = content.decode("utf-8", "replace")
        if text.startswith("\ufeff") and not _MARKED_YAML.match(text):
            raise InvalidInput(
                f"{shown(file)}: begins with a byte order mark, which Ansible takes for a part of the first name: save "
                "it without one"
            )
        _check_ranges(text, shown(file), yaml=file.suffix in _YAML[:-1])
        if file.suffix in _YAML and len(text) <= _MOST_ALIASED and _ALIAS.search(text):
            _check_aliases(text, shown(file))


def _files(path: Path) -> Iterator[Path]:
    """Yield the files that Ansible reads: of a directory all but hidden ones, those with variables included."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            # What is large beside the inventory is none of it.
            if not name.startswith(".") and file.exists() and file.stat().st_size <= MOST_FILE_BYTES:
                yield file


def _check_ranges(text: str, name: str, *, yaml: bool) -> None:
    hosts = 0
    are_hosts = True
    for number, line in enumerate(text.splitlines(), 1):
        if "[" not in line:
            continue
        if not yaml and (section := _SECTION.match(line.strip())):
            are_hosts = not section[1].endswith((":vars", ":children"))
            continue
        match = _YAML_HOST.match(line) if yaml else _INI_HOST.match(line.strip()) if are_hosts else None
        if match is None:
            continue
        hosts += _count(match[0])
        if hosts > MOST_HOSTS:
            raise InvalidInput(f"{name}:{number}: stands for more than {MOST_HOSTS} hosts, the most that are read")


def _count(pattern: str) -> int:
    """Return how many hosts a pattern with ranges stands for; 0 for one without any."""
    product, found = 1, False
    for begin, end, step in _RANGE.findall(pattern):
        if begin.isalpha() != end.isalpha():
            continue
        first, last = (ord(bound) if bound.isalpha() else int(bound) for bound in (begin, end))
        product *= max(0, last - first) // max(1, int(step or 1)) + 1
        found = True
    return product if found else 0


def _check_aliases(text: str, name: str) -> None:
    """Count what every node stands for, each alias for as much as its anchor."""
    anchors: dict[str, int] = {}
    waiting: list[tuple[str | None, int]] = []
    total = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            size = anchors.get(event.anchor, 1) if isinstance(event, AliasEvent) else int(isinstance(event, NodeEvent))
            total += size
            if total > MOST_VALUES:
                line = event.start_mark.line + 1
                raise InvalidInput(
                    f"{name}:{line}: stands for more than {MOST_VALUES} values with its aliases (*name) written out"
                )
            _note(event, total, anchors, waiting)
    except (YAMLError, ValueError, RecursionError):
        # Ansible says what is wrong with it.
        return


def _note(event: Any, total: int, anchors: dict[str, int], waiting: list[tuple[str | None, int]]) -> None:
    """Keep what an anchored node stands for, as soon as it has ended."""
    kind = type(event).__name__
    if kind.endswith("StartEvent"):
        waiting.append((getattr(event, "anchor", None), total))
    elif kind.endswith("EndEvent"):
        anchor, before = waiting.pop()
        if anchor is not None:
            anchors[anchor] = total - before + 1
    elif kind == "ScalarEvent" and event.anchor is not None:
        anchors[event.anchor] = 1
