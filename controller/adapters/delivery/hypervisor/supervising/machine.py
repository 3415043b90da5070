"""Starts, sees and ends the QEMU of one VM. A lock that QEMU inherits tells whether it lives, whoever started it."""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from controller.adapters.delivery.hypervisor.definition import load_definition
from controller.adapters.delivery.hypervisor.supervising import qemu
from controller.adapters.delivery.hypervisor.supervising.console import ConsoleLog
from controller.adapters.delivery.hypervisor.supervising.decision import Observation, Qemu
from controller.adapters.delivery.hypervisor.supervising.qmp import ask_to_quit
from controller.adapters.local.named_files import tail
from controller.domain.bounds import digits
from controller.domain.errors import InvalidInput, Permanent, Temporary
from controller.domain.kernels import Kernel
from controller.domain.printable import printable

QUIT_TIMEOUT_S = 3.0
SIGNAL_TIMEOUT_S = 5.0
_LOOK_EVERY_S = 0.02
_LAST_WORDS_BYTES = 4096
BOOT_DIRECTORIES_KEPT = 20

log = logging.getLogger(__name__)


class Machine(Protocol):
    """What a supervisor needs of the world."""

    def see(self, number: int) -> Observation:
        """Look at the QEMU of a boot and its console."""

    def telling_line(self, number: int) -> str:
        """Return the line that says most about a boot that hung or reset; empty when there is none."""

    def start(self, number: int, kernel: Kernel) -> None:
        """Start QEMU for a boot; raise Permanent when it cannot be started."""

    async def end(self, number: int) -> None:
        """End the QEMU of a boot; raise Temporary when it is still there afterwards."""


class QemuMachine:
    """The real one."""

    def __init__(self, vm_dir: Path) -> None:
        self._vm_dir = vm_dir
        # The console of the open boot, kept so that each look reads only what is new.
        self._console: tuple[int, ConsoleLog] | None = None
        # Our child, to be reaped; None when QEMU was started by an earlier supervisor.
        self._child: subprocess.Popen[bytes] | None = None
        # The last boot that this process started QEMU for; None when it has not yet.
        self._started: int | None = None

    def see(self, number: int) -> Observation:
        """Look at the QEMU of a boot and its console."""
        alive = self._alive(number)
        # A QEMU that we started and that left no console refused its arguments; one of which we do not know whether an
        # earlier supervisor got to start it is started again.
        started = number == self._started or (self._vm_dir / qemu.console_file(number)).exists()
        if not alive and not started:
            return Observation(qemu=Qemu.NEVER_STARTED)
        panic_line = self._console_of(number).panic_line(final=not alive)
        return Observation(qemu=Qemu.RUNNING if alive else Qemu.GONE, panic_line=panic_line)

    def telling_line(self, number: int) -> str:
        """Return the console line that says most, else QEMU's own last words, else an empty text."""
        return self._console_of(number).telling_line() or self._own_words(number)

    def start(self, number: int, kernel: Kernel) -> None:
        """Start QEMU in a session of its own; raise Permanent naming the cause when it cannot be started."""
        definition = load_definition(self._vm_dir)
        command = qemu.arguments(definition, kernel, number)
        directory = self._vm_dir / qemu.boot_dir(number)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock_fd = os.open(self._vm_dir / qemu.lock_file(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._child = self._spawn(number, command, lock_fd, {**os.environ, **definition.qemu.environment})
            finally:
                os.close(lock_fd)
        except OSError as error:
            raise Permanent(f"QEMU could not be started: {error}") from error
        self._started = number
        log.info("boot %d: started QEMU %d with kernel %s (%s)", number, self._child.pid, kernel.digest, kernel.release)
        self._prune(number)

    async def end(self, number: int) -> None:
        """Ask QEMU to quit, then terminate, then kill it."""
        if await ask_to_quit(self._vm_dir, qemu.qmp_socket(number), timeout_s=QUIT_TIMEOUT_S) and await self._gone(
            number
        ):
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for pid in _holders(self._vm_dir / qemu.lock_file(number)):
                log.warning("boot %d: QEMU %d did not quit when asked; sending %s", number, pid, sign.name)
                os.kill(pid, sign)
            if await self._gone(number):
                return
        raise Temporary(f"QEMU of boot {number} cannot be ended")

    def _spawn(
        self, number: int, command: Sequence[str], lock_fd: int, environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        with (self._vm_dir / qemu.output_file(number)).open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=self._vm_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock_fd,),
                start_new_session=True,
            )

    def _alive(self, number: int) -> bool:
        try:
            fd = os.open(self._vm_dir / qemu.lock_file(number), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            self._reap()
            return False
        finally:
            os.close(fd)

    def _reap(self) -> None:
        """Take note of our child's end; it has let go of its lock, so it is on its way out."""
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=SIGNAL_TIMEOUT_S)
            self._child = None

    async def _gone(self, number: int) -> bool:
        for _ in range(int(SIGNAL_TIMEOUT_S / _LOOK_EVERY_S)):
            if not self._alive(number):
                return True
            await asyncio.sleep(_LOOK_EVERY_S)
        return False

    def _console_of(self, number: int) -> ConsoleLog:
        if self._console is None or self._console[0] != number:
            self._console = (number, ConsoleLog(self._vm_dir / qemu.console_file(number)))
        return self._console[1]

    def _own_words(self, number: int) -> str:
        """What QEMU itself said when it ended without any console output, for example that a disk is missing."""
        try:
            text = tail(self._vm_dir / qemu.output_file(number), _LAST_WORDS_BYTES)
        except (OSError, InvalidInput):
            return ""
        lines = text.strip().splitlines()
        return printable(lines[-1], 300) if lines else ""

    def _prune(self, newest: int) -> None:
        for directory in (self._vm_dir / "boots").iterdir():
            number = digits(directory.name)
            if number is not None and number <= newest - BOOT_DIRECTORIES_KEPT:
                shutil.rmtree(directory, ignore_errors=True)


def _holders(lock: Path) -> list[int]:
    """Return the other processes that have the lock file open. A process id on file could be stale; this cannot."""
    try:
        wanted = lock.stat()
    except FileNotFoundError:
        return []
    found = []
    for process in Path("/proc").iterdir():
        if digits(process.name) in (None, os.getpid()):
            continue
        try:
            if any(_same(entry, wanted) for entry in (process / "fd").iterdir()):
                found.append(int(process.name))
        except OSError:
            # Another user's process, or one that has just ended.
            continue
    return found


def _same(entry: Path, wanted: os.stat_result) -> bool:
    try:
        found = entry.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)
