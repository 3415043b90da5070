"""The process beside each VM: `python -m` this module with `--vm-dir DIR`."""

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from controller.adapters.delivery.hypervisor.definition import load_definition
from controller.adapters.delivery.hypervisor.supervising.journal import Journal
from controller.adapters.delivery.hypervisor.supervising.machine import QemuMachine
from controller.adapters.delivery.hypervisor.supervising.server import serve
from controller.adapters.delivery.hypervisor.supervising.vm import SupervisedVm
from controller.domain.errors import Conflict, KernrollError, Permanent, Temporary

LOCK_NAME = "supervisor.lock"
EXIT_OK = 0
EXIT_FAILED = 1
# Another supervisor has the VM: nothing to do.
EXIT_ALREADY_RUNNING = 3
# Worth trying again, for example when the disk is full.
EXIT_TEMPORARY = 75
# Whoever looks whether the lock is held holds it for a moment.
_LOCK_ATTEMPTS = 20
_LOCK_EVERY_S = 0.05

log = logging.getLogger(__name__)


async def supervise(
    vm_dir: Path, *, switch_on: bool, now: Callable[[], float], ready: Callable[[], None] = lambda: None
) -> None:
    """Run one VM until it is switched off. Cancelling leaves QEMU running, to be adopted by the next supervisor.

    `ready` is called once requests are answered.

    Raises Conflict when another supervisor has the VM, other KernrollErrors when the VM's directory is not usable.
    """
    with _only_one(vm_dir):
        definition = load_definition(vm_dir)
        with contextlib.closing(Journal(vm_dir)) as journal:
            vm = SupervisedVm(vm_dir, definition.name, machine=QemuMachine(vm_dir), journal=journal, now=now)
            vm.define(definition.kernel)
            if switch_on:
                vm.switch_on()
            async with serve(vm_dir, vm):
                ready()
                await vm.run()


@contextlib.contextmanager
def _only_one(vm_dir: Path) -> Iterator[None]:
    try:
        fd = os.open(vm_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Permanent(f"{vm_dir}: cannot be used as a VM's directory: {error}") from error
    try:
        _lock(fd, vm_dir)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, vm_dir: Path) -> None:
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            return
        except BlockingIOError as error:
            if attempt == _LOCK_ATTEMPTS - 1:
                raise Conflict(f"{vm_dir}: another supervisor is running") from error
            time.sleep(_LOCK_EVERY_S)


async def _until_told_to_end(vm_dir: Path, *, switch_on: bool, ready: Callable[[], None]) -> None:
    # A process of its own has no Clock port: this is where its clock is chosen.
    work = asyncio.ensure_future(supervise(vm_dir, switch_on=switch_on, now=time.time, ready=ready))  # noqa: TID251
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        log.info("told to end; QEMU keeps running")


def _detach() -> Callable[[int, str], None]:
    """Go on in a child that is nobody's child; the caller's process ends when the returned function is called.

    The function takes the exit code and the text that the caller sees on standard output.
    """
    read_fd, write_fd = os.pipe()
    if os.fork():
        os.close(write_fd)
        with os.fdopen(read_fd, "r") as pipe:
            code, _, text = pipe.read().partition(" ")
        print(text, flush=True)
        os._exit(int(code or EXIT_FAILED))
    os.close(read_fd)
    os.setsid()
    # The caller waits for the end of what we can write to; all that we say from now on goes to the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(code: int, text: str) -> None:
        nonlocal write_fd
        if write_fd >= 0:
            os.write(write_fd, f"{code} {text}".encode())
            os.close(write_fd)
            write_fd = -1

    return tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Supervise one VM; return 0 when it was switched off, 3 when another supervisor has it, else 1 or 75."""
    parser = argparse.ArgumentParser(description="Runs one VM: boots kernels once, falls back by itself.")
    parser.add_argument("--vm-dir", type=Path, required=True, help="the VM's directory, with vm.json")
    parser.add_argument("--switch-on", action="store_true", help="boot the machine if it is switched off")
    parser.add_argument("--detach", action="store_true", help="return when ready and go on in the background")
    options = parser.parse_args(arguments)
    # Whoever can reach the sockets can switch the machine off: they are the owner's alone.
    os.umask(0o077)
    tell = _detach() if options.detach else lambda code, text: None
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    code, text = EXIT_OK, ""
    try:
        vm_dir = options.vm_dir.absolute()
        asyncio.run(_until_told_to_end(vm_dir, switch_on=options.switch_on, ready=lambda: tell(EXIT_OK, "")))
    except KernrollError as error:
        log.error("%s", error)
        code, text = _exit_code(error), str(error)
    tell(code, text)
    return code


def _exit_code(error: KernrollError) -> int:
    match error:
        case Conflict():
            return EXIT_ALREADY_RUNNING
        case Temporary():
            return EXIT_TEMPORARY
        case _:
            return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
