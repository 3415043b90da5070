"""Files that survive a crash: atomic replacement, and an append-only journal whose torn tail is ignored."""

import errno
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def sync_directory(directory: Path) -> None:
    """Make renames and new names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that after a crash either the former or the new content is there, whole."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        _write_new(temporary, content, mode)
        temporary.replace(path)
    except OSError:
        # Half a file would take what little room a full disk has left.
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        # A file left over by a crash keeps its old mode otherwise.
        os.fchmod(descriptor, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_file(path: Path) -> None:
    """Remove a file durably; it may be gone already."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


# The beginning of a record, as a crash leaves it; a file system may have made room for the rest and left it zero.
_TORN = re.compile(rb"(?:\{[ -~]*)?\x00*")


class Journal:
    """JSON objects, one a line, each on disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @staticmethod
    def parse(content: bytes) -> tuple[list[dict[str, Any]], str]:
        """Return all whole records, and what is wrong with the others; empty when nothing is.

        A line cut short by a crash was never acted on, and is left out without a word.
        """
        records, wrong = [], ""
        *lines, tail = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                records.append(record)
            elif line.endswith(b"}") or not _TORN.fullmatch(line):
                wrong = wrong or f"line {number} is no record"
        if not _TORN.fullmatch(tail) or (tail and not records and not tail.strip(b"\0")):
            wrong = wrong or "it ends with what is no record"
        return records, wrong

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add records at the end."""
        content = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        if not content:
            return
        is_new = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            length = os.lseek(descriptor, 0, os.SEEK_END)
            if length and os.pread(descriptor, 1, length - 1) != b"\n":
                # A write that a full disk cut short must not swallow this one.
                content = b"\n" + content
            if os.write(descriptor, content) < len(content):
                # What is there of it would be half a record, and comes again whole.
                os.ftruncate(descriptor, length)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_directory(self._path.parent)

    def rewrite(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the whole journal; also what removes a torn tail."""
        replace_file(self._path, b"".join(json.dumps(record).encode() + b"\n" for record in records), mode=0o600)
