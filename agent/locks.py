"""Locks between the agent's processes; the kernel releases them when a process dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.domain.errors import RigError


class Lock:
    """An advisory lock on a file."""

    def __init__(self, path: Path, *, complaint: str) -> None:
        self._path = path
        self._complaint = complaint

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock; RigError with the complaint when another process holds it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RigError(f"{self._path} cannot be locked: {error.strerror}; move it away") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RigError(self._complaint) from error
            yield
        finally:
            os.close(descriptor)


def agent_lock(state_dir: Path) -> Lock:
    """Return the lock of the one resident agent of a state directory."""
    return Lock(state_dir / "agent.lock", complaint=f"another agent serves {state_dir}; stop it first")


def workload_lock(state_dir: Path) -> Lock:
    """Return the lock of the one workload that may run or be taken down."""
    return Lock(
        state_dir / "workload.lock", complaint="another process of this agent runs a workload; wait for it to end"
    )
