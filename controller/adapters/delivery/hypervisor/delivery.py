"""The Delivery port for direct-boot VMs: each verb calls the VM's supervisor, and starts it again when it is gone."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from controller.adapters.delivery.hypervisor.client import NoSupervisor, call_async
from controller.adapters.delivery.hypervisor.definition import FILE_NAME
from controller.adapters.delivery.hypervisor.processes import START_TIMEOUT_S, start_supervisor, status_on_disk
from controller.adapters.delivery.hypervisor.protocol import WATCH_MAX_S
from controller.adapters.delivery.merging import merged
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import KernrollError, NotFound, Temporary
from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel
from controller.domain.record.effects import DeliveryEffect, StageKernel

CALL_TIMEOUT_S = 15.0
# Copying a kernel across file systems takes longer than writing a line.
STAGE_TIMEOUT_S = 120.0
WATCH_RETRY_S = 2.0
_ANSWER_MARGIN_S = 10.0

log = logging.getLogger(__name__)


class _SwitchedOff(Temporary):
    """The machine is off and has no supervisor."""

    def __init__(self, status: DeliveryStatus) -> None:
        super().__init__(
            f"{status.host}: the machine is switched off: switch it on with `kernroll lab up`", retry_after_s=30.0
        )
        self.status = status


class HypervisorDelivery:
    """Delivers kernels to the VMs whose directories lie in `fleet_dir`, each named after its host."""

    def __init__(self, fleet_dir: Path, *, kernels_dir: Path | None = None) -> None:
        """`kernels_dir` is the kernel store: relative file names of a kernel are looked up in its folder DIGEST."""
        self._fleet_dir = fleet_dir
        self._kernels_dir = kernels_dir
        # One start at a time per host.
        self._starting: dict[str, asyncio.Lock] = {}

    def reaches(self, host: Host) -> bool:
        """Return whether there is such a VM."""
        return (self._fleet_dir / host.name / FILE_NAME).exists()

    def longest_s(self, effect: DeliveryEffect) -> float:
        """Return a call's own limit with the start of a supervisor before it, and some."""
        call_s = STAGE_TIMEOUT_S if isinstance(effect, StageKernel) else CALL_TIMEOUT_S
        return call_s + CALL_TIMEOUT_S + START_TIMEOUT_S + _ANSWER_MARGIN_S

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> None:
        """Link the kernel's files into the VM's directory."""
        document = {**asdict(kernel), "files": {role: self._file(kernel, name) for role, name in kernel.files.items()}}
        await self._call(host, "stage", timeout_s=STAGE_TIMEOUT_S, command_id=command_id, kernel=document)

    async def arm(
        self,
        host: str,
        command_id: str,
        kernel: str,
        *,
        boot_timeout_s: float,
        probation_timeout_s: float,
        require_watchdog: bool = False,
    ) -> None:
        """Make a staged kernel the next boot, once."""
        await self._call(
            host,
            "arm",
            command_id=command_id,
            kernel=kernel,
            boot_timeout_s=boot_timeout_s,
            probation_timeout_s=probation_timeout_s,
        )

    async def reboot(self, host: str, command_id: str) -> None:
        """Cold-boot now."""
        await self._call(host, "reboot", command_id=command_id)

    async def acknowledge(self, host: str, command_id: str) -> None:
        """End the boot deadline, start the probation deadline."""
        await self._call(host, "acknowledge", command_id=command_id)

    async def bless(self, host: str, command_id: str) -> None:
        """Make the running kernel the default."""
        await self._call(host, "bless", command_id=command_id)

    async def revert(self, host: str, command_id: str, kernel: str) -> None:
        """Return to a staged kernel."""
        await self._call(host, "revert", command_id=command_id, kernel=kernel)

    async def status(self, host: str) -> DeliveryStatus:
        """Return the present state; that of a machine that is switched off comes from its journal."""
        try:
            return await self._call(host, "status")
        except _SwitchedOff as error:
            return error.status

    async def watch(self, hosts: Sequence[str]) -> AsyncGenerator[DeliveryStatus]:
        """Yield each host's state at once and after each change; hosts out of reach are retried."""
        async with aclosing(merged([self._changes(host) for host in hosts])) as states:
            async for status in states:
                yield status

    async def _changes(self, host: str) -> AsyncGenerator[DeliveryStatus]:
        """Yield one host's states for ever. What is no KernrollError is our bug, and breaks the watch."""
        known = -1
        reported = ""
        while True:
            try:
                found = await self._call(
                    host, "watch", timeout_s=WATCH_MAX_S + _ANSWER_MARGIN_S, after_revision=known, wait_s=WATCH_MAX_S
                )
                pause_s, reported = 0.0, ""
            except _SwitchedOff as error:
                found, pause_s = error.status, WATCH_RETRY_S
            except KernrollError as error:
                # Said once for as long as it stays the same, not every two seconds.
                if str(error) != reported:
                    log.warning("watching %s: %s", host, error)
                reported = str(error)
                await asyncio.sleep(WATCH_RETRY_S)
                continue
            if found.revision != known:
                known = found.revision
                yield found
            await asyncio.sleep(pause_s)

    async def _call(self, host: str, op: str, *, timeout_s: float = CALL_TIMEOUT_S, **fields: Any) -> DeliveryStatus:
        vm_dir = self._vm_dir(host)
        try:
            return await call_async(vm_dir, op, timeout_s=timeout_s, **fields)
        except NoSupervisor as error:
            written = status_on_disk(vm_dir)
            if not written.switched_on and written.delivery.running is None:
                raise _SwitchedOff(written.delivery) from error
        async with self._starting.setdefault(host, asyncio.Lock()):
            log.warning("%s: its supervisor is gone; starting it again", host)
            await asyncio.to_thread(start_supervisor, vm_dir, switch_on=False)
        return await call_async(vm_dir, op, timeout_s=timeout_s, **fields)

    def _vm_dir(self, host: str) -> Path:
        vm_dir = self._fleet_dir / host
        if not host or "/" in host or host.startswith(".") or not (vm_dir / FILE_NAME).exists():
            raise NotFound(f"{host}: no such VM in {self._fleet_dir}; `kernroll lab status` lists them")
        return vm_dir

    def _file(self, kernel: Kernel, name: str) -> str:
        base = self._kernels_dir / kernel.digest if self._kernels_dir else Path()
        return str((base / name).absolute())
