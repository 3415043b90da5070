"""The supervisor's local API: one JSON object per line each way over a Unix socket, versioned."""

import json
from dataclasses import asdict
from typing import Any

from controller.adapters.delivery.hypervisor.fields import Fields
from controller.domain.delivery import BootCause, BootEnd, BootRecord, DeliveryStatus
from controller.domain.errors import Conflict, InvalidInput, KernrollError, NotFound, Permanent, Temporary
from controller.domain.printable import printable

VERSION = 1
SOCKET_NAME = "supervisor.sock"
LINE_MAX_BYTES = 1 << 18
# A watch is answered at least this often, so that both sides notice when the other is gone.
WATCH_MAX_S = 30.0
_LONGEST_MESSAGE = 4096
_ERRORS: dict[str, type[Permanent]] = {
    "permanent": Permanent,
    "invalid": InvalidInput,
    "not_found": NotFound,
    "conflict": Conflict,
}


def encode_request(op: str, **fields: Any) -> bytes:
    """Return one request line."""
    return _line({"v": VERSION, "op": op, **fields})


def decode_request(line: bytes) -> Fields:
    """Read one request line; raise InvalidInput when it is none of this version."""
    try:
        fields = Fields.of(json.loads(line), "request")
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"request: not JSON: {error}") from error
    if fields.values.get("v") != VERSION:
        raise InvalidInput(f"request: protocol version {fields.values.get('v')!r}; this supervisor speaks {VERSION}")
    return fields


def encode_answer(status: DeliveryStatus) -> bytes:
    """Return the answer line of a request that was carried out."""
    return _line({"v": VERSION, "ok": True, "status": asdict(status)})


def encode_refusal(error: KernrollError) -> bytes:
    """Return the answer line of a request that was refused."""
    kind = next((name for name, kind in _ERRORS.items() if type(error) is kind), "permanent")
    answer: dict[str, Any] = {"kind": kind, "message": str(error)}
    if isinstance(error, Temporary):
        answer |= {"kind": "temporary", "retry_after_s": error.retry_after_s}
    return _line({"v": VERSION, "ok": False, "error": answer})


def decode_answer(line: bytes, where: str) -> DeliveryStatus:
    """Read one answer line; raise the supervisor's error, prefixed with `where`."""
    try:
        fields = Fields.of(json.loads(line), f"{where}: the supervisor's answer")
    except (ValueError, RecursionError) as error:
        raise Temporary(f"{where}: the supervisor's answer was cut short") from error
    if fields.values.get("ok") is True:
        return read_status(fields.inner("status"))
    error_fields = fields.inner("error")
    message = f"{where}: {printable(error_fields.text('message'), _LONGEST_MESSAGE)}"
    kind = error_fields.text("kind")
    if kind == "temporary":
        raise Temporary(message, retry_after_s=error_fields.number("retry_after_s"))
    raise _ERRORS.get(kind, Permanent)(message)


def read_status(fields: Fields) -> DeliveryStatus:
    """Return the status that a JSON object describes."""
    return DeliveryStatus(
        host=fields.text("host"),
        revision=fields.integer("revision", minimum=0),
        default=fields.text("default"),
        armed=fields.optional_text("armed"),
        running=fields.optional_text("running"),
        boots=tuple(_read_boot(boot) for boot in fields.inner_list("boots")),
    )


def _read_boot(fields: Fields) -> BootRecord:
    end = fields.optional_text("end")
    return BootRecord(
        number=fields.integer("number", minimum=1),
        kernel=fields.text("kernel"),
        command_id=fields.text("command_id", empty=True),
        cause=BootCause(fields.one_of("cause", tuple(BootCause))),
        end=None if end is None else BootEnd(fields.one_of("end", tuple(BootEnd))),
        console_line=fields.text("console_line", empty=True),
        started_at=fields.number("started_at"),
        ended_at=fields.optional_number("ended_at"),
    )


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
