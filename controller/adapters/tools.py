"""Runs the command line tools that the adapters build on: each has a deadline, each failure becomes one sentence."""

import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from controller.domain.errors import Permanent

# Which Debian package brings a tool, for the message when it is missing. deploy/debian-packages.txt lists them all.
PACKAGES = {
    "cpio": "cpio",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "lz4": "lz4",
    "mke2fs": "e2fsprogs",
    "modprobe": "kmod",
    "zstd": "zstd",
}

_FULL = ("No space left on device", "Could not allocate block", "Disk quota exceeded")


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
) -> bytes:
    """Run a tool to its end and return what it printed.

    Raises Permanent when it is missing, fails, or takes longer than `timeout_s` seconds; the text starts with `what`.
    """
    command = [os.fspath(argument) for argument in arguments]
    full_environment = tool_environment(environment)
    try:
        finished = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=full_environment,
            cwd=directory,
        )
    except FileNotFoundError as error:
        raise missing_tool(command[0], what) from error
    except subprocess.TimeoutExpired as error:
        raise Permanent(f"{what}: {command[0]} took longer than {timeout_s:.0f} s and was ended.") from error
    if finished.returncode != 0:
        raise tool_failure(command[0], what, finished.stderr or finished.stdout)
    return finished.stdout


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
    return Permanent(f"{what}: {Path(name).name} failed: {reason}")


def is_full(error: OSError) -> bool:
    """Tell whether an operating system error means that there is no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
