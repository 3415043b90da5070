"""Values to JSON and back: the type's name is stored beside its fields, checked again when it is read."""

import json
from typing import Any, get_args

from pydantic import TypeAdapter

from controller.domain import effects, events
from controller.domain.effects import Effect
from controller.domain.errors import Permanent
from controller.domain.events import Event
from controller.domain.hosts import Host

_EVENTS: dict[str, type[Any]] = {member.__name__: member for member in get_args(events.Event)}
_EFFECTS: dict[str, type[Any]] = {member.__name__: member for member in get_args(effects.Effect)}


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {
    of: TypeAdapter(of) for of in (*_EVENTS.values(), *_EFFECTS.values(), Host)
}


def _adapter(of: type[Any]) -> TypeAdapter[Any]:
    return _ADAPTERS[of]


def encode(value: Event | Effect | Host) -> str:
    """Return the value's fields as JSON, keys sorted, so that equal values have equal text."""
    return json.dumps(_adapter(type(value)).dump_python(value, mode="json"), sort_keys=True, separators=(",", ":"))


def decode_event(kind: str, payload: str) -> Event:
    """Return the event; raises Permanent for a type this version does not know."""
    event: Event = _adapter(_known(_EVENTS, kind, "event")).validate_json(payload)
    return event


def decode_effect(kind: str, payload: str) -> Effect:
    """Return the effect; raises Permanent for a type this version does not know."""
    effect: Effect = _adapter(_known(_EFFECTS, kind, "effect")).validate_json(payload)
    return effect


def decode_host(payload: str) -> Host:
    """Return the host."""
    host: Host = _adapter(Host).validate_json(payload)
    return host


def _known(kinds: dict[str, type[Any]], kind: str, what: str) -> type[Any]:
    if kind not in kinds:
        raise Permanent(f"the store holds an {what} of type {kind!r} that this version does not know: run a newer one")
    return kinds[kind]
