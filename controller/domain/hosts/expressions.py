"""Expressions over hosts, in the Common Expression Language: `arch == "arm64" && swap_total >= TiB(1)`.

The library checks names and types before anything is evaluated. There are no loops, so that evaluating takes time in
proportion to the expression's length.
"""

import difflib
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

# It ships types without the marker that says so.
from cel_expr_python import cel  # type: ignore[import-untyped]

from controller.domain.bounds import digits
from controller.domain.hosts.facts import FACTS, OTHER_NAMES, Kind
from controller.domain.hosts.releases import compared, upstream_version
from controller.domain.printable import printable, printable_lines

MAX_CHARACTERS: Final = 1000
_TEXT, _NUMBER, _TRUTH = cel.Type.STRING, cel.Type.INT, cel.Type.BOOL
_TYPES: Final[Mapping[Kind, Any]] = {
    Kind.TEXT: _TEXT,
    Kind.NUMBER: _NUMBER,
    Kind.TRUTH: _TRUTH,
    Kind.TEXTS: cel.Type.List(_TEXT),
    Kind.LABELS: cel.Type.Map(_TEXT, _TEXT),
}
FUNCTIONS: Final[Mapping[str, str]] = {
    "KiB(n), MiB(n), GiB(n), TiB(n)": "a size in bytes: swap_total >= TiB(1)",
    "compare_releases(a, b)": "below 0 when kernel release a is older than b, above 0 when it is newer, else 0",
    "int(x)": "the number that a text writes: int(labels.slot) >= 12",
    "has(labels.x)": "whether the host has the label",
    "size(x)": "how long a text or list is, how many labels there are",
    "x.startsWith(y), x.endsWith(y), x.contains(y)": "whether a text begins with, ends with or contains another",
    "x.matches(y)": "whether a regular expression (RE2) is found in a text",
}
_SIZES: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# Loops over lists; what they are for here, `in` does as well. Texts have no order: "6.9" would come after "6.12".
_STANDARD: Final = "stdlib:\n  exclude_macros: [all, exists, exists_one, filter, map]\n"
_NO_ORDER: Final = "  exclude_functions:\n" + "".join(
    f"    - name: '_{sign}_'\n      overloads: [{{id: {overload}_string}}]\n"
    for sign, overload in (("<", "less"), ("<=", "less_equals"), (">", "greater"), (">=", "greater_equals"))
)

_ORDERS: Final = ("<", "<=", ">", ">=")
# Release -> upstream version, of the host that is asked: the function that compares releases sees only texts.
_UPSTREAM: Final[ContextVar[Mapping[str, str]]] = ContextVar("upstream", default={})  # noqa: B039
_WORD: Final = re.compile(r"\w+", re.ASCII)
# A text as the language writes it, or a call of `matches` whose pattern is one; what is within a text is no call.
_LITERAL: Final = (
    r"""(?:[rR]?(?:\"{3}(?s:.*?)\"{3}|'{3}(?s:.*?)'{3})|[rR](?:"[^"\n]*"|'[^'\n]*')"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
)
_MATCHES: Final = re.compile(rf"\bmatches\s*\(\s*(?:[^()\"',]*,\s*)?(?P<pattern>{_LITERAL})\s*\)|{_LITERAL}")
_FIRST_ERROR: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED: Final = re.compile(r"undeclared reference to '([^']*)'")
_OVERLOAD: Final = re.compile(r"found no matching overload for '([^']*)' applied to '\(?([^')]*)\)?'")
# What stands around a comparison of two texts, as far as it is simple.
_TEXTS_COMPARED: Final = re.compile(rf"([\w.]+|{_LITERAL})\s*[<>]=?\s*([\w.]+|{_LITERAL})")
_UNEXPECTED: Final = re.compile(r"Syntax error: (?:extraneous|mismatched) input '(.*?)' expecting ")
_UNREADABLE: Final = re.compile(r"Syntax error: token recognition error at: '(.*)'")
_NO_KEY: Final = re.compile(r'Key not found in map : "(.*)"')
_NO_VALUE: Final = re.compile(r'No value with name "(.*?)"')


class ExpressionError(ValueError):
    """An expression that cannot be used; the text names the place, counted from 1."""

    def __init__(self, text: str, *, line: int, column: int) -> None:
        place = f"column {column}" if line == 1 else f"line {line}, column {column}"
        super().__init__(f"{place}: {printable(text)}")
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Undecided:
    """Neither yes nor no: the host does not tell what the expression asks for."""

    # A sentence without a subject and full stop, for example "has no label zone".
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A checked expression."""

    text: str
    # The facts it asks for; may name some that only its texts mention.
    names: tuple[str, ...]
    program: Any

    def decide(self, facts: Mapping[str, Any]) -> bool | Undecided:
        """Return whether a host with these facts matches."""
        release = facts.get("kernel_release", "")
        known = _UPSTREAM.set({release: facts["upstream_version"]} if facts.get("upstream_version") else {})
        try:
            decided = self.program.eval(data=facts).value()
        finally:
            _UPSTREAM.reset(known)
        return decided if isinstance(decided, bool) else Undecided(printable(_why(str(decided))))


def expression(text: str) -> Expression:
    """Return the checked expression of a person; raises ExpressionError."""
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"is longer than {MAX_CHARACTERS} characters", line=1, column=MAX_CHARACTERS + 1)
    return _checked(text, _environment())


