"""YAML text as plain values plus the line of every field, so that an error can name the place it is about."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from controller.domain.errors import InvalidInput

MAX_CHARACTERS: Final = 256 * 1024
MAX_DEPTH: Final = 16
MAX_VALUES: Final = 50_000

# Where a value stands: mapping keys and list indexes from the top of the document.
Path = tuple[str | int, ...]

_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[Mapping[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a file."""

    line: int
    # The field in the file's own words, for example "spec.waves[0].per_stratum"; empty for the whole document.
    field: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed document: dicts, tuples, str, int, float, bool and None, and the line of each."""

    data: Any
    lines: Mapping[Path, int]
    problems: tuple[Problem, ...]

    def line_of(self, path: Path) -> int:
        """Return the line, from 1, of the value at `path` or of the nearest value around it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


@dataclass(slots=True, kw_only=True)
class _Open:
    """A mapping or list whose end has not been read yet."""

    path: Path
    values: dict[str, Any] | list[Any]
    # The key whose value comes next; None when a key comes next.
    key: str | None = None


def field_name(path: Path) -> str:
    """Return a path the way people write it: "spec.waves[0].per_stratum"."""
    name = ""
    for part in path:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name


def refuse(file_name: str, problems: list[Problem]) -> InvalidInput:
    """Return one error that tells all problems, in the order of their lines."""
    ordered = sorted(set(problems), key=lambda problem: (problem.line, problem.field, problem.text))
    lines = (
        f"{file_name}:{problem.line}: {problem.field + ': ' if problem.field else ''}{problem.text}"
        for problem in ordered
    )
    # A key may hold anything, also what moves a terminal's cursor.
    return InvalidInput("\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines))


def read_document(text: str, file_name: str) -> Document:
    """Parse one YAML document.

    Raises InvalidInput for what is no readable YAML, too big, too deep, or uses anchors, aliases or tags (none of which
    a rollout needs, and all of which can hide what a reader does not see). Duplicate keys are collected as problems.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(f"{file_name}:1: is too big: {len(text)} characters, at most {MAX_CHARACTERS} are read")
    if "\0" in text:
        raise InvalidInput(f"{file_name}:1: is not a text file: it contains NUL characters")
    try:
        document = _Builder(file_name).build(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as error:
        raise InvalidInput(_syntax_message(file_name, error)) from error
    except YAMLError as error:
        raise InvalidInput(f"{file_name}:1: is not readable as YAML: {' '.join(str(error).split())}") from error
    return document


def _syntax_message(file_name: str, error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    parts = [str(part).strip() for part in (error.context, error.problem) if part]
    return f"{file_name}:{line}: is not valid YAML: {', '.join(parts)}"


def _scalar(text: str) -> str | int | float | bool | None:
    """Resolve a plain scalar by YAML 1.2's core rules; `yes`, `no`, dates and octal numbers stay text."""
    if text in _WORDS:
        return _WORDS[text]
    # Python refuses to convert integers of thousands of digits; no field needs more than 18.
    if _INTEGER.fullmatch(text) and len(text) <= 18:
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return text


class _Builder:
    """Turns the parser's events into values without recursion, so that depth cannot exhaust the stack."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name
        self._lines: dict[Path, int] = {(): 1}
        self._problems: list[Problem] = []
        self._stack: list[_Open] = []
        self._data: Any = None
        self._documents = 0
        self._values = 0

    def build(self, events: Iterator[Any]) -> Document:
        for event in events:
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            self._refuse_unneeded(event, line)
            match event:
                case ScalarEvent():
                    self._scalar_event(event, line)
                case MappingStartEvent():
                    self._open({}, line)
                case SequenceStartEvent():
                    self._open([], line)
                case MappingEndEvent() | SequenceEndEvent():
                    closed = self._stack.pop()
                    self._put(tuple(closed.values) if isinstance(closed.values, list) else closed.values)
                case _:
                    pass
        return Document(data=self._data, lines=self._lines, problems=tuple(self._problems))

    def _refuse_unneeded(self, event: Any, line: int) -> None:
        self._values += 1
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
        for wrong, text in (
            (self._documents > 1, "holds more than one document; write one rollout per file"),
            (self._values > MAX_VALUES, f"holds too many values, at most {MAX_VALUES} are read"),
            (len(self._stack) > MAX_DEPTH, f"is nested too deep, at most {MAX_DEPTH} levels are read"),
            (isinstance(event, AliasEvent), "uses an alias (*name); write the value out"),
            (
                getattr(event, "anchor", None) is not None,
                "uses an anchor (&name); write the value out where it is needed",
            ),
            (getattr(event, "ctag", None) is not None, "uses a tag (!name); write a plain value"),
        ):
            if wrong:
                raise InvalidInput(f"{self._file_name}:{line}: {text}")

    def _scalar_event(self, event: ScalarEvent, line: int) -> None:
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.values, dict) and parent.key is None:
            self._key(parent, event.value, line)
            return
        self._note_line(line)
        self._put(_scalar(event.value) if event.style is None else event.value)

    def _key(self, parent: _Open, key: str, line: int) -> None:
        path = (*parent.path, key)
        assert isinstance(parent.values, dict)
        if key in parent.values:
            first = self._lines[path]
            self._problems.append(
                Problem(line=line, field=field_name(path), text=f"is written twice (first in line {first})")
            )
        else:
            self._lines[path] = line
        parent.key = key

    def _here(self) -> Path:
        """Return the path of the value that is read next."""
        if not self._stack:
            return ()
        parent = self._stack[-1]
        return (*parent.path, parent.key if isinstance(parent.values, dict) else len(parent.values))  # type: ignore[arg-type]  # a key was read

    def _note_line(self, line: int) -> None:
        self._lines.setdefault(self._here(), line)

    def _open(self, values: dict[str, Any] | list[Any], line: int) -> None:
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.values, dict) and parent.key is None:
            raise InvalidInput(f"{self._file_name}:{line}: uses a list or mapping as a key; write a word")
        self._note_line(line)
        self._stack.append(_Open(path=self._here(), values=values))

    def _put(self, value: Any) -> None:
        if not self._stack:
            self._data = value
            return
        parent = self._stack[-1]
        if isinstance(parent.values, list):
            parent.values.append(value)
            return
        assert parent.key is not None, "a value follows its key"
        parent.values.setdefault(parent.key, value)
        parent.key = None
