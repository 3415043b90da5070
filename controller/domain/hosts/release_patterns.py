"""Shell patterns over `uname -r` as operators write them: what can match no release is refused where it is written."""

import re

_LONGEST = 128
# What releases are made of, and the signs of a pattern.
_SIGNS = re.compile(r"[0-9A-Za-z.+~_*?\[\]!-]+")


def pattern_problem(pattern: str) -> str:
    """Say why a pattern, or a plain release or version, can match nothing; empty when it can."""
    if len(pattern) > _LONGEST or not _SIGNS.fullmatch(pattern):
        return f"at most {_LONGEST} letters, digits and signs of . + ~ _ - * ? [ ] ! can match a release"
    if _has_open_set(pattern):
        return "a set of signs has no end: write [ and what may stand there and ]"
    return ""


def checked_pattern(pattern: str) -> str:
    """Return the pattern; raises ValueError with what is wrong with it."""
    if problem := pattern_problem(pattern):
        raise ValueError(f"is no pattern over `uname -r`: {problem}")
    return pattern


def _has_open_set(pattern: str) -> bool:
    """Return whether a bracket is never closed; the library takes one that closes at once for a sign."""
    begin = pattern.find("[")
    while begin >= 0:
        first = begin + 2 if pattern[begin + 1 : begin + 2] == "!" else begin + 1
        end = pattern.find("]", first + 1)
        if end < 0:
            return True
        begin = pattern.find("[", end)
    return False
