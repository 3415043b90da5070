"""What both modules share: how they refuse, and that no two of them are at work on a host at one time."""

import contextlib
import fcntl
import os
import time

# Held while a module changes anything. It is gone with the process that holds it, and with the boot.
ALONE = "/run/kernroll-play.lock"


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
