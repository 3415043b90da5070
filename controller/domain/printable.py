"""Text of unknown origin as one line, or lines, of bounded length that can do nothing but be read.

Hosts, kernels, monitoring servers and file names bring control characters (terminals obey them), bidirectional
overrides (lines read otherwise than they are) and line breaks (headings and tables are forged with them). What a reader
cannot see is shown as an escape, so that nothing is hidden either. Sources: Unicode Standard Annex 9 (bidirectional
controls), ECMA-48 (C0 and C1).
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Final

# Accents of any writing system in use; more of them on one letter climb over the lines around it.
_MOST_MARKS: Final = 4
_CUT: Final = "…"
# Above it there is nothing that is written.
_LAST_WRITTEN: Final = 0x3FFFF


def printable(text: str, most: int = 512) -> str:
    """Return `text` as one line of at most `most` characters; what was left out is marked with "…".

    Runs of white space become one space. Characters that are no sign of their own become escapes like `\\x1b`.
    """
    # What lies far beyond the limit is not looked at: the work is bounded whatever comes.
    looked_at = text[: 2 * most + 64]
    if not (looked_at.isascii() and looked_at.isprintable()):
        looked_at = "".join(map(_shown, _towers().sub(r"\1", looked_at)))
    line = " ".join(looked_at.split())
    return line if len(line) <= most and len(text) <= 2 * most + 64 else f"{line[: most - 1]}{_CUT}"


def printable_lines(text: str, most: int = 65_536, lines: int = 2048) -> str:
    """Return `text` with its lines kept, at most `most` characters and `lines`; what was left out is marked with "…".

    Spaces are kept: columns stay columns. A tab becomes a space, and what is no sign of its own becomes U+FFFD, because
    there may be a megabyte of it.
    """
    kept = text[:most].split("\n", lines)
    whole = len(text) <= most and len(kept) <= lines
    cleaned = "\n".join(kept[:lines])
    if not cleaned.replace("\n", "").isprintable() or not cleaned.isascii():
        cleaned = _unprintable().sub("\N{REPLACEMENT CHARACTER}", cleaned.replace("\r\n", "\n").replace("\t", " "))
        cleaned = _towers().sub(r"\1", cleaned)
    return cleaned if whole else f"{cleaned[: most - 1]}{_CUT}"


def _shown(sign: str) -> str:
    if sign.isprintable():
        return sign
    if sign.isspace() and sign not in "\x1c\x1d\x1e\x1f":
        return " "
    return sign.encode("unicode_escape").decode("ascii")


@cache
def _unprintable() -> re.Pattern[str]:
    """Match one character that is no sign of its own and no line's end."""
    strange = _ranges(lambda sign: not sign.isprintable() and sign != "\n")
    return re.compile(f"[{strange}{chr(_LAST_WRITTEN + 1)}-{chr(0x10FFFF)}]")


@cache
def _towers() -> re.Pattern[str]:
    """Match more marks on one letter than writing needs; the first of them are its group."""
    marks = _ranges(lambda sign: unicodedata.category(sign) in ("Mn", "Me"))
    return re.compile(f"([{marks}]{{{_MOST_MARKS}}})[{marks}]+")


def _ranges(belongs: Callable[[str], bool]) -> str:
    """Return the characters that belong, as ranges for a pattern's class."""
    found: list[list[int]] = []
    for code in range(_LAST_WRITTEN + 1):
        if belongs(chr(code)):
            if found and found[-1][1] == code - 1:
                found[-1][1] = code
            else:
                found.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in found)
