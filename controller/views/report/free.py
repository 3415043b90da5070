"""The output of `free -m`, as the cover letters of memory patches quote it."""

from collections.abc import Mapping

from controller.domain.bounds import digits, numbers
from controller.views.report.model import FreeOutput

# `free -wm -t` has as many; what has more is no output of it.
_MOST_COLUMNS = 8
_MOST_LINES = 8


def parse_free(text: str) -> FreeOutput | None:
    """Return the numbers of `free -m`; None when the text is none of its output."""
    rows = [line.split() for line in text.splitlines()[:_MOST_LINES] if line.strip()]
    if not rows or "used" not in rows[0] or len(rows[0]) > _MOST_COLUMNS:
        return None
    columns = tuple(rows[0])
    lines = tuple((row[0].rstrip(":"), tuple(row[1 : len(columns) + 1])) for row in rows[1:])
    used = columns.index("used")
    for name, told in lines:
        if name == "Mem" and used < len(told) and all(digits(one) is not None for one in told):
            return FreeOutput(columns=columns, lines=lines, used_mib=float(told[used]))
    return None


def free_output(evidence: Mapping[str, str], values: Mapping[str, float], moment: str) -> FreeOutput | None:
    """Return what `free -m` said "before" or "after" swapon.

    A host without `free` gives its one important number, which the agent read from /proc/meminfo by the same rule.
    """
    parsed = parse_free(evidence.get(f"free_{moment}", ""))
    used = numbers(values).get(f"swap_mount.used_{moment}")
    if parsed is not None or used is None:
        return parsed
    return FreeOutput(columns=("used",), lines=(("Mem", (f"{used:.0f}",)),), used_mib=used)
