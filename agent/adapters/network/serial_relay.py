"""A relay between gRPC and a virtio-serial port: one TCP connection on loopback, one port, bytes in between.

A virtio-serial port has no connections. When this side goes away the controller does not notice, and takes the next
TLS handshake for a damaged part of the old one. So a port that has carried bytes is *flushed* before it is used anew:
more zeros are written than the longest TLS record or HTTP/2 frame is long, which no protocol survives, and the
controller closes its end. The hypervisor then hangs up the port and connects again, and the guest sees both.
"""

import asyncio
import os
import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from agent.adapters.host.host import read_text
from agent.adapters.state.durable import replace_file
from agent.adapters.state.state_files import read_regular, set_aside
from agent.domain.errors import RigError
from agent.domain.tagged import Unreadable

log = structlog.get_logger(__name__)

_CHUNK_BYTES = 65536
# While the other side is away every poll says so at once; waiting on the descriptor would spin.
_AWAY_POLL_S = 0.1
# After so long the device is opened anew.
_AWAY_LIMIT_S = 1.0
# How long a TCP connection is held open for the other side to come.
_CONNECT_TIMEOUT_S = 15.0
# A TLS record carries up to 16 KiB and some; an HTTP/2 frame as much by default.
_FLUSH_BYTES = 40960
_FLUSH_TIMEOUT_S = 5.0


def find_port(name: str, *, sys: Path = Path("/sys"), dev: Path = Path("/dev")) -> Path:
    """Return the device of the virtio-serial port of this name. Raises RigError when the machine has none."""
    names = {}
    for entry in sorted((sys / "class/virtio-ports").glob("vport*")):
        names[read_text(entry / "name")] = dev / entry.name
    if name not in names:
        known = ", ".join(sorted(filter(None, names))) or "none"
        raise RigError(f"this machine has no virtio-serial port named {name!r} (it has {known}); check transport")
    return names[name]


OpenDevice = Callable[[Path], int]


def open_port(device: Path) -> int:
    """Open the device, non-blocking. Raises OSError, EBUSY when somebody else has it open."""
    return os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


class SerialRelay:
    """Bridges the newest TCP connection with the port."""

    def __init__(self, device: Path, *, marker: Path, boot_id: str, open_device: OpenDevice = open_port) -> None:
        self._device = device
        self._open_device = open_device
        self._marker = marker
        self._boot_id = boot_id
        # The bridge of the newest connection; None when there is none.
        self._bridge: asyncio.Task[None] | None = None
        # A predecessor of this boot may have left the other side in the middle of a connection.
        self._used = self._marked()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Listen on loopback and yield the address. Raises RigError when the device cannot be opened."""
        try:
            os.close(self._open_device(self._device))
        except OSError as error:
            raise RigError(f"{self._device} cannot be opened: {error.strerror}; is another agent running?") from error
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await self._end_bridge()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # gRPC opens a new connection when it has given up the old one, so the newest one is right.
        await self._end_bridge()
        self._bridge = asyncio.create_task(self._serve(reader, writer))

    async def _end_bridge(self) -> None:
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.cancel()
            await asyncio.wait({bridge})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S) as limit:
                while not writer.is_closing():
                    async with self._opened() as port:
                        if not await self._ready(port):
                            continue
                        limit.reschedule(None)
                        self._note_use()
                        # Until it is seen to hang up, also when this task is cancelled.
                        self._used = True
                        self._used = not await _bridge(port, reader, writer)
                        return
        except TimeoutError:
            log.info("serial_port_not_connected", device=str(self._device), waited_s=_CONNECT_TIMEOUT_S)
        except OSError as error:
            log.warning("serial_relay_failed", device=str(self._device), error=str(error))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _ready(self, port: "_Port") -> bool:
        """Return whether the other side is there and expects a new connection."""
        if self._used and await port.flushed(_FLUSH_TIMEOUT_S):
            self._used = False
        return await port.connected(_AWAY_LIMIT_S)

    @asynccontextmanager
    async def _opened(self) -> "AsyncIterator[_Port]":
        """Open the device; the kernel allows one opener at a time, and drops what was not read when it is closed."""
        descriptor = self._open_device(self._device)
        try:
            yield _Port(descriptor)
        finally:
            os.close(descriptor)

    def _marked(self) -> bool:
        try:
            return (read_regular(self._marker) or b"").decode("utf-8", "replace").strip() == self._boot_id
        except Unreadable as error:
            # Flushing a port that nobody has used costs a moment.
            set_aside(self._marker, str(error))
            replace_file(self._marker, self._boot_id.encode())
            return True

    def _note_use(self) -> None:
        if not self._marked():
            replace_file(self._marker, self._boot_id.encode())


async def _bridge(port: "_Port", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Carry bytes both ways until one side ends; return whether it was the port that hung up."""
    inward = asyncio.create_task(_carry_in(port, writer))
    outward = asyncio.create_task(_carry_out(port, reader))
    try:
        await asyncio.wait({inward, outward}, return_when=asyncio.FIRST_COMPLETED)
        return inward.done() and inward.exception() is None and inward.result()
    finally:
        inward.cancel()
        outward.cancel()
        await asyncio.wait({inward, outward})
        for task in (inward, outward):
            if not task.cancelled() and task.exception() is not None:
                log.info("serial_relay_side_failed", error=str(task.exception()))


async def _carry_in(port: "_Port", writer: asyncio.StreamWriter) -> bool:
    """Return True when the port hung up, False when the TCP side is gone."""
    while chunk := await port.read():
        writer.write(chunk)
        try:
            await writer.drain()
        except ConnectionError:
            return False
    return True


async def _carry_out(port: "_Port", reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK_BYTES):
            await port.write(chunk)


class _Port:
    """The device, non-blocking."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def read(self) -> bytes:
        """Return bytes; empty when the other side hung up."""
        while True:
            try:
                return os.read(self._descriptor, _CHUNK_BYTES)
            except BlockingIOError:
                await self._wait_for(readable=True)

    async def write(self, content: bytes) -> None:
        """Write all of it, or as much as was taken before the other side hung up."""
        view = memoryview(content)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BrokenPipeError:
                return
            except BlockingIOError:
                if self._hung_up():
                    return
                await self._wait_for(readable=False)

    async def connected(self, timeout_s: float) -> bool:
        """Wait until the other side is there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                # The kernel says that nobody is there, but not when that changes.
                while self._hung_up():  # noqa: ASYNC110
                    await asyncio.sleep(_AWAY_POLL_S)
                return True
        return False

    async def flushed(self, timeout_s: float) -> bool:
        """Make the other side give up its old connection; return whether it hung up."""
        try:
            async with asyncio.timeout(timeout_s):
                drain = asyncio.create_task(self._drain())
                try:
                    await self.write(bytes(_FLUSH_BYTES))
                    await drain
                finally:
                    drain.cancel()
                    await asyncio.wait({drain})
        except TimeoutError:
            log.warning("serial_port_not_flushed", waited_s=timeout_s)
            return False
        return True

    async def _drain(self) -> None:
        while await self.read():
            pass

    def _hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    async def _wait_for(self, *, readable: bool) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        add, remove = (loop.add_reader, loop.remove_reader) if readable else (loop.add_writer, loop.remove_writer)
        add(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            remove(self._descriptor)
