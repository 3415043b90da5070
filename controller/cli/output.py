"""Where results go: tables and sentences for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from controller.domain.printable import printable
from controller.views.json import view_data

# Wide enough for tables when the output is a file or a pipe.
_FILE_WIDTH = 160
_MOST_FITTED_ROWS = 500
# Of the longest text that stands in a table: all labels of a host.
_CELL_CHARACTERS = 65_536


class _Console(Console):
    """A console that leaves a reader who went away to the command line's own handling."""

    def on_broken_pipe(self) -> None:
        """Say so; by itself rich would end the program with the code of a failure."""
        raise BrokenPipeError


def console() -> Console:
    """Return the console on standard output: coloured on a terminal, plain and wide elsewhere."""
    terminal = sys.stdout.isatty()
    # Names that look like markup are names.
    return _Console(
        file=sys.stdout, width=None if terminal else _FILE_WIDTH, highlight=False, emoji=False, markup=False
    )


def show(*parts: RenderableType) -> None:
    """Print for people."""
    target = console()
    for part in parts:
        target.print(part, soft_wrap=isinstance(part, str))


def prose(text: str) -> RenderableType:
    """Return sentences that a terminal breaks between words; in a file a line stays a line, for grep."""
    return Text(text) if sys.stdout.isatty() else text


def show_json(view: object, *, indent: int | None = 2) -> None:
    """Print a view, or what is plain data already, as one JSON document; None puts it on one line."""
    print(json.dumps(view_data(view), indent=indent, ensure_ascii=False, allow_nan=False), flush=True)


def plain_table(*columns: str, right: frozenset[str] = frozenset()) -> Table:
    """Return an empty table without lines, as `ps` and `ls` print them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def filled_table(titles: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[str] = frozenset()) -> Table:
    """Return a table with these rows."""
    table = plain_table(*titles, right=right)
    for row in rows:
        table.add_row(*map(cell, row))
    return table


def cell(text: str) -> str:
    """Return a table's cell: one line, whoever wrote it."""
    return printable(text, _CELL_CHARACTERS)


def show_rows(titles: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> None:
    """Print a table. One of very many rows is only aligned, not fitted to the terminal: that takes rich too long."""
    if len(rows) <= _MOST_FITTED_ROWS:
        show(filled_table(titles, rows, right))
        return
    table = [tuple(map(cell, row)) for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        fitted = (
            text.rjust(width) if title in right else text.ljust(width)
            for title, text, width in zip(titles, row, widths, strict=True)
        )
        lines.append("  ".join(fitted).rstrip())
    print("\n".join(lines), flush=True)


def cells(*values: Any) -> tuple[str, ...]:
    """Return table cells; nothing becomes a dash, so that a column never looks broken."""
    return tuple("–" if value in (None, "") else cell(str(value)) for value in values)
