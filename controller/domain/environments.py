"""The environment that a run brings along: kept is what another boot of the host can be compared by."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

ENVIRONMENT = "environment"
# The kernel under test, or different in every boot.
_OF_THE_KERNEL = ("schema", "kernel_release", "kernel_version", "kernel_config", "kernel_config_sha256", "boot_id")


def recorded(evidence: Mapping[str, str]) -> str:
    """Return the environment that a run brought along, without the kernel itself; empty when it brought none.

    Raises nothing: a document that cannot be read is none.
    """
    try:
        document = json.loads(evidence.get(ENVIRONMENT, ""))
    except ValueError:
        return ""
    if not isinstance(document, dict):
        return ""
    kept = dict(sorted(_flat({name: document[name] for name in document if name not in _OF_THE_KERNEL})))
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", str(one)) for inner, one in value.items())
        else:
            yield name, str(value)
