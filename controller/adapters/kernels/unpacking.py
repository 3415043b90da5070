"""The tar inside a package: its files, folders and links, and nothing that leads out of the tree or fills the disk."""

import contextlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from controller.adapters.local.named_files import size_text
from controller.adapters.local.tools import is_full
from controller.adapters.local.trees import MOST_BYTES, MOST_DEPTH, MOST_FILES, locate
from controller.domain.bounds import digits
from controller.domain.errors import InvalidInput, Permanent
from controller.domain.printable import printable

_BLOCK_BYTES: Final = tarfile.BLOCKSIZE
# Of a name or an extended header; file systems allow names of 4 KiB.
_MOST_HEADER_BYTES: Final = 1 << 16
_PIECE_BYTES: Final = 1 << 20
# What stays free for everybody else on the disk.
_SPARE_BYTES: Final = 64 << 20
_LATEST_S: Final = 1 << 33
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_OTHERS: Final = {
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class Source(Protocol):
    """What a tar is read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none only at the end."""


class TarReader:
    """Reads a tar from its start to its end. `name` stands in the messages.

    Python's own module reads extended headers of any length into memory, and takes damage for the end.
    """

    def __init__(self, source: Source, name: str, most_bytes: int = MOST_BYTES) -> None:
        self._source = source
        self._name = name
        self._most = most_bytes
        # All that was read, and what of it is content.
        self._read = self._contents = 0
        self._left = 0
        self._padding = 0

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield what is in it. Raises InvalidInput for damage, and for more than is unpacked of anything."""
        changed: dict[str, str] = {}
        count = 0
        while (member := self._header()) is not None:
            count += 1
            if count > MOST_FILES:
                raise self.refused(f"holds more than {MOST_FILES} files, the most that is unpacked")
            match member.type:
                case tarfile.GNUTYPE_LONGNAME:
                    changed["path"] = self._text(member.size)
                case tarfile.GNUTYPE_LONGLINK:
                    changed["linkpath"] = self._text(member.size)
                case tarfile.XHDTYPE | tarfile.SOLARIS_XHDTYPE:
                    changed |= self._extended(member.size)
                case tarfile.XGLTYPE:
                    self._extended(member.size)
                case _:
                    member.name = changed.get("path", member.name)
                    member.linkname = changed.get("linkpath", member.linkname)
                    if "size" in changed:
                        member.size = self._number(changed["size"])
                    changed = {}
                    if member.isfile():
                        self._expect(member.size)
                    yield member
            self._skip()
        while self._take(_PIECE_BYTES):
            pass

    def content(self) -> Iterator[bytes]:
        """Yield the content of the member that `members` gave last."""
        while self._left:
            piece = self._take(min(self._left, _PIECE_BYTES))
            if not piece:
                raise self.refused("is damaged: it is cut off")
            self._left -= len(piece)
            yield piece

    def refused(self, why: str) -> InvalidInput:
        """Return the error that says why this tar is not read."""
        return InvalidInput(f"{self._name} {why}.")

    def _header(self) -> tarfile.TarInfo | None:
        block = self._exactly(_BLOCK_BYTES)
        if block.count(0) == _BLOCK_BYTES:
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.TarError, ValueError) as error:
            raise self.refused(f"is damaged: no member begins where one should ({error})") from error

    def _expect(self, size_bytes: int) -> None:
        if size_bytes < 0:
            raise self.refused("is damaged: a member has a negative size")
        self._contents += size_bytes
        if self._contents > self._most:
            raise self.refused(f"holds more than {size_text(self._most)}, the most that is unpacked")
        self._left, self._padding = size_bytes, -size_bytes % _BLOCK_BYTES

    def _skip(self) -> None:
        for _ in self.content():
            pass
        self._exactly(self._padding)
        self._padding = 0

    def _text(self, size_bytes: int) -> str:
        return self._header_bytes(size_bytes).split(b"\0")[0].decode("utf-8", "surrogateescape")

    def _extended(self, size_bytes: int) -> dict[str, str]:
        """Return the fields of an extended header, each "LENGTH KEY=VALUE" and a line break."""
        found, rest = {}, self._header_bytes(size_bytes)
        while rest.strip(b"\0"):
            length = self._number(rest.partition(b" ")[0].decode("utf-8", "replace"))
            key, equals, value = rest[:length].partition(b" ")[2].removesuffix(b"\n").partition(b"=")
            if not equals:
                raise self.refused("is damaged: an extended header cannot be read")
            if key.startswith(b"GNU.sparse."):
                raise self.refused("holds a sparse file, which no package has")
            found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
            rest = rest[length:]
        return found

    def _header_bytes(self, size_bytes: int) -> bytes:
        if size_bytes > _MOST_HEADER_BYTES:
            raise self.refused(f"holds a name or header of more than {size_text(_MOST_HEADER_BYTES)}")
        self._expect(size_bytes)
        return b"".join(self.content())

    def _number(self, text: str) -> int:
        number = digits(text)
        if number is None:
            raise self.refused("is damaged: an extended header cannot be read")
        return number

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self._take(size - len(found))
            if not piece:
                raise self.refused("is damaged: it is cut off")
            found += piece
        return found

    def _take(self, size: int) -> bytes:
        piece = self._source.read(size)
        self._read += len(piece)
        # Headers and padding come on top of the files.
        if self._read > self._most + MOST_FILES * 4 * _BLOCK_BYTES:
            raise self.refused(f"holds more than {size_text(self._most)}, the most that is unpacked")
        return piece


def extract(source: Source, tree: Path, name: str, kept: Callable[[str], str | None] = lambda path: path) -> None:
    """Unpack a tar into `tree`, over what is there; `kept` gives each member's path in the tree, None to leave it out.

    Links are written as they are, but nothing is written through one that leads out: inside a tree they mean what they
    will mean where the tree is the whole file system. Owners and set-user-id bits are dropped. Raises InvalidInput, and
    Permanent when the disk is full.
    """
    tree.mkdir(parents=True, exist_ok=True)
    room_bytes = max(0, shutil.disk_usage(tree).free - _SPARE_BYTES)
    tar = TarReader(source, name, min(MOST_BYTES, room_bytes))
    for member in tar.members():
        path = kept(_checked(tar, member.name))
        if path is None or path == ".":
            continue
        try:
            _place(tar, member, tree, path)
        except OSError as error:
            if is_full(error):
                raise Permanent(f"Unpacking {name}: the disk of {tree} is full. Free some space there.") from error
            raise tar.refused(f"cannot be unpacked: {printable(path, 200)}: {error.strerror or error}") from error


def _checked(tar: TarReader, name: str) -> str:
    """Return a member's path, relative and without `..`."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or len(path.parts) > MOST_DEPTH:
        raise tar.refused(f"holds a file outside its tree or too deep in it: {printable(name, 200)}")
    return path.as_posix()


def _place(tar: TarReader, member: tarfile.TarInfo, tree: Path, path: str) -> None:
    if member.isdir():
        folder = locate(tree, path)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(member.mode & 0o777 | 0o700)
        return
    above, _, last = path.rpartition("/")
    target = locate(tree, above) / last
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear(target)
    if member.type in _FILES:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in tar.content():
                file.write(piece)
            os.fchmod(descriptor, member.mode & 0o777 | 0o400)
        moment = min(max(0.0, float(member.mtime)), _LATEST_S)
        os.utime(target, (moment, moment))
    elif member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        other = locate(tree, _checked(tar, member.linkname))
        if not other.is_file() or other.is_symlink():
            raise tar.refused(f"holds a hard link to what is no file of its own: {printable(path, 200)}")
        os.link(other, target, follow_symlinks=False)
    else:
        what = _OTHERS.get(member.type, "of an unknown kind")
        raise tar.refused(f"holds {printable(path, 200)}, which is {what}; packages hold files, folders and links")


def _clear(target: Path) -> None:
    """Make room: a file or link that an earlier package has put there, or an empty folder."""
    if target.is_dir() and not target.is_symlink():
        target.rmdir()
    else:
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