def recorded(text: str) -> Expression:
    """Return an expression that is on record: what was once taken means what it meant then.

    However long: the controller's own are as long as labels make them.
    """
    return _checked(text, _environment(ordered_texts=True))


@lru_cache(maxsize=256)
def _checked(text: str, environment: Any) -> Expression:
    if not text.strip():
        raise ExpressionError("is empty", line=1, column=1)
    try:
        program = environment.compile(text)
    # It raises nothing more particular.
    except RuntimeError as error:
        raise _explained(str(error), text) from error
    if program.return_type() != _TRUTH:
        kind = _kinds(program.return_type().name())
        raise ExpressionError(f"is {kind} and not a condition; compare it with something", line=1, column=1)
    _check_patterns(text)
    words = set(_WORD.findall(text))
    if "compare_releases" in words:
        # What the releases themselves may hide.
        words |= {"kernel_release", "upstream_version"}
    return Expression(text=text, names=tuple(name for name in FACTS if name in words), program=program)


def _check_patterns(text: str) -> None:
    """Raise ExpressionError for a regular expression that is none: every host would be blamed for it."""
    for found in _MATCHES.finditer(text):
        pattern = found["pattern"]
        if pattern is None:
            continue
        decided = _environment().compile(f"''.matches({pattern})").eval(data={}).value()
        if not isinstance(decided, bool):
            before = text[: found.start("pattern")]
            line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
            why = printable(str(decided), 200)
            raise ExpressionError(f"is no regular expression (RE2): {why}", line=line, column=column)


def checked(text: str) -> str:
    """Return an expression as it is written; raises ValueError with the place of what is wrong in it."""
    expression(text)
    return text


def pointed(text: str, error: ExpressionError) -> str:
    """Return an error with the expression's line under it and a mark where it is wrong."""
    return f"{error}\n  {printable_lines(_line(text, error.line))}\n  {' ' * (error.column - 1)}^"


def _line(text: str, number: int) -> str:
    """Return a line as the library counts them, or the last one."""
    lines = text.split("\n")
    return lines[min(number, len(lines)) - 1]


@lru_cache(maxsize=2)
def _environment(*, ordered_texts: bool = False) -> Any:
    sizes = [
        cel.FunctionDecl(name, [cel.Overload(f"{name}_int", _NUMBER, [_NUMBER], impl=_times(size))])
        for name, size in _SIZES.items()
    ]
    compare = cel.Overload("compare_releases", _NUMBER, [_TEXT, _TEXT], impl=_compared)
    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(_STANDARD if ordered_texts else _STANDARD + _NO_ORDER),
        variables={name: _TYPES[fact.kind] for name, fact in FACTS.items()},
        functions=[*sizes, cel.FunctionDecl("compare_releases", [compare])],
    )


