"""The VM's journal on disk: one record per line, each on disk before anything is done about it."""

import os
from pathlib import Path

from controller.adapters.delivery.hypervisor import records
from controller.adapters.delivery.hypervisor.records import Record
from controller.domain.errors import Permanent, Temporary

FILE_NAME = "journal"


def read_journal(vm_dir: Path) -> tuple[Record, ...]:
    """Return all whole records, none when there is no journal yet. A torn last line never counted: it is left out."""
    return _parse(vm_dir / FILE_NAME)[0]


class Journal:
    """Appends records. Whoever opens it must hold the supervisor's lock of this VM."""

    def __init__(self, vm_dir: Path) -> None:
        self._path = vm_dir / FILE_NAME
        self.records, self._size = _parse(self._path)
        created = not self._path.exists()
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # What stands after the last whole record was torn by a crash.
        os.ftruncate(self._fd, self._size)
        if created:
            _sync_directory(vm_dir)

    def append(self, record: Record) -> None:
        """Write one record durably; raise Temporary and leave the journal as it was when the disk refuses."""
        line = records.encode(record).encode() + b"\n"
        try:
            written = os.pwrite(self._fd, line, self._size)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written")
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise Temporary(f"{self._path}: cannot be written: {error}; free some disk space") from error
        self._size += len(line)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _parse(path: Path) -> tuple[tuple[Record, ...], int]:
    """Return the whole records and how many bytes they take."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return (), 0
    except OSError as error:
        raise Permanent(f"{path}: cannot be read: {error}") from error
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].splitlines()
    found: list[Record] = []
    for index, line in enumerate(lines):
        where = f"{path}:{index + 1}"
        try:
            found.append(records.decode(line.decode(errors="replace"), where))
        except Permanent:
            # A file system may keep a torn line with its end but without all of its contents.
            if index == len(lines) - 1 and not _is_json(line):
                return tuple(found), whole - len(line) - 1
            raise
    return tuple(found), whole


def _is_json(line: bytes) -> bool:
    return line.startswith(b"{") and line.endswith(b"}") and b"\0" not in line


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
