"""Starts one process of a workload, waits for it and reports what it and its children used.

Run as a script, by path, in a Python of its own: between fork and exec the child leaves the agent's protection behind
(out-of-memory score, no huge pages), enters the workload's cgroups, and asks to be killed when this process is. This
process stays outside the cgroups, so that no limit of the workload reaches it.

    python -I -S launcher.py SETTINGS      SETTINGS is JSON: command, cgroups, oom_score_adj, parent, report_fd

The report has two lines of JSON: the command's process group when it has been started, and how it ended.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Mapping

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_THP_DISABLE = 41
# What a shell answers when a command cannot be run.
_CANNOT_RUN = 127


def main() -> None:
    """Run the command; the report on `report_fd` is one line of JSON."""
    settings = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    _die_with(libc, settings["parent"])
    # Only its own closing ends the report: the command must not hold it open.
    os.set_inheritable(settings["report_fd"], False)
    launcher = os.getpid()
    begun = time.monotonic()
    # Closes by itself when the command is running.
    told, started = os.pipe()
    child = os.fork()
    if child == 0:
        _become(libc, settings, launcher)
    os.close(started)
    os.read(told, 1)
    _tell(settings["report_fd"], {"group": child})
    _, status, usage = os.wait4(child, 0)
    report = {
        # What it used counts for its children too, as far as they were waited for.
        "status": os.waitstatus_to_exitcode(status),
        "elapsed_s": time.monotonic() - begun,
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "peak_kib": usage.ru_maxrss,
    }
    _tell(settings["report_fd"], report)


def _tell(descriptor: int, report: Mapping[str, object]) -> None:
    os.write(descriptor, json.dumps(report).encode() + b"\n")


def _become(libc: ctypes.CDLL, settings: dict[str, object], launcher: int) -> None:
    try:
        # A group of its own: what ends the command politely does not end the one who reports how it ended.
        os.setpgid(0, 0)
        _die_with(libc, launcher)
        for group in settings["cgroups"]:  # type: ignore[attr-defined]  # JSON that the agent wrote
            _write(f"{group}/cgroup.procs", "0")
        _write("/proc/self/oom_score_adj", str(settings["oom_score_adj"]))
        libc.prctl(_PR_SET_THP_DISABLE, 0, 0, 0, 0)
        command: list[str] = settings["command"]  # type: ignore[assignment]  # as above
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{error.filename or settings['command']}: {error.strerror}\n".encode())
    finally:
        os._exit(_CANNOT_RUN)


def _die_with(libc: ctypes.CDLL, parent: int) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It died before the request was in force.
        os._exit(_CANNOT_RUN)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
