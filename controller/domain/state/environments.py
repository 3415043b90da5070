"""The environment that a run brings along: kept is what another boot of the host can be compared by."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from controller.domain.printable import printable

ENVIRONMENT = "environment"
# The kernel's configuration is the largest part of it.
_LONGEST = 1 << 19
# The kernel under test, or different in every boot.
_OF_THE_KERNEL = ("schema", "kernel_release", "kernel_version", "kernel_config", "kernel_config_sha256", "boot_id")


def recorded(evidence: Mapping[str, str]) -> str:
    """Return the environment that a run brought along, without the kernel itself; empty when it brought none.

    Raises nothing: a document that cannot be read is none.
    """
    text = evidence.get(ENVIRONMENT, "")
    if len(text) > _LONGEST:
        return ""
    try:
        document = json.loads(text)
        if not isinstance(document, dict):
            return ""
        kept = dict(sorted(_flat({name: document[name] for name in document if name not in _OF_THE_KERNEL})))
    except (ValueError, RecursionError):
        return ""
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", _short(str(one))) for inner, one in value.items())
        else:
            yield name, _short(str(value))


def _short(text: str) -> str:
    """Return a setting that is told whole, or one that is too long for that by its beginning and its digest."""
    line = printable(text)
    return line if line == text else f"{line}#{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
