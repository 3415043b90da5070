"""Files that an operator or a package names: read without surprise, written without harm.

A name may lead to a device that never ends, to a FIFO that nobody writes to, or to a link. Read are regular files, and
pipes where a command line asks for them, up to a size; written is what the name means, never over what stands there.
"""

import io
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from controller.domain.errors import InvalidInput, Permanent
from controller.domain.printable import printable

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
}
# What these name is open already: it is written into, whatever it is.
_OPEN_ALREADY = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")
_CHUNK_BYTES = 1 << 20


def shown(path: str | Path) -> str:
    """Return a path for a message."""
    return printable(os.fspath(path), 300)


def kind_of(mode: int) -> str:
    """Return what a file is that is no regular one, for people: "a FIFO (named pipe)"."""
    return _KINDS.get(stat.S_IFMT(mode), "of an unknown kind")


def open_file(path: str | Path, *, name: str | None = None, pipes: bool = False, follow: bool = True) -> BufferedReader:
    """Open a regular file, or with `pipes` the end of a pipe, for reading. `name` stands in the messages.

    Raises OSError as `open` does, and InvalidInput saying what it is instead of a file. Nothing of another kind is even
    opened: some devices act on that alone.
    """
    _refuse_other_kinds(os.stat(path, follow_symlinks=follow), name or shown(path), pipes)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        # Somebody may have put another one in its place meanwhile.
        _refuse_other_kinds(status, name or shown(path), pipes)
        if stat.S_ISFIFO(status.st_mode):
            os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: str | Path, most_bytes: int, *, name: str | None = None, follow: bool = True) -> bytes:
    """Return the content of a regular file of at most `most_bytes`. Raises OSError or InvalidInput."""
    with open_file(path, name=name, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most_bytes else read_at_most(file, most_bytes, expected=size)
    if size > most_bytes or len(content) > most_bytes:
        raise InvalidInput(f"{name or shown(path)}: is larger than {size_text(most_bytes)}, the most that is read")
    return content


def read_at_most(file: BinaryIO, most_bytes: int, *, expected: int = 0) -> bytes:
    """Return what a file holds, or of more than `most_bytes` one byte more than that."""
    # Files of the kernel's own (/proc) say that they are empty; those that would wait for more give None.
    content = file.read(expected + 1) or b""
    if len(content) <= expected:
        return content
    # Grows in place: parts that are joined in the end would be there twice.
    whole = io.BytesIO()
    while content:
        whole.write(content)
        content = file.read(min(_CHUNK_BYTES, max(0, most_bytes + 1 - whole.tell()))) or b""
    return whole.getvalue()


def tail(path: Path, most_bytes: int) -> str:
    """Return the end of a log. Raises OSError or InvalidInput."""
    with open_file(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
        return file.read(most_bytes).decode(errors="replace")


def copy_file(source: Path, target: Path, most_bytes: int) -> None:
    """Copy a regular file that is no link to a new one. Raises OSError, or InvalidInput when it is too large."""
    left = most_bytes
    with open_file(source, follow=False) as file, target.open("xb") as output:
        while content := file.read(_CHUNK_BYTES):
            left -= len(content)
            if left < 0:
                raise InvalidInput(f"{shown(source)}: is larger than {size_text(most_bytes)}")
            output.write(content)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all; through a link the file that it leads to, as a shell's `>` does.

    What is no regular file is written into: a terminal, a pipe, /dev/null, /dev/stdout. A name is never taken away from
    what it stands for. Raises InvalidInput or Permanent.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if _written_into(path):
            _write_into(path, data)
        else:
            _replace(Path(os.path.realpath(path)), data)
    except OSError as error:
        raise Permanent(f"{shown(path)}: cannot be written: {error.strerror or error}") from error


def size_text(size_bytes: int) -> str:
    """Return a limit for people."""
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes} bytes"


def _refuse_other_kinds(status: os.stat_result, name: str, pipes: bool) -> None:
    if not (stat.S_ISREG(status.st_mode) or (pipes and stat.S_ISFIFO(status.st_mode))):
        raise InvalidInput(f"{name}: is {kind_of(status.st_mode)}, not a file")


def _written_into(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise InvalidInput(f"{shown(path)}: is {kind_of(mode)}, which no file is written to")
    return not stat.S_ISREG(mode) or os.path.abspath(path).startswith(_OPEN_ALREADY)


def _write_into(path: Path, data: bytes) -> None:
    # Without O_NONBLOCK a FIFO that nobody reads would hold us for ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if stat.S_ISFIFO(os.stat(path).st_mode):
            raise Permanent(f"{shown(path)}: nobody reads from this FIFO; start its reader first") from error
        raise
    with os.fdopen(descriptor, "wb") as file:
        os.set_blocking(descriptor, True)
        file.write(data)


def _replace(path: Path, data: bytes) -> None:
    try:
        mode = stat.S_IMODE(os.lstat(path).st_mode)
    except FileNotFoundError:
        mode = None
    draft = path.with_name(f".{path.name[:200]}.{os.getpid()}.partial")
    # Of a process that was killed.
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(data)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
