"""Text of unknown origin as one line, or lines, of bounded length that can do nothing but be read.

Hosts, kernels, monitoring servers and file names bring control characters (terminals obey them), bidirectional
overrides (lines read otherwise than they are) and line breaks (headings and tables are forged with them). What a reader
cannot see is shown as an escape, so that nothing is hidden either. Sources: Unicode Standard Annex 9 (bidirectional
controls), Annex 44 (Default_Ignorable_Code_Point), ECMA-48 (C0 and C1).
"""

import re
import unicodedata
from functools import cache
from typing import Final

# Accents of any writing system in use; more of them on one letter climb over the lines around it.
_MOST_MARKS: Final = 4
_MARKS: Final = ("Mn", "Me")
_CUT: Final = "…"
# Above it there is nothing that is written.
_LAST_WRITTEN: Final = 0x3FFFF
_PIECE: Final = 4096
_MOST_REPLACED: Final = 8
_FIRST_MARK: Final = 0x0300
_NO_SIGN: Final = 0xFFFD
# They are printed, and nothing is seen of them: fillers, joiners, selectors of a variant, the empty braille cell.
_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0").union(
    map(chr, range(0xFE00, 0xFE10))
)


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
    if not (cleaned.isascii() and cleaned.replace("\n", "").isprintable()):
        cleaned = cleaned.replace("\r\n", "\n")
        # Piece by piece: one call over all of it would let no other thread run meanwhile.
        cleaned = "".join(_cleaned(cleaned[at : at + _PIECE]) for at in range(0, len(cleaned), _PIECE))
    return cleaned if whole else f"{cleaned[: most - 1]}{_CUT}"


def _cleaned(piece: str) -> str:
    signs = {sign: _SIGNS[ord(sign)] for sign in set(piece)}
    changed = [sign for sign, shown in signs.items() if ord(sign) != shown]
    if len(changed) > _MOST_REPLACED:
        piece = piece.translate(_SIGNS)
    else:
        # Each is one search for one character, far faster than a look at every character.
        for sign in changed:
            piece = piece.replace(sign, chr(signs[sign]))
    marked = any(_FIRST_MARK <= shown != _NO_SIGN for shown in signs.values())
    return _towers().sub(r"\1", piece) if marked else piece


def is_plain(text: str) -> bool:
    """Return whether `text` is one line of which everything is seen: `printable` would show it as it is."""
    return (text.isascii() and text.isprintable()) or (all(map(_is_sign, text)) and not _towers().search(text))


class _Signs(dict[int, int]):
    """Character -> itself, or what stands for it where it is no sign of its own; each is looked at once."""

    def __missing__(self, code: int) -> int:
        if code > _LAST_WRITTEN:
            return _NO_SIGN
        sign = chr(code)
        self[code] = code if _is_sign(sign) else 0x20 if sign in "\t\xa0\u3000" else _NO_SIGN
        return self[code]


_SIGNS: Final = _Signs({0x0A: 0x0A})


def _is_sign(sign: str) -> bool:
    # Marks beyond the first plane are of scripts that few fonts have; they are not counted as those of `_towers` are.
    far_mark = sign > "\uffff" and unicodedata.category(sign) in _MARKS
    return sign.isprintable() and sign not in _UNSEEN and not far_mark


def _shown(sign: str) -> str:
    if _is_sign(sign):
        return sign
    if sign.isspace() and sign not in "\x1c\x1d\x1e\x1f":
        return " "
    return sign.encode("unicode_escape").decode("ascii")


@cache
def _towers() -> re.Pattern[str]:
    """Match more marks on one letter than writing needs; the first of them are its group."""
    # Those beyond the first plane would make a class that is looked through range by range, for every character.
    marks = "".join(f"\\u{code:04x}" for code in range(0x10000) if unicodedata.category(chr(code)) in _MARKS)
    return re.compile(f"([{marks}]{{{_MOST_MARKS}}})[{marks}]+")
