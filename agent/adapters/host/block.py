"""Block devices, read past the page cache's back and written through to the medium."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager


class KernelBlockDevices:
    """The host's own block devices."""

    def is_block_device(self, path: str) -> bool:
        """Return whether the path is a block device; False when it does not exist."""
        try:
            return stat.S_ISBLK(os.stat(path).st_mode)
        except OSError:
            return False

    def size_bytes(self, path: str) -> int:
        """Return the size."""
        with _opened(path, os.O_RDONLY) as descriptor:
            return os.lseek(descriptor, 0, os.SEEK_END)

    def claim(self, path: str) -> None:
        """Open the device exclusively and close it again; OSError EBUSY when the kernel uses it."""
        with _opened(path, os.O_RDWR | os.O_EXCL):
            pass

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return bytes from the device; the pages read do not stay in the page cache."""
        with _opened(path, os.O_RDONLY) as descriptor:
            content = bytearray()
            while len(content) < size:
                part = os.pread(descriptor, size - len(content), offset + len(content))
                if not part:
                    break
                content += part
            # What was read for a check must not count as used memory later.
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
            return bytes(content)

    def write(self, path: str, offset: int, content: bytes) -> None:
        """Write bytes and wait until they are on the medium; OSError EBUSY while anybody uses the device."""
        with _opened(path, os.O_RDWR | os.O_EXCL) as descriptor:
            written = 0
            while written < len(content):
                written += os.pwrite(descriptor, content[written:], offset + written)
            os.fsync(descriptor)


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
