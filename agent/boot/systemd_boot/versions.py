"""Which of two versions is the newer, as systemd-boot sorts its entries. Source: UAPI.10, version format."""

import re
from typing import Final

# What is none of these only separates; a segment is a run of digits or of letters.
_SEGMENT: Final = re.compile(r"[~^.-]|[0-9]+|[a-zA-Z]+")
# The end, then each kind in its order: "1~rc1" < "1" < "1-1" < "1^1" < "1.1" < "1a" < "11".
_END: Final = 1
_RANK: Final = {"~": 0, "-": 2, "^": 3, ".": 4}
_LETTERS, _DIGITS = 5, 6

VersionKey = tuple[tuple[int, int, str], ...]


def version_key(version: str) -> VersionKey:
    """Return what sorts a version among others, older ones first."""
    return (*(_part(one) for one in _SEGMENT.findall(version)), (_END, 0, ""))


def _part(segment: str) -> tuple[int, int, str]:
    if (rank := _RANK.get(segment)) is not None:
        return (rank, 0, "")
    if segment[0] in "0123456789":
        number = segment.lstrip("0")
        return (_DIGITS, len(number), number)
    return (_LETTERS, 0, segment)
