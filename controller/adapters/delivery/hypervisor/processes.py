"""Starts, stops and looks at VMs by their directories: what the lab calls, with or without a running supervisor."""

import contextlib
import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import controller
from controller.adapters.delivery.hypervisor.client import NoSupervisor, call
from controller.adapters.delivery.hypervisor.definition import load_definition
from controller.adapters.delivery.hypervisor.supervising.journal import read_journal
from controller.adapters.delivery.hypervisor.supervising.state import fold, status
from controller.adapters.delivery.hypervisor.supervising.supervisor import (
    EXIT_ALREADY_RUNNING,
    EXIT_OK,
    EXIT_TEMPORARY,
    LOCK_NAME,
)
from controller.domain.bounds import digits
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import Permanent, Temporary

LOG_NAME = "supervisor.log"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmStatus:
    """One VM as its directory shows it."""

    delivery: DeliveryStatus
    # Process id of its supervisor; None when there is none.
    supervisor_pid: int | None
    # Whether the machine is meant to run.
    switched_on: bool
    # uname -r by digest, of every kernel that was ever staged here.
    releases: Mapping[str, str]


def start_supervisor(vm_dir: Path, *, switch_on: bool = True, timeout_s: float = START_TIMEOUT_S) -> None:
    """Make sure that the VM's one supervisor runs, and with `switch_on` that the machine does. Returns when it answers.

    Without `switch_on` the supervisor of a machine that is switched off leaves again at once, which is no error.
    Raises NotFound or Permanent when the VM's directory is not usable, Temporary when nobody answers in time.
    """
    load_definition(vm_dir)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not _held(vm_dir / LOCK_NAME):
            if not switch_on and not is_switched_on(vm_dir):
                return
            _spawn(vm_dir, switch_on=switch_on, timeout_s=timeout_s)
        try:
            call(vm_dir, "switch_on" if switch_on else "status")
            return
        except Temporary:
            # It is just starting or just leaving.
            time.sleep(_LOOK_EVERY_S)
    raise Temporary(f"{vm_dir.name}: its supervisor did not answer within {timeout_s:g} s; see {vm_dir / LOG_NAME}")


def stop_vm(vm_dir: Path, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Switch the machine off: QEMU and supervisor are gone afterwards. Raises Temporary when they are not in time."""
    load_definition(vm_dir)
    deadline = time.monotonic() + timeout_s
    while _held(vm_dir / LOCK_NAME) or is_switched_on(vm_dir):
        if time.monotonic() > deadline:
            raise Temporary(f"{vm_dir.name}: did not stop within {timeout_s:g} s; see {vm_dir / LOG_NAME}")
        if is_switched_on(vm_dir):
            with contextlib.suppress(Temporary):
                start_supervisor(vm_dir, switch_on=False, timeout_s=timeout_s)
                call(vm_dir, "stop")
        time.sleep(_LOOK_EVERY_S)


def vm_status(vm_dir: Path) -> VmStatus:
    """Look at a VM without changing anything; raise NotFound when there is none in this directory."""
    written = status_on_disk(vm_dir)
    try:
        return replace(written, delivery=call(vm_dir, "status"), supervisor_pid=_supervisor_pid(vm_dir))
    except NoSupervisor:
        return written


def status_on_disk(vm_dir: Path) -> VmStatus:
    """Return what the journal says, without asking a supervisor."""
    definition = load_definition(vm_dir)
    state = fold(read_journal(vm_dir))
    delivery = status(state, definition.name)
    if not state.revision:
        # It was never switched on, so there is no journal yet.
        delivery = replace(delivery, default=definition.kernel.digest)
    releases = {kernel.digest: kernel.release for kernel in (definition.kernel, *state.kernels.values())}
    return VmStatus(delivery=delivery, supervisor_pid=None, switched_on=state.on, releases=releases)


def is_switched_on(vm_dir: Path) -> bool:
    """Return whether the machine is meant to run, as its journal says."""
    return fold(read_journal(vm_dir)).on


def _spawn(vm_dir: Path, *, switch_on: bool, timeout_s: float) -> None:
    """Start a supervisor that outlives this process and is nobody's child; return when it is ready to answer."""
    log.info("%s: starting its supervisor", vm_dir.name)
    command = [
        sys.executable,
        "-m",
        "controller.adapters.delivery.hypervisor.supervising.supervisor",
        "--detach",
        "--vm-dir",
        str(vm_dir),
    ]
    # It must find this code also when it was not installed, and must not depend on where we stand.
    source = str(Path(controller.__file__).resolve().parents[1])
    paths = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        with (vm_dir / LOG_NAME).open("ab") as output:
            result = subprocess.run(
                [*command, *(["--switch-on"] if switch_on else [])],
                cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                timeout=timeout_s,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Temporary(f"{vm_dir.name}: its supervisor cannot be started: {error}") from error
    if result.returncode in (EXIT_OK, EXIT_ALREADY_RUNNING):
        return
    said = result.stdout.decode(errors="replace").strip() or f"it ended with code {result.returncode}"
    message = f"{vm_dir.name}: its supervisor cannot start: {said}; see {vm_dir / LOG_NAME}"
    raise Temporary(message) if result.returncode == EXIT_TEMPORARY else Permanent(message)


def _supervisor_pid(vm_dir: Path) -> int | None:
    return digits((vm_dir / LOCK_NAME).read_text().strip())


def _held(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)
