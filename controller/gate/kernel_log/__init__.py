"""What a kernel says in its log when it is broken: forms of logs, a table of patterns, and signatures to compare by.

Pure, and told in the terms of kernels alone: whose log it is, and what follows from it, is for others to say.
"""

from controller.gate.kernel_log.forms import clean, journal_line
from controller.gate.kernel_log.known_lines import KnownLine, particular_letters
from controller.gate.kernel_log.reading import (
    UNREAD_KIND,
    Continued,
    Finding,
    Tail,
    classify,
    console_lines,
    panic_line,
    read_log,
    read_on,
    unread_finding,
)
from controller.gate.kernel_log.table import HARDWARE_KIND, TABLE, Severity

_TABLE = TABLE

__all__ = [
    "HARDWARE_KIND",
    "TABLE",
    "UNREAD_KIND",
    "Continued",
    "Finding",
    "KnownLine",
    "Severity",
    "Tail",
    "classify",
    "clean",
    "console_lines",
    "journal_line",
    "panic_line",
    "particular_letters",
    "read_log",
    "read_on",
    "unread_finding",
]
