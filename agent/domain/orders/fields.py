"""The fields of an order: each says what it means, and values from a preset, a message or a command line fill them."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar, get_type_hints

from agent.domain.errors import InvalidOrder

# Values by field name; a nested order's values are a mapping of their own. What is not named keeps its default.
Values = Mapping[str, object]

_O = TypeVar("_O")


def setting(default: Any, says: str, *, choices: tuple[str, ...] = ()) -> Any:
    """Return a dataclass field with its default, the sentence that --help prints, and the words it may take."""
    return field(default=default, metadata={"says": says, "choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderField:
    """One field of an order, as a command line shows it."""

    name: str
    # int, float, bool, str, a StrEnum, tuple[str, ...], or a dataclass of fields.
    kind: Any
    default: Any
    says: str
    choices: tuple[str, ...]


def order_fields(order: type[Any]) -> tuple[OrderField, ...]:
    """Return the fields of an order's dataclass, in its order."""
    hints = get_type_hints(order)
    return tuple(
        OrderField(
            name=each.name,
            kind=hints[each.name],
            default=each.default_factory() if each.default_factory is not MISSING else each.default,
            says=str(each.metadata.get("says", "")),
            choices=tuple(each.metadata.get("choices", ())),
        )
        for each in fields(order)
    )


def build(order: type[_O], values: Values) -> _O:
    """Return the order with these values and its defaults. Raises InvalidOrder for what makes no sense."""
    known = {each.name: each for each in order_fields(order)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InvalidOrder(f"{unknown[0]} is no parameter; known are {', '.join(known)}")
    converted = {name: _convert(known[name], value) for name, value in values.items()}
    result = order(**converted)
    for name, each in known.items():
        chosen = getattr(result, name)
        if each.choices and chosen not in each.choices:
            raise InvalidOrder(f"{name} must be one of {', '.join(filter(None, each.choices))} (got {chosen!r})")
    return result


def merge(below: Values, above: Values) -> Values:
    """Return the values of both, those above winning; nested values are merged field by field."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            # Another kind of swap shares no parameter with the kind that it replaces.
            replaced = "kind" in value and under.get("kind", value["kind"]) != value["kind"]
            merged[name] = value if replaced else merge(under, value)
        else:
            merged[name] = value
    return merged


def _convert(target: OrderField, value: object) -> object:
    kind = target.kind
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise InvalidOrder(f"{target.name} must name its own parameters")
        return build(kind, value)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        try:
            return kind(str(value))
        except ValueError:
            raise InvalidOrder(f"{target.name} must be one of {', '.join(kind)} (got {value!r})") from None
    if isinstance(value, list | tuple):
        return tuple(_convert(replace(target, kind=str), each) for each in value)
    if isinstance(value, str) and "\0" in value:
        raise InvalidOrder(f"{target.name} must be a text without zero bytes")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidOrder(f"{target.name} must be a number (got {value})")
    return float(value) if kind is float and isinstance(value, int) else value
