"""Structured values out of any bytes: what a fuzzer changes in the bytes changes a field, a number or a word."""

import math
import struct
from collections.abc import Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

T = TypeVar("T")

# What breaks out of lines, tables, names, numbers and terminals.
HOSTILE = (
    *("", "a", "x86_64", "/", "../..", "a/b/c", "u1/a/0", "²", "٣", "1e999", "-1", "9" * 40, "{" * 80, "[" * 2000),
    *("\x1b[2J", "\x9b31m", "\u202e", "\u2028", "\0", "\r\n# promoted", "| a | b |", "\ud800", "é" * 300, "\U0010ffff"),
    *("WARNING: mm/x.c:1 f+0x1/0x2", "BUG: x", "Kernel panic - not syncing: y", "Out of memory: Killed process 1"),
)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 819.0, 1e308, -1e308, 5e-324, 1e20, math.inf, -math.inf, math.nan, 2.0**63, 1e-15)
_WHOLES = (0, 1, 2, 3, 255, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1, (1 << 64) - 1, 253_402_300_800)
_MOST_DEPTH = 6


class Draw:
    """Takes values off bytes, front to back; when they are used up everything is the first of its kind."""

    def __init__(self, data: bytes, words: Sequence[str] = ()) -> None:
        """Draw texts from these words, from hostile ones, and from the bytes themselves."""
        self._data = data
        self._at = 0
        self.words = list(words)

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def byte(self) -> int:
        """Return the next byte, 0 at the end."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def below(self, end: int) -> int:
        """Return a number from 0, below `end`."""
        return self.byte() % end if end <= 256 else (self.byte() << 8 | self.byte()) % end

    def of(self, values: Sequence[T]) -> T:
        """Return one of the values."""
        return values[self.below(len(values))]

    def rest(self) -> bytes:
        """Return all that is left."""
        found = self._data[self._at :]
        self._at = len(self._data)
        return found

    def taken(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def text(self) -> str:
        """Return a text without lone surrogates, which no message can carry."""
        return self.any_text().encode("utf-8", "replace").decode()

    def any_text(self) -> str:
        """Return a text of any characters."""
        match self.byte():
            case kind if kind < 110 and self.words:
                return self.words[kind % len(self.words)]
            case kind if kind < 200:
                return HOSTILE[kind % len(HOSTILE)]
            case kind if kind < 220:
                return self.of(HOSTILE) * self.below(4000)
            case _:
                return self.taken(self.below(64)).decode("utf-8", "replace")

    def real(self) -> float:
        """Return any double."""
        kind = self.byte()
        if kind < 200:
            return _FLOATS[kind % len(_FLOATS)]
        return float(struct.unpack("<d", self.taken(8).ljust(8, b"\0"))[0])

    def whole(self) -> int:
        """Return a number of 64 bits without a sign."""
        kind = self.byte()
        if kind < 200:
            return _WHOLES[kind % len(_WHOLES)]
        return int.from_bytes(self.taken(8), "little")

    def count(self) -> int:
        """Return how many of something there are: mostly few, seldom many."""
        kind = self.byte()
        return kind % 4 if kind < 250 else 40 * (kind - 248)

    def message(self, kind: type[Message], depth: int = 0) -> Any:
        """Return a message of that kind with any of its fields set to anything they can hold."""
        made = kind()
        for field in kind.DESCRIPTOR.fields:
            if self.byte() % 3 == 0:
                self._set(made, field, depth)
        return made

    def _set(self, made: Any, field: FieldDescriptor, depth: int) -> None:
        inner = field.message_type
        if inner is not None and depth >= _MOST_DEPTH:
            return
        if inner is not None and inner.GetOptions().map_entry:
            for _ in range(self.count()):
                getattr(made, field.name)[self.text()] = self._value(inner.fields_by_name["value"])
        elif field.is_repeated:
            for _ in range(self.count()):
                if inner is not None:
                    getattr(made, field.name).append(self.message(inner._concrete_class, depth + 1))
                else:
                    getattr(made, field.name).append(self._value(field))
        elif inner is not None:
            getattr(made, field.name).CopyFrom(self.message(inner._concrete_class, depth + 1))
        else:
            setattr(made, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> Any:
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                return self.rest()[:256] if field.type == FieldDescriptor.TYPE_BYTES else self.text()
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return self.real()
            case FieldDescriptor.CPPTYPE_BOOL:
                return self.byte() % 2 == 1
            case FieldDescriptor.CPPTYPE_ENUM:
                return self.byte() % 20
            case FieldDescriptor.CPPTYPE_UINT64:
                return self.whole()
            case FieldDescriptor.CPPTYPE_INT64:
                return self.whole() - (1 << 63)
            case FieldDescriptor.CPPTYPE_UINT32:
                return self.whole() & 0xFFFF_FFFF
            case _:
                return (self.whole() & 0xFFFF_FFFF) - (1 << 31)


def as_text(data: bytes) -> str:
    """Return bytes as a file's text is read."""
    return data.decode("utf-8", "replace")


def all_printable(*texts: str, lines: bool = False) -> None:
    """Fail for a text that does something else than be read."""
    for text in texts:
        parts = text.split("\n") if lines else [text]
        assert all(part.isprintable() for part in parts), f"not printable: {text[:200]!r}"