def _times(size: int) -> Any:
    return lambda count: count * size


def _compared(one: str, other: str) -> int:
    known = _UPSTREAM.get()
    found = compared(one, other, known.get(one, ""), known.get(other, ""))
    if found is None and _are_one_version(one, other, known):
        return 0
    if found is None:
        raise ValueError(f"whether {one} is older than {other} cannot be told from their names")
    return found


def _are_one_version(one: str, other: str, known: Mapping[str, str]) -> bool:
    """Return whether one of two texts is a version alone, which stands for every kernel of it, and the other has it."""
    versions = upstream_version(one, known.get(one, "")), upstream_version(other, known.get(other, ""))
    alone = any(
        text in (version, version.removesuffix(".0")) for text, version in zip((one, other), versions, strict=True)
    )
    return alone and versions[0] == versions[1]


def _explained(said: str, text: str) -> ExpressionError:
    """Return what the library found first, in our words where its own are those of a compiler."""
    match = _FIRST_ERROR.search(said)
    if match is None:
        return ExpressionError(" ".join(said.split()), line=1, column=1)
    line, column, words = int(match[1]), int(match[2]), match[3]
    if found := _UNDECLARED.match(words):
        words = _unknown(found[1])
        # A call is said to be wrong at its bracket.
        column -= len(found[1]) if _line(text, line)[column - 1 : column] == "(" else 0
    elif found := _OVERLOAD.match(words):
        sign = found[1].strip("_")
        operands = " and ".join(_kinds(kind) for kind in found[2].split(", "))
        words = f"{sign} does not go with {operands}"
        if sign in _ORDERS and operands == "a text and a text":
            words = _unordered(sign, text)
    elif (found := _UNREADABLE.match(words)) and found[1].startswith("="):
        words = 'a comparison is written with two signs: arch == "arm64"'
    elif found := _UNREADABLE.match(words):
        words = f"{found[1].strip()!r} is not understood"
    elif found := _UNEXPECTED.match(words):
        words = "ends too early" if found[1] == "<EOF>" else f"{found[1]} is not expected here"
        column = min(column, len(text) + 1)
    return ExpressionError(words, line=line, column=column)


def _unordered(sign: str, text: str) -> str:
    """Say that texts have no order, and what to write instead."""
    found = next((match for match in _TEXTS_COMPARED.finditer(text) if sign in match[0]), None)
    one, other = (found[1], found[2]) if found else ("kernel_release", '"6.12"')
    asked = " ".join(_WORD.findall(f"{one} {other}"))
    if found is None or "release" in asked or "version" in asked:
        return f'{sign} compares no texts, "6.9" would follow "6.12"; write compare_releases({one}, {other}) {sign} 0'
    one, other = (re.sub(r"^[\"'](\d+)[\"']$", r"\1", side) for side in (one, other))
    one, other = (side if digits(side) is not None else f"int({side})" for side in (one, other))
    return f"{sign} compares no texts; numbers in them are compared so: {one} {sign} {other}"


def _unknown(name: str) -> str:
    known = [*FACTS, *_SIZES, "has", "size", "compare_releases"]
    other = {**OTHER_NAMES, "cpus": "cpu_count"}
    close = difflib.get_close_matches(name, known, n=1)
    meant = other.get(name, close[0] if close else "")
    others = f"a label is written labels.{name}; `kernroll hosts facts` lists facts"
    hint = f"did you mean {meant}?" if meant else others
    return f"{name} is no fact of a host; {hint}"


def _kinds(kind: str) -> str:
    words = {"string": "a text", "int": "a number", "double": "a fraction", "bool": "a condition", "uint": "a number"}
    return words.get(kind.lower(), f"a {kind.lower().partition('<')[0]}")


def _why(said: str) -> str:
    if found := _NO_KEY.search(said):
        return f"has no label {found[1]}"
    if found := _NO_VALUE.search(said):
        return f"does not tell its {found[1]}"
    return f"cannot be decided on: {' '.join(said.split()).removeprefix('OUT_OF_RANGE: ')}"
