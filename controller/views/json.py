"""View models as plain data for JSON: one stable schema for every reader."""

import dataclasses
import math
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args, get_type_hints

from controller.domain.printable import printable_lines
from controller.views.models import Epoch
from controller.words import time_iso


def view_data(view: object) -> Any:
    """Return the view as dicts, lists, numbers and text; every field is present, None included.

    A number that is none, or has no end, is nothing that could be told: JSON has no word for it, so it becomes None.
    """
    if dataclasses.is_dataclass(view) and not isinstance(view, type):
        times = _epoch_fields(type(view))
        return {
            field.name: _moment(value) if field.name in times else view_data(value)
            for field in dataclasses.fields(view)
            for value in (getattr(view, field.name),)
        }
    if isinstance(view, Mapping):
        return {printable_lines(str(key)): view_data(value) for key, value in view.items()}
    if isinstance(view, list | tuple):
        return [view_data(value) for value in view]
    if isinstance(view, str):
        return printable_lines(view)
    return None if isinstance(view, float) and not math.isfinite(view) else view


def _moment(value: float | None) -> str | None:
    return None if value is None else time_iso(value)


@cache
def _epoch_fields(kind: type) -> frozenset[str]:
    hints = get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if hint is Epoch or Epoch in get_args(hint))
