"""Values to JSON and back: the type's name is stored beside its fields, checked again when it is read."""

import json
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from controller.domain.errors import Permanent
from controller.domain.hosts.host import Host
from controller.domain.record import effects, events
from controller.domain.record.effects import Effect
from controller.domain.record.events import Event

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
    """Return the event; raises Permanent for a type this version does not know, and for what cannot be read."""
    event: Event = _decoded(_known(_EVENTS, kind, "event"), payload)
    return event


def decode_effect(command_id: str, kind: str, payload: str) -> Effect:
    """Return the effect; raises Permanent as `decode_event` does."""
    try:
        effect: Effect = _decoded(_known(_EFFECTS, kind, "effect"), payload)
    except Permanent as error:
        raise Permanent(f"effect {command_id} ({kind}) cannot be read: {error}") from error
    return effect


def decode_host(name: str, payload: str) -> Host:
    """Return the host; raises Permanent for what cannot be read."""
    try:
        host: Host = _decoded(Host, payload)
    except Permanent as error:
        raise Permanent(f"the record of host {name} cannot be read: {error}") from error
    return host


def _decoded(of: type[Any], payload: str) -> Any:
    try:
        return _adapter(of).validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Permanent(f"{place + ': ' if place else ''}{first['msg']}; restore the database from a backup") from error


def _known(kinds: dict[str, type[Any]], kind: str, what: str) -> type[Any]:
    if kind not in kinds:
        raise Permanent(f"the store holds an {what} of type {kind!r} that this version does not know: run a newer one")
    return kinds[kind]
