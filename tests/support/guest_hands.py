"""Runs inside a guest beside the agent, and looks and breaks things there as a test says over a port of its own.

A request is a line of JSON: [verb, arguments...]; the answer is one as well: {"found": ...} or {"error": ...}.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PORT = "org.kernroll.test"
STATE = Path("/var/lib/kernroll")
FILLER = STATE / "test-filler"
_CGROUPS = Path("/sys/fs/cgroup")
_PAUSE_S = 0.02
# A clean-up may take a tenth of a second.
_GLANCE_S = 0.005
_PATIENCE_S = 100.0
# linux/reboot.h
_RB_AUTOBOOT = 0x01234567
_MIB = 1 << 20


def main() -> None:
    """Serve for as long as the guest is up."""
    # The kernel must not take the one who tells what it did.
    Path("/proc/self/oom_score_adj").write_text("-1000")
    with port_device().open("r+b", buffering=0) as port:
        while True:
            line = port.readline()
            if not line:
                # Nobody has connected yet.
                time.sleep(_PAUSE_S)
                continue
            verb, *arguments = json.loads(line)
            try:
                answer = {"found": VERBS[verb](*arguments)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            port.write(json.dumps(answer).encode() + b"\n")


def port_device() -> Path:
    """Return the device of the test's port."""
    names = Path("/sys/class/virtio-ports").glob("*/name")
    return next(Path("/dev") / each.parent.name for each in names if each.read_text().strip() == PORT)


def snapshot() -> dict[str, Any]:
    """Return everything that a workload may change on a host, each as sorted lines."""
    return {
        "swaps": Path("/proc/swaps").read_text().splitlines()[1:],
        "modules": sorted(line.split()[0] for line in Path("/proc/modules").read_text().splitlines()),
        "mounts": Path("/proc/self/mounts").read_text().splitlines(),
        "cgroups": sorted(str(each) for each in _CGROUPS.rglob("*") if each.is_dir()),
        "disks": sorted(each.name for each in Path("/sys/block").iterdir()),
        "loops": [each.read_text().strip() for each in Path("/sys/block").glob("loop*/loop/backing_file")],
        "zswap": [f"{each.name} {each.read_text()}" for each in Path("/sys/module/zswap/parameters").glob("*")],
        "scratch": sorted(str(each) for each in (STATE / "scratch").rglob("*")),
        "leftovers": json.loads(text) if (text := _text(STATE / "leftovers.json")) else [],
        "processes": sorted(_processes()),
    }


def _processes() -> list[str]:
    """Return the programs that run, without the kernel's own threads, the agent and this one."""
    found = []
    for entry in Path("/proc").iterdir():
        words = _words(entry) if entry.name.isdigit() and int(entry.name) != os.getpid() else []
        if words and "agent.main" not in words:
            found.append(" ".join(words[:3]))
    # The first process pauses between two agents.
    return [each for each in found if not each.endswith("sleep 1")]


def _words(entry: Path) -> list[str]:
    return _text(entry / "cmdline").replace("\0", " ").split()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _agent() -> int:
    return min(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and {"agent.main", "serve"} <= set(_words(entry))
    )


def kill_agent() -> int:
    """Kill the agent with no chance to say anything."""
    pid = _agent()
    os.kill(pid, signal.SIGKILL)
    return pid


def kill_agent_cleaning_up() -> bool:
    """Kill the agent as soon as its journal says that it takes a command's things down; False when it came too late."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        kinds = [json.loads(line)["kind"] for line in kept("commands.journal") if line.endswith("}")]
        since = kinds[len(kinds) - 1 - kinds[::-1].index("accepted") :] if "accepted" in kinds else []
        if "finished" in since:
            return False
        if "cleaning_up" in since:
            kill_agent()
            return True
        time.sleep(_GLANCE_S)
    raise TimeoutError(f"no command of this agent was cleaned up within {_PATIENCE_S:g} s")


def kept(name: str) -> list[str]:
    """Return the lines of a file in the agent's state directory, or the names in a directory there."""
    path = STATE / name
    return sorted(os.listdir(path)) if path.is_dir() else _text(path).splitlines()


def fill_disk() -> int:
    """Take all room that the disk has, what is reserved for root included; return how much that was."""
    descriptor = os.open(FILLER, os.O_WRONLY | os.O_CREAT, 0o600)
    size, step = 0, 256 * _MIB
    while step >= 4096:
        try:
            os.posix_fallocate(descriptor, size, step)
            size += step
        except OSError:
            step //= 2
    os.close(descriptor)
    return size


def free_disk() -> None:
    """Give the room back."""
    FILLER.unlink()


def starve(bytes_left: int) -> str:
    """Leave the workload's cgroup this little memory, and no swap; return its name."""
    group = next(each for each in _CGROUPS.iterdir() if each.name.startswith("kernroll"))
    (group / "memory.swap.max").write_text("0")
    (group / "memory.max").write_text(str(bytes_left))
    return group.name


def shell(command: str) -> list[Any]:
    """Run a command; return its status and what it printed."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    return [done.returncode, (done.stdout + done.stderr).strip()]


def reset() -> None:
    """Restart the machine at once: nothing is written back, nobody is told."""
    ctypes.CDLL(None).reboot(_RB_AUTOBOOT)


def disk(serial: str) -> str:
    """Return the device of the NVMe disk with this serial number."""
    found = next(each for each in Path("/sys/class/nvme").iterdir() if _text(each / "serial").strip() == serial)
    return f"/dev/{found.name}n1"


_VERBS = (snapshot, kill_agent, kill_agent_cleaning_up, kept, fill_disk, free_disk, disk, starve, shell, reset)
VERBS: dict[str, Callable[..., Any]] = {each.__name__: each for each in _VERBS}


if __name__ == "__main__":
    sys.exit(main())
