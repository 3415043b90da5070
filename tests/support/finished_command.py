"""Runs a command that must never be killed half-way: a workload takes its swap down on every path."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def finished(
    command: Sequence[str], *, timeout_s: float, clean_up_timeout_s: float, cwd: Path | None = None
) -> tuple[int, str, str]:
    """Return status, output and complaints of a command; ask it to end, and wait for that, when we are to end.

    It has a session of its own: Ctrl-C reaches it through us, once and as a request, and a second one ends only us.
    """
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except BaseException:
        print("ending the run; it takes its swap down first", file=sys.stderr, flush=True)
        process.terminate()
        process.communicate(timeout=clean_up_timeout_s)
        raise
    return process.returncode, stdout, stderr
