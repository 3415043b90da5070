"""kernroll-boot, as the agent has to do with it: what it has written down of this host, and what it is asked.

It is a program of its own, and may be of another version. It changes what boots, which the agent's sandbox forbids: so
a socket of the service manager's starts it outside of that, and what it says is passed on as it is.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

# As agent.boot.trial.status writes it, and as deploy/systemd/kernroll-boot.socket listens.
STATUS: Final = Path("/var/lib/kernroll-boot/status.json")
SOCKET: Final = Path("/run/kernroll-boot.sock")
_MOST_BYTES: Final = 256 << 10
# Not one of the program's own words: nobody has heard from it, and it may be asked in another way.
_UNANSWERED: Final = "unanswered"


class BootProgram:
    """This host's kernroll-boot."""

    def __init__(self, *, status: Path = STATUS, socket: Path = SOCKET) -> None:
        self._status = status
        self._socket = socket

    def status(self) -> str:
        """Return the document it has written down; empty where there is none, and where it cannot be one."""
        try:
            with self._status.open("rb") as file:
                found = file.read(_MOST_BYTES + 1)
            return found.decode() if len(found) <= _MOST_BYTES else ""
        except (OSError, ValueError):
            return ""

    @property
    def takes_requests(self) -> bool:
        """Return whether somebody listens for requests."""
        return self._socket.is_socket()

    async def ask(self, arguments: Sequence[str], timeout_s: float) -> str:
        """Run it with these arguments and return the document that it prints, or one that says why there is none.

        What was asked may be done all the same when no answer has come in time; asked again, it is not done twice.
        """
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._answer(json.dumps({"arguments": list(arguments)}).encode() + b"\n")
        except TimeoutError:
            return unanswered(f"kernroll-boot has not answered within {timeout_s:g} s; ask again")
        except OSError as error:
            return unanswered(f"kernroll-boot cannot be asked: {error.strerror or error}; is kernroll-boot.socket up?")
        if len(found) > _MOST_BYTES:
            return unanswered(f"kernroll-boot says more than {_MOST_BYTES} bytes")
        try:
            text = found.decode()
        except ValueError:
            text = ""
        return text.strip() or unanswered("kernroll-boot ended without an answer: see `journalctl -t kernroll-boot`")

    async def _answer(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        found = b""
        try:
            # One that ends before it has read what was asked breaks the connection.
            with suppress(ConnectionError):
                writer.write(request)
                await writer.drain()
                while len(found) <= _MOST_BYTES and (block := await reader.read(_MOST_BYTES)):
                    found += block
        finally:
            writer.close()
        return found


def unanswered(why: str) -> str:
    """Return the document that says why there is no other."""
    return json.dumps({"error": why, "code": _UNANSWERED})
