"""Durations, sizes and shares as people write them ("90s", "1TiB", "3 %") and as the code counts them."""

import math
import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

_SECONDS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_BYTES: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_DURATION_PART: Final = re.compile(r"([0-9]{1,38}(?:\.[0-9]{1,38})?)(ms|d|h|m|s)")
_DURATION: Final = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SIZE: Final = re.compile(r"([0-9]{1,38}(?:\.[0-9]{1,38})?) ?(KiB|MiB|GiB|TiB|PiB)")
_PERCENT: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,30})?|\.[0-9]{1,30}) *%")
MAX_DURATION_S: Final = 90 * 86_400.0
MAX_HOSTS: Final = 100_000
# A margin beyond this is none.
MAX_PERCENT: Final = 100.0


def duration_s(value: Any) -> float:
    """Return the seconds of "30s", "10m", "1h30m" or "24h". Raises ValueError with a sentence."""
    if not isinstance(value, str) or len(value) > 40 or not _DURATION.fullmatch(value):
        raise ValueError('must be a duration with its unit, for example "30s", "10m" or "24h"')
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    if seconds > MAX_DURATION_S:
        raise ValueError(f'must be at most "{MAX_DURATION_S / 86_400:.0f}d"')
    return seconds


def size_bytes(value: Any) -> int:
    """Return the bytes of "512MiB" or "1TiB". Raises ValueError with a sentence."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) and len(value) <= 40 else None
    if match is None:
        raise ValueError('must be a size with a binary unit, for example "64GiB" or "1TiB"')
    return int(float(match[1]) * _BYTES[match[2]])


def percent_share(value: Any) -> float:
    """Return "3 %" as 0.03 and a ratio such as 1.03 as 0.03; raises ValueError for anything else."""
    share = math.nan
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)):
        share = float(match[1]) / 100
    elif isinstance(value, int | float) and not isinstance(value, bool) and value > 1:
        share = value - 1
    if not 0 < share <= MAX_PERCENT / 100:
        raise ValueError('must be a percentage such as "3 %" or a ratio above 1 such as 1.03, at most 100 %')
    return share


def percent_share_or_zero(value: Any) -> float:
    """Return "5 %" as 0.05 and "0 %" as 0; raises ValueError for anything else."""
    if isinstance(value, str) and value.replace(" ", "") == "0%":
        return 0.0
    if not isinstance(value, str):
        raise ValueError('must be a percentage such as "5 %"')
    return percent_share(value)


def count_or_share(value: Any) -> int | float:
    """Return a number of hosts as it is, and "2 %" as 0.02; raises ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_HOSTS:
            raise ValueError(f'must be at least 1 and at most {MAX_HOSTS}, or a percentage such as "2 %"')
        return value
    if not isinstance(value, str):
        raise ValueError('must be a number of hosts or a percentage such as "2 %"')
    return percent_share(value)


Duration = Annotated[
    float,
    BeforeValidator(duration_s),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["30s", "10m", "24h"]}),
]
PositiveDuration = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(duration_s),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["90s", "15m"]}),
]
Size = Annotated[
    int,
    Field(ge=2**20, le=2**63 - 1),
    BeforeValidator(size_bytes),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$", "examples": ["64GiB", "1TiB"]}),
]
Percent = Annotated[
    float,
    BeforeValidator(percent_share, json_schema_input_type=str | float),
]
# A whole number is a count; a float is a share.
CountOrShare = Annotated[
    int | float,
    BeforeValidator(count_or_share, json_schema_input_type=int | str),
]
