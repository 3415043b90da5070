"""Unix sockets inside a VM's directory, however long its path: the kernel allows 107 bytes, so we use a descriptor."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def short_path(vm_dir: Path, name: str) -> Iterator[str]:
    """Give a short path for `name` in the directory, valid within the block; raise OSError when there is none."""
    fd = os.open(vm_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
