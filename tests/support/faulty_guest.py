"""A real guest with an agent that is told what to do, and hands inside it that break things."""

import asyncio
import inspect
import io
import json
import socket
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import guest_hands
from agent_controller import Authority, Controller, Enrollment, cancel, serving_tls

from controller.adapters.delivery.hypervisor.definition import load_definition, save_definition
from controller.adapters.delivery.hypervisor.processes import stop_vm, vm_status
from controller.adapters.delivery.hypervisor.sockets import short_path
from controller.adapters.delivery.hypervisor.supervising.qemu import qmp_socket
from controller.adapters.kernels import KernelStore
from controller.adapters.local.cache import Cache
from controller.domain.kernels import DebianKernel
from controller.lab.fleet import Connection, Prepared, create_guest, switch_on
from controller.lab.guests import Guest
from controller.lab.images import prepare_guest
from controller.lab.toolset import prepare_toolset
from protos.kernroll.v1 import agent_pb2, common_pb2

BOOT_S = 240.0
# For one command: half a minute on a machine with nothing else to do.
COMMAND_S = 600.0
STEP_S = 400.0
_ANSWER_S = 120.0
_LOOK_EVERY_S = 0.2
_SOCKET = "hands.sock"
# A second bus of ports, so that those of the agent stay as they are.
_PORT = (
    *("-device", "virtio-serial-pci,id=hands0", "-chardev", f"socket,id=hands,path={_SOCKET},server=on,wait=off"),
    *("-device", f"virtserialport,bus=hands0.0,nr=1,chardev=hands,name={guest_hands.PORT}"),
)
# Found by Python before the agent is: the first agent of a boot starts the hands, which outlive it. Every agent has
# mounts of its own, as systemd gives them to a service that it protects: they end with it, and names in them lose their
# folders.
_SITECUSTOMIZE = b"""\
import os
import subprocess
import sys

if "agent.main" in " ".join(sys.orig_argv):
    try:
        os.close(os.open("/run/kernroll-test-once", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass
    else:
        subprocess.Popen([sys.executable, "-S", "/run/kernroll/seed/guest_hands.py"], start_new_session=True)
    os.unshare(os.CLONE_NEWNS)
"""


class Hands:
    """The test's end of the port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, verb: str, *arguments: Any) -> Any:
        """Have a verb carried out and return what it found."""
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await self._connected()
            writer.write(json.dumps([verb, *arguments]).encode() + b"\n")
            await writer.drain()
            answer = json.loads(await reader.readline())
        assert "error" not in answer, f"{verb}: {answer}"
        return answer["found"]

    async def last_word(self, verb: str, *arguments: Any) -> None:
        """Have something done that leaves nobody to answer."""
        _, writer = await self._connected()
        writer.write(json.dumps([verb, *arguments]).encode() + b"\n")
        await writer.drain()
        writer.close()
        self._reader = self._writer = None

    def hang_up(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            with short_path(self._directory, _SOCKET) as path:
                self._reader, self._writer = await asyncio.open_unix_connection(path)
        return self._reader, self._writer


@dataclass(slots=True)
class FaultyGuest:
    """The guest, its agent's controller, and what its host looked like before anything ran."""

    controller: Controller
    hands: Hands
    directory: Path
    clean: Mapping[str, Any]
    orders: int = 0

    def order(self, workload: agent_pb2.RunWorkload, *, warmups: int = 0, repetitions: int = 1) -> str:
        """Order runs and return the command's id."""
        self.orders += 1
        command_id = f"{workload.WhichOneof('workload')}-{self.orders}"
        workload.warmups, workload.repetitions = warmups, repetitions
        self.controller.order(
            agent_pb2.Command(command_id=command_id, epoch=1, timeout_s=COMMAND_S, run_workload=workload)
        )
        return command_id

    def cancel(self, command_id: str) -> None:
        """Order the command to be cancelled."""
        self.controller.order(cancel(f"cancel-{command_id}", command_id))

    async def reaches(self, command_id: str, step: str, *, beyond: float = 0.0) -> None:
        """Wait until the agent says that it is at a step, a share of the command done; fail if it ends before."""

        def there() -> bool:
            told = [each for each in self.controller.progress if each.command_id == command_id]
            return any(each.step.startswith(step) and each.fraction >= beyond for each in told)

        await self.controller.until(lambda: there() or self.controller.outcomes(command_id), timeout_s=STEP_S)
        assert there(), f"ended before {step!r}: {self.controller.outcomes(command_id)} {self.runs(command_id)}"

    async def ended(self, command_id: str) -> agent_pb2.CommandOutcome:
        """Wait for the command's outcome."""
        await self.controller.until(lambda: self.controller.outcomes(command_id), timeout_s=COMMAND_S)
        return self.controller.outcomes(command_id)[0]

    def runs(self, command_id: str) -> list[common_pb2.WorkloadRun]:
        """Return the runs that were reported of a command."""
        return self.controller.runs(command_id)

    async def returns(self, do: Callable[[], Awaitable[Any]]) -> None:
        """Do what makes the agent go, and wait until one has joined again."""
        sessions = len(self.controller.hellos)
        await do()
        await self.joined_after(sessions)

    async def joined_after(self, sessions: int) -> None:
        """Wait until an agent has joined after that many have."""
        await self.controller.until(lambda: len(self.controller.hellos) > sessions, timeout_s=BOOT_S)

    async def assert_nothing_lost(self) -> None:
        """Let a new session acknowledge what waits: it is told again as it was told first."""
        self.controller.acknowledges = True

        async def hang_up() -> None:
            self.controller.hang_up()

        await self.returns(hang_up)
        await self.controller.until(
            lambda: self.controller.heartbeats and self.controller.heartbeats[-1].spooled_reports == 0
        )
        first = self.controller.reports
        for report in self.controller.tellings:
            assert report == first[report.report_id]

    async def assert_clean(self) -> None:
        """The host is as it was before anything ran, and the controller holds everything that the agent reported."""
        await self.assert_clean_but()

    async def assert_clean_but(self, *excepted: str) -> None:
        """The same, apart from these parts of the snapshot."""
        await self.controller.until(
            lambda: self.controller.heartbeats and self.controller.heartbeats[-1].spooled_reports == 0
        )
        found = await self.hands.ask("snapshot")
        changed = {name for name, value in found.items() if value != self.clean[name] and name not in excepted}
        assert {name: found[name] for name in changed} == {name: self.clean[name] for name in changed}

    def monitor(self, command: str, **arguments: Any) -> None:
        """Have QEMU carry out a command."""
        number = vm_status(self.directory).delivery.boots[-1].number
        with short_path(self.directory, qmp_socket(number)) as path, socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(_ANSWER_S)
            monitor.connect(str(path))
            with monitor.makefile("rw") as lines:
                lines.readline()
                for each in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                    lines.write(json.dumps(each) + "\n")
                    lines.flush()
                    while "return" not in (answer := json.loads(lines.readline())):
                        assert "event" in answer, answer


