"""What a play leaves when it ends or is ended: processes in sessions of their own, and its directory.

pexpect, Ansible's workers and the masters of ssh connections each have a session of their own, so that no process
group holds them all. All of them name the play's directory, in their environment or on their command line. Whoever
plays holds a lock in it while it lives: a directory whose lock is free was left by somebody who was killed.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from controller.domain.errors import Temporary

# In the environment of every process of a play.
MARK = "KERNROLL_PLAY"
_PREFIX = "kernroll-play-"
# In a play's directory, locked by whoever plays.
_ALIVE = "alive"
_ROUNDS = 100
# A control socket's path has 108 bytes, and ssh adds to it.
_LONGEST_PREFIX = 60


@contextlib.contextmanager
def private_directory() -> Iterator[Path]:
    """Yield a directory that only we may read; it and every process that names it are gone when the block is left."""
    parent = _parent()
    held = -1
    try:
        made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        # No process that is started inherits it: it is free as soon as this one ends, however it ends.
        held = os.open(made / _ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
    except OSError as error:
        raise Temporary(
            f"{parent}: a play needs a directory there, and {(error.strerror or str(error)).lower()}"
        ) from error
    try:
        yield made
    finally:
        remove(made)
        os.close(held)


def remove(directory: Path) -> None:
    """End a play's processes and remove its directory."""
    end_processes(directory)
    shutil.rmtree(directory, ignore_errors=True)


def end_orphans() -> int:
    """End plays of ours whose player was killed, so that nobody plays on their hosts; return how many there were."""
    found = 0
    for directory in Path(_parent()).glob(f"{_PREFIX}*"):
        try:
            if directory.is_symlink() or directory.stat().st_uid != os.getuid():
                continue
            held = os.open(directory / _ALIVE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            # It is being made, or removed.
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            remove(directory)
            found += 1
        finally:
            os.close(held)
    return found


def _parent() -> str:
    parent = tempfile.gettempdir()
    return "/tmp" if len(parent) > _LONGEST_PREFIX else parent


def end_processes(directory: Path) -> None:
    """Kill every process of ours that names a play's directory."""
    for _ in range(_ROUNDS):
        # What is being started while we look is there at the next look.
        ended = [_end(pid, os.fsencode(directory)) for pid in _own_processes()]
        if not any(ended):
            return


def _own_processes() -> Iterator[int]:
    own, us = os.getuid(), os.getpid()
    for name in os.listdir("/proc"):
        # A process may end while its folder is looked at.
        with contextlib.suppress(OSError):
            if name[0] in "123456789" and os.stat(f"/proc/{name}").st_uid == own and int(name) != us:
                yield int(name)


def _end(pid: int, mark: bytes) -> bool:
    """Kill a process that names the directory; return whether it does and had not ended."""
    try:
        held = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # The number means the same process as long as it is held and alive.
        if not any(mark in Path(f"/proc/{pid}/{file}").read_bytes() for file in ("environ", "cmdline")):
            return False
        signal.pidfd_send_signal(held, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(held)
    return True
