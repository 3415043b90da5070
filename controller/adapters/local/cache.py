"""The user's cache: directories that are either complete or absent, built once however many processes ask."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from controller.adapters.local.named_files import read_file
from controller.adapters.local.tools import is_full
from controller.domain.errors import InvalidInput, Permanent, Temporary
from controller.domain.printable import printable

_LOCK_POLL_S = 0.2
_MOST_JSON_BYTES = 16 << 20


class Progress(Protocol):
    """Hears how far a piece of work is. May be called from the working thread, often."""

    def __call__(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """Report `label` at `done_bytes` of `total_bytes`; a total of 0 means that the size is unknown."""


def no_progress(label: str, done_bytes: int, total_bytes: int) -> None:
    """Ignore progress."""


def request_key(request: Mapping[str, Any]) -> str:
    """Return a short, stable name for a request made of JSON values."""
    text = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A directory of finished things. Everything in it can be deleted and is built again when needed."""

    root: Path
    # How long to wait for another process that builds the same thing.
    lock_timeout_s: float = 1800.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Cache":
        """Return the cache that KERNROLL_CACHE_DIR, else XDG_CACHE_HOME, else the home directory names."""
        values = os.environ if environment is None else environment
        if chosen := values.get("KERNROLL_CACHE_DIR"):
            return cls(root=Path(chosen).absolute())
        base = values.get("XDG_CACHE_HOME")
        return cls(root=(Path(base) if base else Path.home() / ".cache").absolute() / "kernroll")

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock `name` against other processes and threads. Raises Temporary after `lock_timeout_s` seconds."""
        with self._translated():
            directory = self.root / "locks"
            directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(directory / name.replace("/", "-"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            give_up = time.monotonic() + self.lock_timeout_s
            while not _try_lock(handle):
                if time.monotonic() > give_up:
                    raise Temporary(
                        f"Another kernroll process has been building {name} for {self.lock_timeout_s:.0f} s."
                    )
                time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(handle)

    def publish(self, name: str, build: Callable[[Path], None]) -> Path:
        """Return the directory `name`, built by `build` (called with an empty directory) when it is not there yet.

        The directory appears complete or not at all. Raises what `build` raises, and Permanent when the disk is full.
        """
        target = self._place(name)
        if target.is_dir():
            return target
        with self.lock(name):
            if target.is_dir():
                return target
            with self._translated(), self.scratch(name) as directory:
                build(directory)
                target.parent.mkdir(parents=True, exist_ok=True)
                directory.rename(target)
        return target

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Give an empty directory on the cache's disk that is removed afterwards. Hold the lock `name` meanwhile.

        What a killed process left there under the same name is removed first.
        """
        with self._translated():
            directory = self.root / "tmp" / name.replace("/", "-")
            remove_tree(directory)
            directory.mkdir(parents=True)
            try:
                yield directory
            finally:
                remove_tree(directory)

    def require_room(self, needed_bytes: int, what: str) -> None:
        """Raise Permanent unless the disk has room for `what`.

        Asked before work that would otherwise fill the disk first: some downloaders hang on a full one.
        """
        with self._translated():
            self.root.mkdir(parents=True, exist_ok=True)
            free_bytes = shutil.disk_usage(self.root).free
        if free_bytes < needed_bytes:
            raise Permanent(
                f"The disk of the cache {self.root} has {free_bytes >> 20} MiB left; "
                f"{what} needs {needed_bytes >> 20} MiB. "
                "Free some space there, or point KERNROLL_CACHE_DIR at a larger disk."
            )

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a small JSON file, atomically."""
        with self._translated():
            target = self._place(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f".{target.name}.{os.getpid()}")
            draft.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            draft.replace(target)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return a small JSON file, or None when it is absent or damaged: a cache is rebuilt, not repaired."""
        try:
            value = json.loads(read_file(self._place(name), _MOST_JSON_BYTES))
        except (OSError, ValueError, RecursionError, InvalidInput):
            return None
        return value if isinstance(value, dict) else None

    def _place(self, name: str) -> Path:
        """Return where something of this name is kept: below the root, whatever the name was made from."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise InvalidInput(f"{printable(name, 200)} cannot be the name of anything in the cache {self.root}")
        return self.root / path

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if is_full(error):
                raise Permanent(
                    f"The disk of the cache {self.root} is full. "
                    "Free some space there, or point KERNROLL_CACHE_DIR at a larger disk."
                ) from error
            if isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError):
                raise Permanent(
                    f"The cache {self.root} cannot be used: {error.strerror}: {error.filename}. "
                    "Point KERNROLL_CACHE_DIR at a directory of yours."
                ) from error
            raise


def remove_tree(directory: Path) -> None:
    """Remove a directory tree, including directories that their package made read-only."""

    if not directory.exists():
        return
    for folder, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o755)
    shutil.rmtree(directory)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
