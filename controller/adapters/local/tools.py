"""Runs the command line tools that the adapters build on: with a deadline and limits, each failure as one sentence."""

import atexit
import contextlib
import errno
import os
import resource
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from controller.domain.errors import Permanent
from controller.domain.printable import printable

# Which Debian package brings a tool, for the message when it is missing. deploy/debian-packages.txt lists those that
# everybody needs.
PACKAGES = {
    "cpio": "cpio",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "ipmitool": "ipmitool",
    "lz4": "lz4",
    "mke2fs": "e2fsprogs",
    "modprobe": "kmod",
    "rpm": "rpm",
    "rpm2archive": "rpm2cpio",
    "rpmkeys": "rpm",
    "zstd": "zstd",
}
# Package lists of a whole archive are some MiB.
MOST_PRINTED_BYTES: Final = 256 << 20
_MOST_SAID_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 16
# Process groups that end when we do, also those of threads that nobody waits for.
_RUNNING: Final[set[int]] = set()
_FULL = ("No space left on device", "Could not allocate block", "Disk quota exceeded")


class OutOfTime(Exception):
    """A tool has not ended by its deadline."""


class Tool:
    """A tool that runs. What it prints is taken piece by piece; when the block is left, it and its children are gone.

    Raises FileNotFoundError when there is no such program.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        environment: Mapping[str, str],
        stdin: bytes | Path | None = None,
        directory: Path | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        self._give_up = time.monotonic() + timeout_s
        # What it said on standard error, cut at its middle.
        self.said = b""
        with contextlib.ExitStack() as stack:
            given = subprocess.DEVNULL if stdin is None else stack.enter_context(_input(stdin))
            self._process = subprocess.Popen(
                command,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=directory,
                # Its children must end with it.
                process_group=0,
            )
        _RUNNING.add(self._process.pid)
        self._end = os.pidfd_open(self._process.pid)
        if memory_bytes is not None:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(self._process.pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))

    def __enter__(self) -> "Tool":
        return self

    def __exit__(self, *exception: object) -> None:
        # Before it is reaped, however it has ended: a child of it may still hold on to what it was given.
        _end_group(self._process.pid)
        os.close(self._end)
        with self._process:
            pass

    def pieces(self) -> Iterator[bytes]:
        """Yield what it prints. Raises OutOfTime after its deadline."""
        assert self._process.stdout is not None and self._process.stderr is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            waiting.register(self._process.stderr, selectors.EVENT_READ)
            while waiting.get_map():
                ready = waiting.select(self._left_s())
                for key, _ in ready:
                    piece = os.read(key.fd, _PIECE_BYTES)
                    if not piece:
                        waiting.unregister(key.fileobj)
                    elif key.fileobj is self._process.stdout:
                        yield piece
                    else:
                        self._hear(piece)

    def printed(self, most_bytes: int) -> bytes | None:
        """Return all that it prints, None when that is more than `most_bytes`. Raises OutOfTime."""
        found, length = [], 0
        for piece in self.pieces():
            length += len(piece)
            if length > most_bytes:
                return None
            found.append(piece)
        return b"".join(found)

    def code(self) -> int:
        """Return how it ended: its code, or minus the signal that ended it. Raises OutOfTime."""
        if not select.select([self._end], [], [], self._left_s())[0]:
            raise OutOfTime
        ended = os.waitid(os.P_PIDFD, self._end, os.WEXITED | os.WNOWAIT)
        assert ended is not None, "it has ended"
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _hear(self, piece: bytes) -> None:
        self.said += piece
        if len(self.said) > _MOST_SAID_BYTES:
            half = _MOST_SAID_BYTES // 4
            self.said = self.said[:half] + b"\n" + self.said[-half:]

    def _left_s(self) -> float:
        left_s = self._give_up - time.monotonic()
        if left_s <= 0:
            raise OutOfTime
        return left_s


class ToolContent:
    """What a tool prints, as a file to read from."""

    def __init__(self, tool: Tool) -> None:
        self._pieces = tool.pieces()
        self._piece, self._at = b"", 0
        # Whether the tool has closed it, and whether the rest is not wanted.
        self.ended = self.left = False

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none only at the end."""
        if self._at == len(self._piece):
            self._piece, self._at = next(self._pieces, b""), 0
            self.ended = not self._piece
        found = self._piece[self._at : self._at + size]
        self._at += len(found)
        return found

    def enough(self) -> None:
        """Say that the rest is not wanted."""
        self.left = True