@asynccontextmanager
async def faulty_guest(
    directory: Path,
    version: str,
    *,
    seed: Mapping[str, bytes],
    more_qemu: tuple[str, ...] = (),
    # An emulated processor has better to do than ten of them a second.
    heartbeat_s: float = 0.5,
) -> AsyncIterator[FaultyGuest]:
    """Boot an x86_64 guest that has the workloads' programs; stop it afterwards."""
    cache = Cache.from_environment()
    prepared = Prepared(
        toolset=prepare_toolset(cache),
        images={"x86_64": prepare_guest(cache, "x86_64", workloads=True)},
        kernels={"x86_64": KernelStore(cache).resolve(DebianKernel(version=version), "x86_64")},
        accelerators={"x86_64": "tcg"},
    )
    hands = {
        "app/sitecustomize.py": _SITECUSTOMIZE,
        "guest_hands.py": inspect.getsource(guest_hands).encode(),
    }
    authority = Authority()
    enrollment, controller = Enrollment(authority), Controller()
    controller.heartbeat_interval_s = heartbeat_s
    async with serving_tls(controller, enrollment) as (agent_port, enroll_port):
        connection = Connection(
            agent_port=agent_port, enroll_port=enroll_port, join_token=authority.token(), channel="serial"
        )
        guest = Guest(name="canary", architecture="x86_64", memory_mib=1536)
        vm = create_guest(cache, directory, guest, prepared, connection, more_seed={**hands, **seed})
        definition = load_definition(vm)
        qemu = replace(definition.qemu, arguments=(*definition.qemu.arguments, *_PORT, *more_qemu))
        save_definition(vm, replace(definition, qemu=qemu))
        try:
            await asyncio.to_thread(switch_on, [vm])
            await controller.until(lambda: controller.names, timeout_s=BOOT_S)
            ours = Hands(vm)
            clean = await ours.ask("snapshot")
            yield FaultyGuest(controller=controller, hands=ours, directory=vm, clean=clean)
            ours.hang_up()
        finally:
            await asyncio.to_thread(stop_vm, vm)


def tarball(files: Mapping[str, str]) -> bytes:
    """Return a tar archive of these files below one directory."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"linux/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return archive.getvalue()
