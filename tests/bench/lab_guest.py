"""One lab guest at a time, from a cold boot to its end, with a controller that orders what it is told.

Every boot starts from the same disk: the guest image with what the objects of kernel_build need prepared on it, which
takes an emulated processor minutes, so that no boot shall repeat it.
"""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_controller import Authority, Controller, Enrollment, pem, serving_tls
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lab_cells import MEMORY_MIB
from lab_measurement import Failed

from controller.adapters.delivery.hypervisor.processes import stop_vm
from controller.adapters.kernels import KernelStore
from controller.adapters.local.cache import Cache
from controller.domain.kernels import DebianKernel, Kernel
from controller.lab.fleet import Connection, Prepared, create_guest, switch_on
from controller.lab.guests import Guest
from controller.lab.images import GuestImage, prepare_guest
from controller.lab.toolset import Toolset, prepare_toolset
from protos.kernroll.v1 import agent_pb2, common_pb2

HOST = "guest"
# The guest's own work is measured, so the agent speaks seldom.
_HEARTBEAT_S = 10.0
_BOOT_S = 240.0
# What the agent itself may need to end a command and report it.
_GRACE_S = 90.0


class KeptAuthority(Authority):
    """A certificate authority whose key lies in a folder: guests that it admitted once are admitted again."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        key_file, certificate_file = folder / "authority.key", folder / "authority.pem"
        if key_file.exists() and certificate_file.exists():
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            assert isinstance(key, ec.EllipticCurvePrivateKey), "written below"
            self.key, self.certificate = key, x509.load_pem_x509_certificate(certificate_file.read_bytes())
            self.server = self._sign("kernroll-controller", self.server_key.public_key())
        else:
            folder.mkdir(parents=True, exist_ok=True)
            key_file.touch(mode=0o600)
            key_file.write_bytes(pem(self.key))
            certificate_file.write_bytes(self.pem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What guests are made of."""

    cache: Cache
    toolset: Toolset
    # By architecture.
    images: Mapping[str, GuestImage]
    # By architecture and version.
    kernels: Mapping[tuple[str, str], Kernel]


def parts(architectures: tuple[str, ...], versions: tuple[str, ...]) -> Parts:
    """Return what the guests are made of, fetched and built on first use."""
    cache = Cache.from_environment()
    store = KernelStore(cache)
    return Parts(
        cache=cache,
        toolset=prepare_toolset(cache),
        images={each: prepare_guest(cache, each, workloads=True) for each in architectures},
        kernels={
            (each, version): store.resolve(DebianKernel(version=version), each)
            for each in architectures
            for version in versions
        },
    )


class Lab:
    """Boots guests one after the other in a folder of its own."""

    def __init__(self, folder: Path, parts: Parts) -> None:
        # The supervisor stands elsewhere.
        self._folder = folder.resolve()
        self._parts = parts
        self._authority = KeptAuthority(self._folder / "authority")

    def stop_leftovers(self) -> None:
        """Switch off and remove what is there; nothing of it runs afterwards, however the last command ended."""
        for definition in sorted(self._folder.glob(f"machine/{HOST}/vm.json")):
            stop_vm(definition.parent)
        shutil.rmtree(self._folder / "machine", ignore_errors=True)

    def disk(self, architecture: str) -> Path:
        """Return where the disk that boots start from is kept; another image has another disk."""
        return self._folder / f"disk-{architecture}-{self._parts.images[architecture].digest[:16]}.qcow2"

    @asynccontextmanager
    async def booted(self, architecture: str, version: str) -> AsyncIterator["Commands"]:
        """Boot a guest cold, yield it when its agent has joined, and stop it. Raises Failed."""
        self.stop_leftovers()
        enrollment, controller = Enrollment(self._authority), Controller()
        controller.heartbeat_interval_s = _HEARTBEAT_S
        async with serving_tls(controller, enrollment) as (agent_port, enroll_port):
            connection = Connection(
                agent_port=agent_port, enroll_port=enroll_port, join_token=self._authority.token(), channel="serial"
            )
            prepared = Prepared(
                toolset=self._parts.toolset,
                images=self._parts.images,
                kernels={architecture: self._parts.kernels[architecture, version]},
                accelerators={architecture: "tcg"},
            )
            guest = Guest(name=HOST, architecture=architecture, memory_mib=MEMORY_MIB)
            made = create_guest(self._parts.cache, self._folder / "machine", guest, prepared, connection)
            if self.disk(architecture).exists():
                shutil.copyfile(self.disk(architecture), made / "root.qcow2")
            try:
                await asyncio.to_thread(switch_on, [made])
                try:
                    await controller.until(lambda: controller.names, timeout_s=_BOOT_S)
                except TimeoutError as error:
                    console = (made / "boots/1/console.log").read_text(errors="replace")
                    raise Failed(f"no agent after {_BOOT_S:g} s; its console ends with {console[-300:]!r}") from error
                yield Commands(controller)
            finally:
                # Before the controller ends: whoever is connected would complain.
                stop_vm(made)

    def keep_disk(self, architecture: str) -> None:
        """Keep the disk of the guest that was booted last for the boots to come."""
        (self._folder / "machine" / HOST / "root.qcow2").replace(self.disk(architecture))


class Commands:
    """What a connected guest is told."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._shown = ""

    @property
    def boot_id(self) -> str:
        """Return the boot that the agent said it is in."""
        return str(self._controller.hellos[-1].facts.boot_id)

    async def run(
        self, name: str, workload: agent_pb2.RunWorkload, *, timeout_s: float
    ) -> list[common_pb2.WorkloadRun]:
        """Run a workload and return its runs, warm-ups among them. Raises Failed with the agent's reason."""
        self._controller.order(agent_pb2.Command(command_id=name, epoch=1, timeout_s=timeout_s, run_workload=workload))
        ended = asyncio.create_task(
            self._controller.until(lambda: self._controller.outcomes(name), timeout_s=timeout_s + _GRACE_S)
        )
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=1.0)
                self._show(name)
            await ended
        except TimeoutError as error:
            raise Failed(f"{name}: no outcome within {timeout_s + _GRACE_S:g} s") from error
        finally:
            ended.cancel()
            self._show("")
        (outcome,) = self._controller.outcomes(name)[:1]
        if outcome.status != agent_pb2.CommandOutcome.STATUS_COMPLETED:
            raise Failed(f"{name}: {outcome.detail}")
        return self._controller.runs(name)

    def _show(self, name: str) -> None:
        """Keep one line of the terminal at what the guest is doing; a file gets nothing of it."""
        if not sys.stderr.isatty():
            return
        last = self._controller.progress[-1] if name and self._controller.progress else None
        text = f"    {name}: {last.fraction:4.0%} {last.step}" if last else ""
        if text != self._shown:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self._shown = text
