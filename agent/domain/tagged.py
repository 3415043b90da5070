"""Records as plain fields under the name of their kind, and back with every field checked.

What the agent keeps on disk and what its exercisers say are read by it: neither may be of another shape than it says.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, Final, Generic, TypeVar

_T = TypeVar("_T")
_LONGEST_TEXT: Final = 64 << 10
_HIGHEST: Final = 2**63 - 1


class Unreadable(ValueError):
    """The text says what is wrong with the content, not with which file or line."""


class Unknown(ValueError):
    """A newer agent may know it; the text names the kind or the field."""


class Tagged(Generic[_T]):
    """Between records and their fields. The names of kinds are kept on disk: they stay as they are."""

    def __init__(self, kinds: Mapping[str, type[_T]]) -> None:
        self._kinds = kinds
        self._names = {kind: name for name, kind in kinds.items()}

    def plain(self, record: _T) -> dict[str, Any]:
        """Return the record's fields and, as "kind", its kind's name."""
        # Kinds are dataclasses, which the type of a bound cannot say.
        values: Any = record
        return {"kind": self._names[type(record)], **asdict(values)}

    def record(self, told: Mapping[str, Any]) -> _T:
        """Return the record that these fields are. Raises Unreadable, Unknown."""
        name = text_of(told.get("kind"))
        kind: Any = self._kinds.get(name)
        if kind is None:
            raise Unknown(f"the record {name[:64]!r}")
        known = {field.name: field for field in fields(kind)}
        for key in told:
            if key != "kind" and key not in known:
                raise Unknown(f"{key[:64]!r} in the record {name}")
        found = {}
        for key, field in known.items():
            if key in told:
                found[key] = _CHECKS[field.type](told[key])
            elif field.default is MISSING:
                raise Unreadable(f"a record {name} of it has no {key}")
        record: _T = kind(**found)
        return record


def text_of(value: Any) -> str:
    """Return a text that the rest of the agent can do with. Raises Unreadable."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or "\0" in value:
        raise Unreadable("a text of it is none")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Unreadable("a text of it has half a character") from error
    return value


def number_of(value: Any) -> int:
    """Return a number that the rest of the agent can do with. Raises Unreadable."""
    if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value <= _HIGHEST:
        raise Unreadable("a number of it is none")
    return value


def _measured(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise Unreadable("a number of it is none")
    return value


def _flag_of(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unreadable("what is true or false in it is neither")
    return value


def _number_or_none(value: Any) -> int | None:
    return None if value is None else number_of(value)


_CHECKS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    str: text_of,
    int: number_of,
    float: _measured,
    bool: _flag_of,
    int | None: _number_or_none,
}
