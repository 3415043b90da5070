"""Memory taken from the kernel by its own calls: moving, advising and punching holes, which Python's mmap hides."""

import ctypes
import errno
import os
import re
from pathlib import Path
from typing import Self

from agent.domain.host.process_memory import Area, parse_smaps

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_HUGE_BYTES_PATH = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")

# asm-generic/mman-common.h, linux/mman.h, linux/falloc.h; the same numbers on x86_64 and arm64.
_PROT_READ_WRITE = 3
_MAP_SHARED = 0x01
_MAP_PRIVATE = 0x02
_MAP_ANONYMOUS = 0x20
_MAP_NORESERVE = 0x4000
_MREMAP_MAYMOVE_FIXED = 3
_FALLOC_FL_PUNCH_HOLE_KEEP_SIZE = 3
DONTNEED = 4
FREE = 8
HUGEPAGE = 14
PAGEOUT = 21

# Pages that are still being written stay for another look.
_LOOKS = 3
_SWAP_CACHED = re.compile(r"^SwapCached: +([0-9]+) kB$", re.MULTILINE)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.mremap.restype = ctypes.c_void_p
_libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_MAP_FAILED = ctypes.c_void_p(-1).value


def huge_page_bytes() -> int:
    """Return the size of a huge page that one page table entry of the middle level maps; 0 when there are none."""
    try:
        return int(_HUGE_BYTES_PATH.read_text())
    except (OSError, ValueError):
        return 0


class Region:
    """A mapping of a whole number of pages. Every verb raises OSError."""

    def __init__(self, size_bytes: int, *, shared_file: int | None = None, align_bytes: int = PAGE_BYTES) -> None:
        self.size_bytes = size_bytes
        kind = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE if shared_file is None else _MAP_SHARED
        descriptor = -1 if shared_file is None else shared_file
        # Room to begin at a multiple of the alignment.
        self._mapped_bytes = size_bytes + (align_bytes if align_bytes > PAGE_BYTES else 0)
        base = _libc.mmap(None, self._mapped_bytes, _PROT_READ_WRITE, kind, descriptor, 0)
        if base == _MAP_FAILED:
            raise _error("mmap")
        self._base: int = base
        self.address = -(-base // align_bytes) * align_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pages(self) -> int:
        """Return how many pages it has."""
        return self.size_bytes // PAGE_BYTES

    def read(self, offset: int, size: int = PAGE_BYTES) -> bytes:
        """Return bytes; a page that cannot be brought back from swap ends the process with SIGBUS."""
        return ctypes.string_at(self.address + offset, size)

    def write(self, offset: int, content: bytes) -> None:
        """Write bytes."""
        ctypes.memmove(self.address + offset, content, len(content))

    def view(self) -> memoryview:
        """Return the memory itself; it must not be used after `close` or `move`."""
        return memoryview((ctypes.c_ubyte * self.size_bytes).from_address(self.address)).cast("B")

    def advise(self, advice: int, offset: int = 0, size: int | None = None) -> None:
        """Tell the kernel what to do with the pages."""
        length = self.size_bytes - offset if size is None else size
        if _libc.madvise(self.address + offset, length, advice):
            raise _error(f"madvise {advice}")

    def page_out(self, offset: int = 0, size: int | None = None) -> None:
        """Have the kernel swap pages out of memory, as far as it can.

        Written to a device that takes its time, pages stay in the swap cache, and a look at them would not reach the
        device. Looked at once more, they are clean copies of what is in swap, which the next call drops at once.
        """
        length = self.size_bytes - offset if size is None else size
        # Twice, because pages on the processors' own lists cannot go at once.
        for _ in range(2):
            self.advise(PAGEOUT, offset, length)
        for _ in range(_LOOKS):
            if _swap_cached_bytes() < length // 2:
                return
            self.view()[offset : offset + length : PAGE_BYTES].tobytes()
            self.advise(PAGEOUT, offset, length)

    def move(self) -> None:
        """Have the kernel move the pages to another address."""
        target = _libc.mmap(None, self.size_bytes, 0, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1, 0)
        if target == _MAP_FAILED:
            raise _error("mmap")
        moved = _libc.mremap(self.address, self.size_bytes, self.size_bytes, _MREMAP_MAYMOVE_FIXED, target)
        if moved == _MAP_FAILED:
            raise _error("mremap")
        self._release_edges()
        self._base = self.address = target
        self._mapped_bytes = self.size_bytes

    def shorten(self, size_bytes: int) -> None:
        """Give the pages behind `size_bytes` back."""
        if size_bytes >= self.size_bytes:
            return
        kept = self.address - self._base + size_bytes
        if _libc.munmap(self._base + kept, self._mapped_bytes - kept):
            raise _error("munmap")
        self.size_bytes = size_bytes
        self._mapped_bytes = kept

    def close(self) -> None:
        """Give everything back; nothing happens the second time."""
        if self._mapped_bytes:
            _libc.munmap(self._base, self._mapped_bytes)
            self._mapped_bytes = 0

    def swapped_bytes(self) -> int:
        """Return how much of it is in swap, pages of shared files included."""
        return sum(area.swapped_bytes for area in self._areas())

    def swap_count(self) -> int:
        """Return how many times the kernel counts a swapped page of it on the average; 0 when none is in swap."""
        shares = sum(area.swap_share_bytes for area in self._areas())
        return round(self.swapped_bytes() / shares) if shares else 0

    def _areas(self) -> list[Area]:
        end = self.address + self.size_bytes
        areas = parse_smaps(Path("/proc/self/smaps").read_text())
        return [area for area in areas if area.begin < end and self.address < area.end]

    def _release_edges(self) -> None:
        before = self.address - self._base
        after = self._mapped_bytes - before - self.size_bytes
        for begin, size in ((self._base, before), (self.address + self.size_bytes, after)):
            if size > 0:
                _libc.munmap(begin, size)


def punch_hole(descriptor: int, offset: int, size: int) -> None:
    """Free a part of a file in memory. Raises OSError."""
    if _libc.fallocate(descriptor, _FALLOC_FL_PUNCH_HOLE_KEEP_SIZE, offset, size):
        raise _error("fallocate")


def _swap_cached_bytes() -> int:
    found = _SWAP_CACHED.search(Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 0


def _error(call: str) -> OSError:
    number = ctypes.get_errno() or errno.EIO
    return OSError(number, f"{call}: {os.strerror(number)}")
