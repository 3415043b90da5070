"""Text of unknown origin as one line, or lines, of bounded length that can do nothing but be read.

Hosts, kernels, monitoring servers and file names bring control characters (terminals obey them), bidirectional
overrides (lines read otherwise than they are) and line breaks (headings and tables are forged with them). What a reader
cannot see is shown as an escape, so that nothing is hidden either. Sources: Unicode Standard Annex 9 (bidirectional
controls), ECMA-48 (C0 and C1).
"""

import unicodedata

# Accents of any writing system in use; more of them on one letter climb over the lines around it.
_MOST_MARKS = 4
_CUT = "…"


def printable(text: str, most: int = 512) -> str:
    """Return `text` as one line of at most `most` characters; what was left out is marked with "…".

    Runs of white space become one space. Characters that are no sign of their own become escapes like `\\x1b`.
    """
    # What lies far beyond the limit is not looked at: the work is bounded whatever comes.
    looked_at = text[: 2 * most + 64]
    if not (looked_at.isascii() and looked_at.isprintable()):
        looked_at = "".join(map(_shown, _without_towers(looked_at)))
    line = " ".join(looked_at.split())
    return line if len(line) <= most and len(text) <= 2 * most + 64 else f"{line[: most - 1]}{_CUT}"


def printable_lines(text: str, most: int = 65_536, lines: int = 2048) -> str:
    """Return `text` with its lines kept, each made printable but not wrapped; at most `most` characters and `lines`.

    Spaces are kept: columns stay columns. A tab becomes a space. What was left out is marked with "…" in the last line.
    """
    kept = text[:most].split("\n")
    whole = len(text) <= most and len(kept) <= lines
    cleaned = "\n".join(
        line if line.isascii() and line.isprintable() else "".join(map(_shown, _without_towers(line.rstrip("\r"))))
        for line in kept[:lines]
    )
    return cleaned if whole and len(cleaned) <= most else f"{cleaned[: most - 1]}{_CUT}"


def _shown(sign: str) -> str:
    if sign.isprintable():
        return sign
    if sign.isspace() and sign not in "\x1c\x1d\x1e\x1f":
        return " "
    return sign.encode("unicode_escape").decode("ascii")


def _without_towers(text: str) -> str:
    """Return text in which no letter carries more marks than writing needs."""
    if text.isascii():
        return text
    kept: list[str] = []
    marks = 0
    for sign in text:
        marks = marks + 1 if unicodedata.category(sign) in ("Mn", "Me") else 0
        if marks <= _MOST_MARKS:
            kept.append(sign)
    return "".join(kept)
