"""A small document: headings, paragraphs, lists and tables, rendered as plain text and as Markdown."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from controller.domain.printable import printable

# Mailing lists wrap at 80; two are left for a quote.
TEXT_WIDTH = 78
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Heading:
    """A title; level 1 is the document's own."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Sentences, wrapped."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """Sentences, one a line."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under titles. Columns that hold numbers only are aligned to the right."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    # Indices of columns of numbers.
    numbers: frozenset[int] = frozenset()


# An underscore inside a word, as in x86_64, is none. An ampersand begins an entity; what a line begins with makes it a
# heading, an item, a rule or a title.
_MARKUP = re.compile(r"[\\`*<>\[\]|]|(?<!\w)_|_(?!\w)|~(?=~)|&(?=[#\w])|^[-#+=]")
_NUMBERED = re.compile(r"^([0-9]{1,9})([.)])(?=\s|$)")
# What would look like the line under a heading where it stands alone.
_RULE = re.compile(r"([-=])\1{3,}")
# Longer than any sentence of ours.
_MOST_CHARACTERS = 20_000

Block = Heading | Paragraph | Bullets | Table


def as_text(blocks: Iterable[Block]) -> str:
    """Return the document as plain text of at most 78 columns."""
    parts: list[str] = []
    for block in blocks:
        match block:
            case Heading(level, text):
                # A long title would push its underline over the edge.
                lines = _wrap(text)
                parts.append("\n".join([*lines, ("=" if level == 1 else "-") * max(map(len, lines))]))
            case Paragraph(text):
                parts.append("\n".join(_wrap(text)))
            case Bullets(items):
                parts.append("\n".join(line for item in items for line in _wrap(item, "- ", "  ")))
            case Table():
                parts.append(_text_table(block))
            case _:
                assert_never(block)
    return "\n\n".join(parts) + "\n"


def as_markdown(blocks: Iterable[Block]) -> str:
    """Return the document as Markdown."""
    parts: list[str] = []
    for block in blocks:
        match block:
            case Heading(level, text):
                parts.append(f"{'#' * level} {_escaped(text)}")
            case Paragraph(text):
                parts.append(_escaped(text))
            case Bullets(items):
                parts.append("\n".join(f"- {_escaped(item)}" for item in items))
            case Table():
                marks = ["---:" if index in block.numbers else "---" for index in range(len(block.titles))]
                rows = [block.titles, tuple(marks), *block.rows]
                cells = [[cell if row is rows[1] else _escaped(cell) for cell in row] for row in rows]
                parts.append("\n".join(f"| {' | '.join(row)} |" for row in cells))
            case _:
                assert_never(block)
    return "\n\n".join(parts) + "\n"


def _wrap(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        _RULE.sub(r"\1\1\1", _plain(text)),
        TEXT_WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def _escaped(text: str) -> str:
    """Keep characters of kernel lines and release names from becoming markup."""
    return _NUMBERED.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", _plain(text)))


def _plain(text: str) -> str:
    """Return one line: whoever wrote it, it begins no heading, row or item of its own."""
    return printable(text, _MOST_CHARACTERS)


def _text_table(table: Table) -> str:
    """Return aligned columns; the last column takes what is left of the line and wraps in it."""
    count = len(table.titles)
    rows = [tuple(map(_plain, row)) for row in (table.titles, *table.rows)]
    widths = [max(len(row[index]) for row in rows) for index in range(count)]
    before_last = sum(widths[:-1]) + len(_GAP) * (count - 1)
    if before_last + widths[-1] > TEXT_WIDTH and before_last > TEXT_WIDTH - 16:
        return _text_records(table)
    widths[-1] = min(widths[-1], TEXT_WIDTH - before_last)
    lines: list[str] = []
    for row in [*rows[:1], tuple("-" * width for width in widths), *rows[1:]]:
        lines += _text_row(row, widths, table.numbers)
    return "\n".join(lines)


def _text_row(row: Sequence[str], widths: Sequence[int], numbers: frozenset[int]) -> list[str]:
    last = textwrap.wrap(row[-1], widths[-1], break_on_hyphens=False) or [""]
    cells = [*row[:-1], last[0]]
    padded = [
        cell.rjust(width) if index in numbers else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    lines = [_GAP.join(padded).rstrip()]
    indent = " " * (sum(widths[:-1]) + len(_GAP) * (len(widths) - 1))
    return lines + [f"{indent}{more}" for more in last[1:]]


def _text_records(table: Table) -> str:
    """Return a table that is too wide as one paragraph per row."""
    lines: list[str] = []
    for row in table.rows:
        named = [f"{title} {cell}" if title else cell for title, cell in zip(table.titles[1:], row[1:], strict=True)]
        lines += _wrap(f"{row[0]}: {', '.join(named)}", "- ", "  ")
    return "\n".join(lines)
