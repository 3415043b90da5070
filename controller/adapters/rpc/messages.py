"""View models to protobuf and back, by field name.

The names of a view's fields are those of its message, so no table has to be kept: a field that exists on one side only
fails the tests, not a user.
"""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from controller.domain.printable import printable_lines
from controller.domain.record.control import Verb
from controller.views.models import Epoch
from controller.words import LAST_MOMENT
from protos.kernroll.v1 import operator_pb2

M = TypeVar("M", bound=Message)
V = TypeVar("V")

_NANOS = 1_000_000_000
# The year 1, where protobuf's calendar begins.
_FIRST_MOMENT = -62_135_596_800.0
# More than any report has: nothing of a text is left out here.
_MOST_CHARACTERS = 1 << 28


def to_message(view: object, kind: type[M]) -> M:
    """Return the view as a message of that kind; None leaves a field unset."""
    message = kind()
    for field in fields(cast(Any, view)):
        value = getattr(view, field.name)
        if value is not None:
            _set(message, _descriptor(message, field.name), value)
    return message


def from_message(message: Message, kind: type[V]) -> V:
    """Return the message as a view of that kind; an unset field becomes None, or its type's empty value."""
    values: dict[str, Any] = {}
    for name, hint in _hints(cast(Any, kind)).items():
        values[name] = _get(message, _descriptor(message, name), hint)
    return kind(**values)


def timestamp(epoch_s: float) -> Timestamp:
    """Return seconds since the Unix epoch as a protobuf timestamp, or the nearest that its calendar can tell."""
    if not _FIRST_MOMENT <= epoch_s <= LAST_MOMENT:
        epoch_s = LAST_MOMENT if epoch_s > 0 else _FIRST_MOMENT
    whole = int(epoch_s // 1)
    nanos = min(_NANOS - 1, round((epoch_s - whole) * _NANOS))
    return Timestamp(seconds=whole, nanos=nanos)


def epoch(stamp: Timestamp) -> float:
    """Return a protobuf timestamp as seconds since the Unix epoch."""
    return stamp.seconds + stamp.nanos / _NANOS


def _descriptor(message: Message, name: str) -> FieldDescriptor:
    # The stubs say that a descriptor may be of either of two classes with the same members.
    return cast(FieldDescriptor, message.DESCRIPTOR.fields_by_name[name])


def _set(message: Message, descriptor: FieldDescriptor, value: Any) -> None:
    name = descriptor.name
    if isinstance(value, Mapping):
        getattr(message, name).update(value)
    elif isinstance(value, tuple):
        target = getattr(message, name)
        if descriptor.message_type is None:
            target.extend(value)
        else:
            kind = type(target.add())
            del target[:]
            target.extend(to_message(element, kind) for element in value)
    elif descriptor.message_type is not None:
        target = getattr(message, name)
        if is_dataclass(value):
            target.SetInParent()
            target.CopyFrom(to_message(value, type(target)))
        else:
            target.CopyFrom(timestamp(value))
    elif descriptor.enum_type is not None:
        setattr(message, name, _enum_number(descriptor.enum_type, value))
    else:
        setattr(message, name, value)


def _get(message: Message, descriptor: FieldDescriptor, hint: Any) -> Any:
    value = getattr(message, descriptor.name)
    optional, inner = _optional(hint)
    origin = get_origin(inner)
    if origin is tuple:
        element = get_args(inner)[0]
        return tuple(from_message(one, cast(Any, element)) if is_dataclass(element) else _shown(one) for one in value)
    if origin is not None and issubclass(origin, Mapping):
        return {_shown(key): _shown(one) for key, one in sorted(value.items())}
    if optional and descriptor.has_presence and not message.HasField(descriptor.name):
        return None
    if descriptor.message_type is not None:
        return Epoch(epoch(value)) if inner is Epoch else from_message(value, inner)
    if descriptor.enum_type is not None:
        return _enum_word(descriptor.enum_type, value)
    return _shown(value)


def _shown(value: Any) -> Any:
    """Return text without what a terminal would obey; whoever made it, a reader can only read it."""
    return printable_lines(value, _MOST_CHARACTERS, _MOST_CHARACTERS) if isinstance(value, str) else value


def _optional(hint: Any) -> tuple[bool, Any]:
    """Return whether the type allows None, and the type without it."""
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = (part for part in get_args(hint) if part is not type(None))
        return True, inner
    return False, hint


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


# An enumeration's words are its value names without the prefix, in lower case; number 0 is "unknown".


def _prefix(enum: EnumDescriptor) -> str:
    return enum.values_by_number[0].name.removesuffix("UNSPECIFIED")


def _enum_word(enum: EnumDescriptor, number: int) -> str:
    value = enum.values_by_number.get(number)
    return "unknown" if value is None or number == 0 else value.name.removeprefix(_prefix(enum)).lower()


def _enum_number(enum: EnumDescriptor, word: str) -> int:
    value = enum.values_by_name.get(_prefix(enum) + word.upper())
    return 0 if value is None else value.number


# The operator's verbs on the wire.
NUMBERS = {verb: operator_pb2.RolloutVerb.Value(f"ROLLOUT_VERB_{verb.name}") for verb in Verb}
VERBS: dict[int, Verb] = {number: verb for verb, number in NUMBERS.items()}
