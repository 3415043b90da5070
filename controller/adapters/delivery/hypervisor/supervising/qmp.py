"""Asks a QEMU to quit over its own socket."""

import asyncio
import json
from pathlib import Path

from controller.adapters.delivery.hypervisor.sockets import short_path


async def ask_to_quit(vm_dir: Path, socket: str, *, timeout_s: float) -> bool:
    """Ask QEMU to flush its disks and end now; return whether it took the order within the time."""
    try:
        async with asyncio.timeout(timeout_s):
            with short_path(vm_dir, socket) as path:
                reader, writer = await asyncio.open_unix_connection(path)
            try:
                await reader.readline()
                for command in ("qmp_capabilities", "quit"):
                    writer.write(json.dumps({"execute": command}).encode() + b"\n")
                    await writer.drain()
                    if not await _answered(reader):
                        return False
                return True
            finally:
                writer.close()
    except (OSError, ValueError, TypeError, RecursionError, TimeoutError):
        return False


async def _answered(reader: asyncio.StreamReader) -> bool:
    """Skip events until the command's answer; return whether it succeeded."""
    while line := await reader.readline():
        answer = json.loads(line)
        if "return" in answer or "error" in answer:
            return "return" in answer
    return False
