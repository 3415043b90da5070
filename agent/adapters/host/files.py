"""Files of the kernel and of the workloads."""

import asyncio
import os
import shutil
from pathlib import Path


class HostFiles:
    """The host's own files."""

    def read(self, path: Path) -> str:
        """Return a file's text, stripped; some files of the kernel act when they are read."""
        return path.read_bytes().decode("utf-8", "replace").strip()

    def write(self, path: Path, text: str) -> None:
        """Write a file that exists, in one write, as files of the kernel want it."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def exists(self, path: Path) -> bool:
        """Return whether there is anything of this name."""
        return os.path.lexists(path)

    def names(self, directory: Path) -> tuple[str, ...]:
        """Return the names in a directory, sorted; none when there is no such directory."""
        try:
            return tuple(sorted(os.listdir(directory)))
        except FileNotFoundError:
            return ()

    def make_sparse(self, path: Path, size_bytes: int) -> None:
        """Make a new file of this size that takes no room yet."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size_bytes)
        finally:
            os.close(descriptor)

    async def allocate(self, path: Path, size_bytes: int) -> None:
        """Make a new file of this size whose room is taken; OSError ENOSPC."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            await asyncio.to_thread(os.posix_fallocate, descriptor, 0, size_bytes)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Remove a file; it may be gone already."""
        path.unlink(missing_ok=True)

    def make_directory(self, path: Path) -> None:
        """Make a directory that only this user reads."""
        path.mkdir(mode=0o700, parents=True)

    async def remove_tree(self, path: Path) -> None:
        """Remove a directory and everything in it; it may be gone already."""
        await asyncio.to_thread(_remove_tree, path)

    def free_bytes(self, directory: Path) -> int:
        """Return the room that is left where the directory is, or will be made."""
        while not directory.exists():
            directory = directory.parent
        return shutil.disk_usage(directory).free


def _remove_tree(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
