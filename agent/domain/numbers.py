"""Numbers in texts from outside: Python takes the digits of other scripts, and not thousands of digits."""

import math
import re

# More than any counter of 64 bits has.
_MOST_DIGITS = 20
# What a message and a database of 64 bits hold.
_HIGHEST = (1 << 63) - 1
_FRACTION = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


def is_number(text: str) -> bool:
    """Return whether the text is a whole number of ASCII digits that `int` takes."""
    return len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit()


def kibibytes(text: str) -> int | None:
    """Return the bytes of a whole number of KiB, at most what 63 bits hold; None for what is no number."""
    return min(int(text) * 1024, _HIGHEST) if is_number(text) else None


def measured(text: str, what: str) -> float:
    """Return what a benchmark measured. Raises ValueError that names it for nan, inf and whatever is no number.

    A benchmark prints those when it has counted nothing, or divided by a time of zero: such a run measured nothing.
    """
    value = float(text) if _FRACTION.fullmatch(text.strip()) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"the run is not valid: its {what} is {text.strip()[:40]!r}, which is no number")
    return value
