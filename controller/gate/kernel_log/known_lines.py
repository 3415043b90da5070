"""Lines that an operator knows: which findings they cover, and what is left of one that is its fault's alone."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from controller.gate.kernel_log.forms import clean
from controller.gate.kernel_log.reading import UNREAD_KIND, Finding
from controller.gate.kernel_log.signature import killed_program, words_of
from controller.gate.kernel_log.table import TABLE, WARNING_IN_MM

# What stands in lines of many faults beside the words of the table.
_BESIDE: Final = frozenset(
    (
        *("address", "addresses", "atomic", "blocked", "comm", "cpu", "cpus", "dependency", "dereference", "detected"),
        *("entry", "fault", "for", "from", "function", "has", "in", "info", "is", "jiffies", "kthread", "line", "mode"),
        *("null", "of", "offset", "on", "order", "page", "pfn", "pid", "pointer", "probably", "process", "seconds"),
        *("section", "sector", "size", "state", "stuck", "tainted", "task", "tasks", "the", "to", "uid", "value"),
        *("virtual", "was", "while", "with", "rcu_preempt", "rcu_sched", "rcu_tasks", "kasan", "kfence", "kmsan"),
        *("list_add", "list_add_valid", "list_del", "list_del_valid"),
    )
)
_SYNTAX: Final = re.compile(r"\(\?(?:P<\w{1,40}>|[:!=]|<[!=])|\\[a-zA-Z]|\{[\d,]{1,9}\}|\[\^?[^\]]{3,80}\]")
_EITHER_CASE: Final = re.compile(r"\[([A-Za-z])[A-Za-z]\]")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN: Final = re.compile(r"\w+")
_SOURCE_FILE: Final = re.compile(r"(?<!\w)\w{1,64}/[\w./-]{1,200}\.(?:c|h|S|rs)\b")
# A word of the table may end otherwise in a line, or be half of it: "fail(?:ed|ure)".
_ENDINGS: Final = ("", "s", "d", "e", "r", "ed", "es", "er", "ing", "ion", "ure")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLine:
    """A line that an operator knows and does not want to be held against any kernel."""

    # The line or a part of it, or of its signature; numbers and addresses may differ.
    line: str
    # Why; told wherever the line is met.
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether this is the line that was found; a kind without a place is none."""
        line = clean(self.line)
        if program := killed_program(line):
            return program == killed_program(finding.line)
        told, written = words_of(line).strip(), self.line.strip()
        place = finding.signature.partition(": ")[2]
        of_place = written.removeprefix(f"{finding.kind}: ").strip()
        return bool(told and of_place) and (told in words_of(finding.line) or of_place in place)


def particular_letters(line: str) -> int:
    """Return how many letters of a line are its own, and not those of every line of its kind."""
    cleaned = clean(line)
    if program := killed_program(cleaned):
        return len(cleaned) if program.strip("#") else 0
    if _SOURCE_FILE.search(cleaned):
        return len(cleaned)
    tokens = (token for token in _TOKEN.findall(words_of(cleaned)) if not _is_common(token.lower()))
    return sum(sign.isalpha() for token in tokens for sign in token)


def _is_common(token: str) -> bool:
    token = token.strip("0123456789_")
    if any(word.startswith(token) for word in _common_words()):
        return True
    return token.isalpha() and any(
        ending and token.endswith(ending) and token.removesuffix(ending) in _common_words() for ending in _ENDINGS
    )


@cache
def _common_words() -> frozenset[str]:
    """Return the kinds of the table, the words that its patterns are written in, and those beside them."""
    words = {UNREAD_KIND, *(row.kind for row in (*TABLE, WARNING_IN_MM)), *_BESIDE}
    for row in TABLE:
        text = _EITHER_CASE.sub(r"\1", row.pattern.pattern)
        words.update(word.lower() for word in _WORD.findall(_SYNTAX.sub(" ", text)))
    return frozenset(words)
