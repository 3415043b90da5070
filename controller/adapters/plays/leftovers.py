"""What a play leaves when it ends or is ended: processes in sessions of their own, and its directory.

pexpect, Ansible's workers and the masters of ssh connections each have a session of their own, so that no process
group holds them all. All of them name the play's directory, in their environment or on their command line.
"""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from controller.domain.errors import Temporary

# In the environment of every process of a play.
MARK = "KERNROLL_PLAY"
_ROUNDS = 100
# A control socket's path has 108 bytes, and ssh adds to it.
_LONGEST_PREFIX = 60


@contextlib.contextmanager
def private_directory() -> Iterator[Path]:
    """Yield a directory that only we may read; it and every process that names it are gone when the block is left."""
    parent = tempfile.gettempdir()
    try:
        made = Path(tempfile.mkdtemp(prefix="kernroll-play-", dir="/tmp" if len(parent) > _LONGEST_PREFIX else parent))
    except OSError as error:
        raise Temporary(
            f"{parent}: a play needs a directory there, and {(error.strerror or str(error)).lower()}"
        ) from error
    try:
        yield made
    finally:
        end_processes(made)
        shutil.rmtree(made, ignore_errors=True)


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
