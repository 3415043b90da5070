"""QEMU's monitor: one question at a time, each on a connection of its own."""

import json
import os
import socket
from pathlib import Path
from typing import Any

from controller.domain.errors import Permanent, Temporary

_TIMEOUT_S = 30.0
_MOST_BYTES = 1 << 20


class Monitor:
    """The monitor at a socket. Errors are Temporary when QEMU does not answer and Permanent when it refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, command: str, **arguments: object) -> Any:
        """Have a command done and return what it returns."""
        try:
            # Socket paths are short: by a descriptor of its folder it is, wherever that lies.
            folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.settimeout(_TIMEOUT_S)
                    connection.connect(f"/proc/self/fd/{folder}/{self._path.name}")
                    with connection.makefile("rwb") as stream:
                        stream.readline(_MOST_BYTES)
                        for question in (
                            {"execute": "qmp_capabilities"},
                            {"execute": command, "arguments": arguments},
                        ):
                            stream.write(json.dumps(question).encode() + b"\n")
                            stream.flush()
                            answer = self._answer(stream.readline)
                        return answer
            finally:
                os.close(folder)
        except OSError as error:
            raise Temporary(f"QEMU's monitor {self._path} does not answer: {error}") from error

    def _answer(self, readline: Any) -> Any:
        while line := readline(_MOST_BYTES):
            message = json.loads(line)
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise Permanent(f"QEMU refuses: {message['error'].get('desc', message['error'])}")
        raise Temporary(f"QEMU's monitor {self._path} has closed the connection")
