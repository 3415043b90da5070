"""The kernel store beside the event loop: whatever a call waits for, the process ends when it is told to."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

from controller.adapters.kernels import KernelStore
from controller.adapters.kernels.asynchronous import StoredKernels
from controller.adapters.local.cache import Cache
from controller.domain.errors import InvalidInput, NotFound
from controller.domain.kernels import ImageKernel

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = PATIENCE_S
# Serves until it is told to end, as the controller does, with one call under way and a tool in it.
PROGRAM = """
import asyncio, signal, sys
from controller.adapters.kernels.asynchronous import StoredKernels
from controller.adapters.local.tools import run_tool

class Waiting:
    def resolve(self, source, architecture):
        run_tool(["sh", "-c", "echo $$ > {file}; sleep 1000"], timeout_s=1000, what="Waiting")

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    call = asyncio.create_task(StoredKernels(Waiting()).resolve(None, "arm64"))
    await stop.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)

asyncio.run(main())
"""


def runs(file: Path) -> bool:
    """Tell whether the process that a file names runs; one that nobody has reaped yet does not."""
    command = Path(f"/proc/{file.read_text().strip()}/cmdline")
    try:
        return command.read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_call_that_waits_does_not_keep_the_process(tmp_path: Path) -> None:
    file = tmp_path / "group"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM.format(file=file), cwd=ROOT)
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not (file.exists() and file.read_text().strip()):
                assert process.returncode is None
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            # What the call had started has ended too.
            for _ in range(1000):
                if not runs(file):
                    break
                await asyncio.sleep(0.02)
            assert not runs(file)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_answers_and_errors_come_through(tmp_path: Path) -> None:
    kernels = StoredKernels(KernelStore(Cache(root=tmp_path / "cache")))
    with pytest.raises(NotFound):
        await kernels.load("0" * 64)
    os.mkfifo(tmp_path / "image")
    with pytest.raises(InvalidInput, match="is a FIFO"):
        await kernels.resolve(ImageKernel(path=str(tmp_path / "image")), "arm64")
    (tmp_path / "real").write_bytes(bytes(0x38) + b"ARM\x64" + bytes(64) + b"Linux version 7.1 (b@h)")
    kernel = await kernels.resolve(ImageKernel(path=str(tmp_path / "real")), "arm64")
    assert await kernels.load(kernel.digest) == kernel