@atexit.register
def _end_all() -> None:
    for leader in tuple(_RUNNING):
        _end_group(leader)


def _end_group(leader: int) -> None:
    """Kill a tool and its children: its number, which is theirs as a group, must not have been given to others."""
    _RUNNING.discard(leader)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def tool_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which tools speak English and are found in the administrator's directories too."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {**os.environ, "LC_ALL": "C", "PATH": f"{path}:/usr/sbin:/sbin", **(extra or {})}


def run_tool(
    arguments: Sequence[str | Path],
    *,
    timeout_s: float,
    what: str,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    directory: Path | None = None,
    most_bytes: int = MOST_PRINTED_BYTES,
) -> bytes:
    """Run a tool to its end and return what it printed.

    Raises Permanent when it is missing, fails, takes longer than `timeout_s` seconds, or prints more than `most_bytes`;
    the text starts with `what`.
    """
    command = [os.fspath(argument) for argument in arguments]
    with running(
        command, timeout_s=timeout_s, what=what, environment=environment, stdin=stdin, directory=directory
    ) as tool:
        printed = tool.printed(most_bytes)
        if printed is None:
            raise Permanent(f"{what}: {command[0]} gave more than {most_bytes >> 20} MiB and was ended.")
        if tool.code() != 0:
            raise tool_failure(command[0], what, tool.said or printed)
    return printed


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    timeout_s: float,
    what: str,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | Path | None = None,
    directory: Path | None = None,
    memory_bytes: int | None = None,
) -> Iterator[Tool]:
    """Run a tool while the block lasts. Raises Permanent when it is missing or takes longer than `timeout_s`."""
    try:
        with Tool(
            command,
            timeout_s=timeout_s,
            environment=tool_environment(environment),
            stdin=stdin,
            directory=directory,
            memory_bytes=memory_bytes,
        ) as tool:
            yield tool
    except FileNotFoundError as error:
        if error.filename != command[0]:
            raise
        raise missing_tool(command[0], what) from error
    except OutOfTime as error:
        raise Permanent(f"{what}: {command[0]} took longer than {timeout_s:.0f} s and was ended.") from error


def missing_tool(name: str, what: str) -> Permanent:
    """Return the error for a tool that is not installed."""
    tool = Path(name).name
    package = PACKAGES.get(tool)
    advice = f"install the Debian package {package}" if package else "check the installation"
    return Permanent(f"{what}: the program {tool} was not found; {advice}.")


def tool_failure(name: str, what: str, output: bytes) -> Permanent:
    """Return the error for a tool that ended with a failure, quoting its most telling line."""
    text = output.decode(errors="replace")
    if any(sign in text for sign in _FULL):
        return Permanent(f"{what}: the disk is full. Free some space, or point KERNROLL_CACHE_DIR at a larger disk.")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # apt marks its errors, and its first one is the cause of the others; everybody else names the cause last.
    marked = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
    reason = marked[0] if marked else lines[-1] if lines else "it gave no reason"
    # It may quote the names and words of what it was given.
    return Permanent(f"{what}: {Path(name).name} failed: {printable(reason)}")


def is_full(error: OSError) -> bool:
    """Tell whether an operating system error means that there is no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def _input(given: bytes | Path) -> Iterator[int]:
    """Yield a descriptor to read from: a pipe would have to be filled while the tool's own are emptied."""
    if isinstance(given, Path):
        with given.open("rb") as opened:
            yield opened.fileno()
        return
    descriptor = os.memfd_create("kernroll-input", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(given)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
