"""Running the system's tools, each with a deadline, none left behind."""

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.numbers import is_number
from agent.to_end import run_to_end

# Where administration tools live even when a minimal environment's PATH leaves them out.
_EXTRA_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
# After a kill, how long a process may stay inside a system call.
_REAP_TIMEOUT_S = 60.0


def find_tool(tool: str) -> str | None:
    """Return the tool's path; None when it is not installed."""
    return shutil.which(tool) or shutil.which(tool, path=_EXTRA_PATH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A tool that ended by itself."""

    status: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """Return what the tool said about its failure, in one line."""
        text = (self.stderr or self.stdout).strip().replace("\n", "; ")
        return text or f"exit status {self.status}"


class ProcessRunner:
    """Runs tools found on PATH."""

    def has(self, tool: str) -> bool:
        """Return whether the tool is installed."""
        return find_tool(tool) is not None

    async def run(self, command: Sequence[str], *, timeout_s: float) -> Completed:
        """Run a tool to its end.

        Raises RigError when it is missing, TimeoutError when it takes longer than `timeout_s`. On timeout and on
        cancellation the process is killed and awaited before this returns, so that it cannot act later.
        """
        executable = find_tool(command[0])
        if executable is None:
            raise RigError(f"{command[0]} is not installed on this host; install the package that carries it")
        process = await asyncio.create_subprocess_exec(
            executable,
            *command[1:],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(timeout_s):
                stdout, stderr = await process.communicate()
        except TimeoutError:
            await run_to_end(_kill(process))
            raise TimeoutError(f"{' '.join(command)} took longer than {timeout_s:g} s") from None
        except asyncio.CancelledError:
            await run_to_end(_kill(process))
            raise
        assert process.returncode is not None, "communicate() waits for the end"
        return Completed(
            status=process.returncode,
            stdout=stdout.decode("utf-8", "replace"),
            stderr=stderr.decode("utf-8", "replace"),
        )

    async def wait_until_gone(self, command: Sequence[str], *, timeout_s: float, proc: Path = Path("/proc")) -> None:
        """Wait until no process runs this command: a killed agent's child may still be inside the kernel.

        Options between the tool and its last words do not matter. Raises TimeoutError.
        """
        wanted = tuple(os.fsencode(word) for word in command)
        async with asyncio.timeout(timeout_s):
            # The kernel announces no end of a process that is not a child.
            while await asyncio.to_thread(_runs, wanted, proc):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_REAP_TIMEOUT_S):
            await process.wait()


def _runs(wanted: tuple[bytes, ...], proc: Path) -> bool:
    for entry in proc.iterdir():
        if not is_number(entry.name):
            continue
        try:
            words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue
        # argv[0] may be a full path.
        if len(words) < len(wanted) or words[0].rsplit(b"/", 1)[-1] != wanted[0]:
            continue
        if tuple(words[len(words) - len(wanted) + 1 :]) == wanted[1:]:
            return True
    return False
