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

from agent.domain.work.exercises import Event, Options, Order, as_line, options_text, parse_event

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
    if not ZRAM.exists():
        pytest.skip("needs a ZRAM device")
    with _alone_with_swap():
        if (ZRAM / "disksize").read_text().strip() != "0":
            pytest.skip("the ZRAM device is in use")
        try:
            (ZRAM / "disksize").write_text(str(size_bytes))
            with _switched_on("/dev/zram0"):
                yield "/dev/zram0"
        finally:
            (ZRAM / "reset").write_text("1")


@contextmanager
def loop_swap(size_bytes: int) -> Iterator[Path]:
    """Switch swap on a loop device on and off again; yields the file under it."""
    with _alone_with_swap(), tempfile.NamedTemporaryFile() as file:
        file.truncate(size_bytes)
        attached = subprocess.run(
            ["losetup", "--find", "--show", file.name], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
        if attached.returncode:
            pytest.skip(f"no loop device: {attached.stderr.strip()}")
        device = attached.stdout.strip()
        try:
            with _switched_on(device):
                yield Path(file.name)
        finally:
            _tool("losetup", "-d", device)


@contextmanager
def _alone_with_swap() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with _ZRAM_LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.skip("another run on this machine uses the ZRAM device")
        if len(Path("/proc/swaps").read_text().splitlines()) > 1:
            pytest.skip("this machine swaps already")
        yield


@contextmanager
def _switched_on(device: str) -> Iterator[None]:
    _tool("mkswap", device)
    try:
        _tool("swapon", device)
        yield
    finally:
        if device in Path("/proc/swaps").read_text():
            _tool("swapoff", device)


def _tool(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE_S)
