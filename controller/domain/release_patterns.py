"""Shell patterns over `uname -r` as operators write them: what can match no release is refused where it is written."""

import re

_LONGEST = 128
# What releases are made of, and the signs of a pattern.
_SIGNS = re.compile(r"[0-9A-Za-z.+~_*?\[\]!-]+")
# As the library reads them: a bracket that closes at once is one of the signs.
_SET = re.compile(r"\[!?+\]?+[^\]]*\]")


def pattern_problem(pattern: str) -> str:
    """Say why a pattern, or a plain release or version, can match nothing; empty when it can."""
    if len(pattern) > _LONGEST or not _SIGNS.fullmatch(pattern):
        return f"at most {_LONGEST} letters, digits and signs of . + ~ _ - * ? [ ] ! can match a release"
    if "[" in _SET.sub("", pattern):
        return "a set of signs has no end: write [ and what may stand there and ]"
    return ""


def checked_pattern(pattern: str) -> str:
    """Return the pattern; raises ValueError with what is wrong with it."""
    if problem := pattern_problem(pattern):
        raise ValueError(f"is no pattern over `uname -r`: {problem}")
    return pattern
