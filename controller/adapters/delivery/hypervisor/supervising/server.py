"""The supervisor's side of the local API."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

from controller.adapters.delivery.hypervisor import protocol
from controller.adapters.delivery.hypervisor.definition import read_kernel
from controller.adapters.delivery.hypervisor.fields import Fields
from controller.adapters.delivery.hypervisor.sockets import short_path
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import InvalidInput, KernrollError
from controller.domain.kernels import Kernel

log = logging.getLogger(__name__)


class Verbs(Protocol):
    """What a supervisor does for its clients. Every verb returns when the change is on disk."""

    def status(self) -> DeliveryStatus: ...
    async def changed(self, after_revision: int, timeout_s: float) -> None: ...
    async def stage(self, command_id: str, kernel: Kernel) -> None: ...
    def arm(self, command_id: str, kernel: str, *, boot_timeout_s: float, probation_timeout_s: float) -> None: ...
    def reboot(self, command_id: str) -> None: ...
    def acknowledge(self, command_id: str) -> None: ...
    def bless(self, command_id: str) -> None: ...
    def revert(self, command_id: str, kernel: str) -> None: ...
    def switch_on(self) -> None: ...
    def switch_off(self) -> None: ...


@contextlib.asynccontextmanager
async def serve(vm_dir: Path, verbs: Verbs) -> AsyncIterator[None]:
    """Answer requests on the VM's socket within the block. The caller holds the VM's lock, so an old socket is dead."""
    open_connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_converse(reader, writer, verbs))
        open_connections.add(task)
        task.add_done_callback(open_connections.discard)

    (vm_dir / protocol.SOCKET_NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(vm_dir, protocol.SOCKET_NAME) as path:
        listener.bind(path)
        (vm_dir / protocol.SOCKET_NAME).chmod(0o600)
    server = await asyncio.start_unix_server(accept, sock=listener, limit=protocol.LINE_MAX_BYTES)
    try:
        yield
    finally:
        server.close()
        for task in open_connections:
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)
        (vm_dir / protocol.SOCKET_NAME).unlink(missing_ok=True)


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, verbs: Verbs) -> None:
    try:
        while line := await reader.readline():
            writer.write(await _answer(line, verbs))
            await writer.drain()
    except (ConnectionError, ValueError) as error:
        # ValueError: a line longer than the limit.
        log.info("a client was cut off: %s", error)
    finally:
        writer.close()


async def _answer(line: bytes, verbs: Verbs) -> bytes:
    try:
        request = protocol.decode_request(line)
        op = request.text("op")
        perform = _OPS.get(op)
        if perform is None:
            raise InvalidInput(f"request.op: unknown operation {op!r}; known are {', '.join(sorted(_OPS))}")
        await perform(request, verbs)
        return protocol.encode_answer(verbs.status())
    except KernrollError as error:
        return protocol.encode_refusal(error)


async def _status(_: Fields, __: Verbs) -> None:
    """Every answer carries the status."""


async def _watch(request: Fields, verbs: Verbs) -> None:
    timeout_s = min(request.number("wait_s"), protocol.WATCH_MAX_S)
    await verbs.changed(request.integer("after_revision", minimum=-1), timeout_s)


async def _stage(request: Fields, verbs: Verbs) -> None:
    await verbs.stage(request.text("command_id"), read_kernel(request.inner("kernel")))


async def _arm(request: Fields, verbs: Verbs) -> None:
    verbs.arm(
        request.text("command_id"),
        request.text("kernel"),
        boot_timeout_s=request.number("boot_timeout_s"),
        probation_timeout_s=request.number("probation_timeout_s"),
    )


async def _reboot(request: Fields, verbs: Verbs) -> None:
    verbs.reboot(request.text("command_id"))


async def _acknowledge(request: Fields, verbs: Verbs) -> None:
    verbs.acknowledge(request.text("command_id"))


async def _bless(request: Fields, verbs: Verbs) -> None:
    verbs.bless(request.text("command_id"))


async def _revert(request: Fields, verbs: Verbs) -> None:
    verbs.revert(request.text("command_id"), request.text("kernel"))


async def _switch_on(_: Fields, verbs: Verbs) -> None:
    verbs.switch_on()


async def _stop(_: Fields, verbs: Verbs) -> None:
    verbs.switch_off()


_OPS: dict[str, Callable[[Fields, Verbs], Awaitable[None]]] = {
    "status": _status,
    "watch": _watch,
    "stage": _stage,
    "arm": _arm,
    "reboot": _reboot,
    "acknowledge": _acknowledge,
    "bless": _bless,
    "revert": _revert,
    "switch_on": _switch_on,
    "stop": _stop,
}
