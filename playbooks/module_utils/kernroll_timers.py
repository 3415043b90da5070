"""Apt's own timers pause while packages are installed, by a lease: they come back though nobody is left to end it."""

import contextlib
import json
import os

# What takes apt's lock again and again; what they have begun already is waited for.
TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer")
# Which of them the lease stopped; gone with the boot, which starts them anyway.
PAUSED = "/run/kernroll-paused-timers.json"
LEASE = "kernroll-apt-lease"
SYSTEMD = "/run/systemd/system"


@contextlib.contextmanager
def paused(run, lease_s):
    """Keep apt's timers stopped within the block. A timer of systemd's own starts them again after `lease_s`.

    `run` runs a program and returns how it ended. Where they cannot be paused they are left alone.
    """
    timers = _to_pause(run)
    lease = f"{LEASE}-{os.getpid()}"
    if not timers or not _leased(run, lease, timers, lease_s):
        yield
        return
    try:
        run("systemctl", "stop", *timers)
        yield
    finally:
        run("systemctl", "start", *timers)
        # What an earlier play left goes as well: they run again.
        run("systemctl", "stop", f"{LEASE}-*.timer")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(PAUSED)


def _to_pause(run):
    """Return the timers that run, and those that an earlier play has stopped and not started again."""
    if not os.path.isdir(SYSTEMD):
        return []
    try:
        with open(PAUSED, encoding="utf-8") as file:
            before = [one for one in json.load(file) if one in TIMERS]
    except (OSError, ValueError):
        before = []
    active = [one for one in TIMERS if run("systemctl", "is-active", "--quiet", one).returncode == 0]
    return sorted({*before, *active})


def _leased(run, lease, timers, lease_s):
    """Take the lease, before anything is stopped; return whether it was taken."""
    draft = f"{PAUSED}.new"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(timers, file)
    os.replace(draft, PAUSED)
    return (
        run(
            "systemd-run",
            "--collect",
            f"--unit={lease}",
            f"--on-active={int(lease_s)}s",
            "--description=Starts apt's timers again, which kernroll has stopped for a while",
            "systemctl",
            "start",
            *timers,
        ).returncode
        == 0
    )
