"""Runs real exercisers, and switches real swap on for a test where the machine has an idle ZRAM device."""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.domain.exercises import Event, Options, Order, as_line, options_text, parse_event

ZRAM = Path("/sys/block/zram0")
# One test run at a time on a machine may use its device.
_ZRAM_LOCK = Path(tempfile.gettempdir()) / "zram0.lock"
_PATIENCE_S = 120


def exercise(name: str, options: Options, *orders: Order) -> list[Event]:
    """Run an exerciser to its end with these orders and return what it told."""
    done = subprocess.run(
        [sys.executable, "-m", f"agent.exercisers.{name}", options_text(options)],
        input=b"".join(as_line(order) for order in orders),
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    assert not done.stderr, done.stderr.decode()
    return [parse_event(line) for line in done.stdout.splitlines()]


@contextmanager
def zram_swap(size_bytes: int) -> Iterator[str]:
    """Switch ZRAM swap of this size on and off again; skips the test where there is no idle device."""
    if os.geteuid() != 0 or not ZRAM.exists():
        pytest.skip("needs root and a ZRAM device")
    with _ZRAM_LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.skip("another run on this machine uses the ZRAM device")
        if len(Path("/proc/swaps").read_text().splitlines()) > 1:
            pytest.skip("this machine swaps already")
        if (ZRAM / "disksize").read_text().strip() != "0":
            pytest.skip("the ZRAM device is in use")
        device = "/dev/zram0"
        try:
            (ZRAM / "disksize").write_text(str(size_bytes))
            _tool("mkswap", device)
            _tool("swapon", device)
            yield device
        finally:
            if device in Path("/proc/swaps").read_text():
                _tool("swapoff", device)
            (ZRAM / "reset").write_text("1")


def _tool(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE_S)
