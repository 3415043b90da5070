"""Reads JSON objects field by field, with errors that name where and what."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.domain.errors import Permanent


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object and the name under which errors speak of it."""

    where: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, document: object, where: str) -> "Fields":
        """Wrap a decoded JSON value; raise Permanent when it is not an object."""
        if not isinstance(document, dict):
            raise Permanent(f"{where}: must be a JSON object")
        return cls(where, document)

    def _get(self, name: str, kind: type | tuple[type, ...], what: str) -> Any:
        value = self.values.get(name)
        if value is None:
            raise Permanent(f"{self.where}.{name}: is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise Permanent(f"{self.where}.{name}: must be {what} (got {value!r:.80})")
        return value

    def text(self, name: str, *, empty: bool = False) -> str:
        """Return a string, by default not an empty one."""
        value: str = self._get(name, str, "a string")
        if not value and not empty:
            raise Permanent(f"{self.where}.{name}: must not be empty")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None when the field is absent or null."""
        return None if self.values.get(name) is None else self.text(name)

    def integer(self, name: str, *, minimum: int) -> int:
        """Return a whole number of at least `minimum`."""
        value: int = self._get(name, int, "a whole number")
        if value < minimum:
            raise Permanent(f"{self.where}.{name}: must be at least {minimum} (got {value})")
        return value

    def number(self, name: str, *, minimum: float = 0.0) -> float:
        """Return a finite number of at least `minimum`."""
        value: int | float = self._get(name, (int, float), "a number")
        # A whole number of JSON has no limit.
        if not minimum <= value <= sys.float_info.max:
            raise Permanent(f"{self.where}.{name}: must be a finite number of at least {minimum:g} (got {value!r:.80})")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """Return a number, or None when the field is absent or null."""
        return None if self.values.get(name) is None else self.number(name)

    def boolean(self, name: str) -> bool:
        """Return true or false."""
        value: bool = self._get(name, bool, "true or false")
        return value

    def one_of(self, name: str, allowed: Sequence[str]) -> str:
        """Return a string out of a fixed list."""
        value = self.text(name)
        if value not in allowed:
            raise Permanent(f"{self.where}.{name}: must be one of {', '.join(allowed)} (got {value!r})")
        return value

    def text_list(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self._get(name, list, "a list of strings")
        if not all(isinstance(value, str) for value in values):
            raise Permanent(f"{self.where}.{name}: must be a list of strings")
        return tuple(values)

    def text_map(self, name: str) -> dict[str, str]:
        """Return an object whose values are strings."""
        values = self._get(name, dict, "an object of strings")
        if not all(isinstance(value, str) for value in values.values()):
            raise Permanent(f"{self.where}.{name}: must be an object of strings")
        return dict(values)

    def inner(self, name: str) -> "Fields":
        """Return the object inside a field."""
        return Fields.of(self._get(name, dict, "an object"), f"{self.where}.{name}")

    def inner_list(self, name: str) -> "list[Fields]":
        """Return the objects of a list."""
        values = self._get(name, list, "a list of objects")
        return [Fields.of(value, f"{self.where}.{name}[{index}]") for index, value in enumerate(values)]
