"""Calls a VM's supervisor over its socket."""

import asyncio
import socket
from pathlib import Path
from typing import Any

from controller.adapters.delivery.hypervisor import protocol
from controller.adapters.delivery.hypervisor.sockets import short_path
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import Temporary

CALL_TIMEOUT_S = 10.0


class NoSupervisor(Temporary):
    """Nobody answers on the VM's socket."""


def call(vm_dir: Path, op: str, *, timeout_s: float = CALL_TIMEOUT_S, **fields: Any) -> DeliveryStatus:
    """Ask and wait for the answer; raise NoSupervisor, Temporary when there is no answer in time, or the refusal."""
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with short_path(vm_dir, protocol.SOCKET_NAME) as path:
                connection.connect(path)
        except OSError as error:
            raise _nobody(vm_dir, error) from error
        try:
            connection.sendall(protocol.encode_request(op, **fields))
            while not answer.endswith(b"\n") and (chunk := connection.recv(1 << 16)):
                answer += chunk
        except TimeoutError as error:
            raise _silent(vm_dir, timeout_s) from error
        except OSError as error:
            raise _cut(vm_dir, error) from error
    return protocol.decode_answer(answer, vm_dir.name)


async def call_async(vm_dir: Path, op: str, *, timeout_s: float = CALL_TIMEOUT_S, **fields: Any) -> DeliveryStatus:
    """Do what `call` does without blocking the event loop."""
    try:
        async with asyncio.timeout(timeout_s):
            try:
                with short_path(vm_dir, protocol.SOCKET_NAME) as path:
                    reader, writer = await asyncio.open_unix_connection(path, limit=protocol.LINE_MAX_BYTES)
            except OSError as error:
                raise _nobody(vm_dir, error) from error
            try:
                writer.write(protocol.encode_request(op, **fields))
                await writer.drain()
                answer = await reader.readline()
            except OSError as error:
                raise _cut(vm_dir, error) from error
            finally:
                writer.close()
    except TimeoutError as error:
        raise _silent(vm_dir, timeout_s) from error
    return protocol.decode_answer(answer, vm_dir.name)


def _nobody(vm_dir: Path, error: OSError) -> NoSupervisor:
    return NoSupervisor(f"{vm_dir.name}: no supervisor answers in {vm_dir} ({error})", retry_after_s=2.0)


def _silent(vm_dir: Path, timeout_s: float) -> Temporary:
    return Temporary(f"{vm_dir.name}: the supervisor did not answer within {timeout_s:g} s", retry_after_s=2.0)


def _cut(vm_dir: Path, error: OSError) -> Temporary:
    return Temporary(f"{vm_dir.name}: the supervisor went away in mid-call ({error})", retry_after_s=1.0)
