"""How much of what a host says is taken: the one table of limits, and the cuts that are made where they are exceeded.

A host is believed in nothing here. What is too long, too many, or no number is cut off and marked, so that a session
never ends because of it: an agent that is sent away would only come again with the same message.
"""

import math
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from controller.domain.printable import is_plain, printable, printable_lines
from controller.words import LAST_MOMENT

# Of names: host facts that strata and journeys are made of, workloads, metrics, commands.
NAME_CHARACTERS: Final = 128
# COMMAND_LINE_SIZE is 2048 on x86_64 and arm64.
COMMAND_LINE_CHARACTERS: Final = 4096
SENTENCE_CHARACTERS: Final = 2048
LABELS: Final = 256
LABEL_CHARACTERS: Final = 253
LABELS_CHARACTERS: Final = 16_384
SWAP_DEVICES: Final = 64
PATH_CHARACTERS: Final = 256
REPORT_ID_CHARACTERS: Final = 256
# That an agent says it holds; it can be at one.
COMMANDS: Final = 64
SAMPLES: Final = 512
EVIDENCE_TEXTS: Final = 64
EVIDENCE_CHARACTERS: Final = 1 << 20
EVIDENCE_LINES: Final = 16_384
LOG_RECORDS: Final = 2000
LOG_CHARACTERS: Final = 1024
# Of what is told of the work for one command, whatever its playbook does; of one line's sentence.
WORK_LINES: Final = 200
WORK_CHARACTERS: Final = 500
# Fields of one message, containers within it included. Below it every limit above has room.
MESSAGE_FIELDS: Final = 8192

# Beyond these nothing was measured: the first holds every counter of 64 bits, below the second divisions overflow.
_LARGEST: Final = 1e20
_SMALLEST: Final = 1e-15
_DIGITS: Final = 18
_LARGEST_WHOLE: Final = (1 << 63) - 1
_STRANGE_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.+~-]")
_LEFT_OUT: Final = "…"


def name(text: str) -> str:
    """Return one line of at most `NAME_CHARACTERS`."""
    return printable(text, NAME_CHARACTERS)


def word(text: str) -> str:
    """Return a name without signs that separate parts of other names: "x86_64/vm" cannot pretend to be a stratum."""
    return _STRANGE_IN_NAMES.sub("_", name(text))


def sentence(text: str) -> str:
    """Return one line of at most `SENTENCE_CHARACTERS`."""
    return printable(text, SENTENCE_CHARACTERS)


def report_id(text: str) -> str:
    """Return a report's name; one that is too long, or no plain text, is known by its digest."""
    if len(text) <= REPORT_ID_CHARACTERS and is_plain(text):
        return text
    return f"{printable(text, 32)}#{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def number(value: float) -> float | None:
    """Return a measured number; None for what cannot be told, compared or averaged."""
    if not math.isfinite(value) or abs(value) > _LARGEST:
        return None
    return value if value == 0 or abs(value) >= _SMALLEST else None


def numbers(told: Mapping[str, float]) -> Mapping[str, float]:
    """Return what was measured without what cannot be told."""
    return (
        told
        if all(number(one) is not None for one in told.values())
        else {key: value for key, value in told.items() if number(value) is not None}
    )


def digits(text: str) -> int | None:
    """Return a whole number of at most 18 ASCII digits; None for anything else ("²" and "٣" are digits, too)."""
    return int(text) if len(text) <= _DIGITS and text.isascii() and text.isdigit() else None


def whole(value: int) -> int:
    """Return a count that every store and message can hold."""
    return max(0, min(value, _LARGEST_WHOLE))


def moment(value: float) -> float | None:
    """Return seconds since the Unix epoch; None for what no calendar can tell."""
    return value if 0 <= value <= LAST_MOMENT else None


def seconds(value: float) -> float:
    """Return a duration, of at most a century; 0 for what is none."""
    return value if 0 <= value <= 3.2e9 else 0.0


def labels(told: Mapping[str, str]) -> dict[str, str]:
    """Return at most `LABELS` labels of `LABELS_CHARACTERS`; how many more there were is a label of its own."""
    kept: dict[str, str] = {}
    room = LABELS_CHARACTERS
    for key in sorted(told)[:LABELS]:
        short, value = printable(key, LABEL_CHARACTERS), printable(told[key], LABEL_CHARACTERS)
        room -= len(short) + len(value)
        if room < 0:
            break
        kept[short] = value
    return _marked(kept, len(told), "labels")


def evidence(told: Mapping[str, str]) -> dict[str, str]:
    """Return at most `EVIDENCE_TEXTS` raw texts of `EVIDENCE_CHARACTERS` together; what is left out is said."""
    kept: dict[str, str] = {}
    room = EVIDENCE_CHARACTERS
    # The smallest first: one that is far too large takes nothing from the others.
    for key in sorted(told, key=lambda one: (len(told[one]), one))[:EVIDENCE_TEXTS]:
        text = printable_lines(told[key], max(1, room), EVIDENCE_LINES)
        kept[name(key)] = text
        room -= len(text)
    return _marked(kept, len(told), "texts")


def lines(told: Iterable[str]) -> tuple[str, ...]:
    """Return kernel-log lines, each of at most `LOG_CHARACTERS`; control characters become escapes."""
    return tuple(printable(one, LOG_CHARACTERS) for one in told)


def _marked(kept: dict[str, str], told: int, what: str) -> dict[str, str]:
    return {**kept, _LEFT_OUT: f"{told - len(kept)} more {what} are left out"} if told > len(kept) else kept
