"""What the modules share: how they refuse, run programs and write, and that no two are at work on a host at once."""

import contextlib
import fcntl
import os
import subprocess
import tempfile
import time

# Held while a module changes anything. It is gone with the process that holds it, and with the boot.
ALONE = "/run/kernroll-play.lock"

TIMEOUT_S = 1800


class Refused(Exception):
    """It is not done; the text says why and what to do."""


class Step:
    """Remembers which step a failure belongs to."""

    def __init__(self):
        self.name = "looking at the host"

    def __call__(self, name):
        self.name = name


@contextlib.contextmanager
def alone(wait_s):
    """Keep others of these modules from the host: one whose controller was stopped may still be at work there."""
    with open(ALONE, "a", encoding="ascii") as file:
        give_up = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise Refused(
                        f"an earlier play is still at work on it after {wait_s} s: see which with `fuser -v {ALONE}`, "
                        "and try again when it has ended"
                    ) from None
                time.sleep(0.2)
        # For whoever wants to know who it is.
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def environment(extra=None):
    """Return the environment in which programs say what they do in one language, and ask nothing."""
    return {
        **os.environ,
        "LC_ALL": "C",
        "DEBIAN_FRONTEND": "noninteractive",
        "APT_LISTCHANGES_FRONTEND": "none",
        # It would restart services, and ask which.
        "NEEDRESTART_SUSPEND": "1",
        "PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
        **(extra or {}),
    }


def run(*command):
    """Run a program and return how it ended."""
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
    )


def lines_of(done):
    """Return what a program said, errors first, line by line."""
    return [line.strip() for line in f"{done.stderr}\n{done.stdout}".splitlines() if line.strip()]


def write(path, text):
    """Replace a file as a whole, durably."""
    handle, draft = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".kernroll-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(draft, 0o644)
    os.replace(draft, path)
