"""What kernroll-boot.socket and kernroll-boot@.service do: a program a connection, which is its stdin and stdout."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from project import ROOT


class BootSocket:
    """One such socket."""

    def __init__(self, command: Sequence[str]) -> None:
        # What answers a connection; may be replaced.
        self.command = command
        self.connections = 0
        # Told to be clear, it lets nobody be answered.
        self.open = asyncio.Event()
        self.open.set()

    async def serve(self, listener: socket.socket) -> None:
        """Answer, each in a task of its own."""
        async with asyncio.TaskGroup() as group:
            while True:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                self.connections += 1
                group.create_task(self._answer(connection))

    async def _answer(self, connection: socket.socket) -> None:
        with connection:
            await self.open.wait()
            connection.setblocking(True)
            process = await asyncio.create_subprocess_exec(*self.command, stdin=connection, stdout=connection, cwd=ROOT)
            await process.wait()


@asynccontextmanager
async def boot_socket(path: Path, command: Sequence[str]) -> AsyncIterator[BootSocket]:
    """Listen there, and answer each connection by the command."""
    made = BootSocket(command)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.setblocking(False)
        listener.bind(str(path))
        listener.listen()
        serving = asyncio.create_task(made.serve(listener))
        try:
            yield made
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
