"""A command that must take down what it set up is asked to end, and waited for, when we are to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from finished_command import finished
from patience import PATIENCE_S

# Says that it is there, waits for a request to end, and takes its time for it.
CHILD = """
import pathlib, signal, sys, time
# Blocked and waited for: a request that comes just before the wait is not missed.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("there", flush=True)
pathlib.Path(sys.argv[1] + ".there").touch()
signal.sigwait({signal.SIGTERM})
time.sleep(0.3)
pathlib.Path(sys.argv[1]).write_text("taken down")
sys.exit(130)
"""
PARENT = f"""
import signal, sys
# Who runs the tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv[1])
from finished_command import finished
finished([sys.executable, "-c", sys.argv[2], sys.argv[3]], timeout_s={PATIENCE_S}, clean_up_timeout_s={PATIENCE_S})
"""
SUPPORT = Path(__file__).resolve().parents[1] / "support"


def test_what_a_command_says_and_how_it_ends() -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert finished([sys.executable, "-c", script], timeout_s=PATIENCE_S, clean_up_timeout_s=PATIENCE_S) == (
        3,
        "out\n",
        "err\n",
    )


def test_a_command_that_takes_too_long_takes_down_what_it_set_up(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        finished([sys.executable, "-c", CHILD, str(tmp_path / "x")], timeout_s=3, clean_up_timeout_s=PATIENCE_S)
    assert (tmp_path / "x").read_text() == "taken down"


def test_an_interrupt_ends_it_in_order_and_us_after_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(SUPPORT), CHILD, str(tmp_path / "x")]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while not (tmp_path / "x.there").exists():
            assert parent.poll() is None, "it ended by itself"
            os.sched_yield()
        # As a terminal does it: the whole group of the parent, which the child is no part of.
        os.killpg(parent.pid, signal.SIGINT)
        _, complaint = parent.communicate(timeout=PATIENCE_S)
    finally:
        if parent.poll() is None:
            parent.kill()
            parent.communicate()
    assert "it takes its swap down first" in complaint
    assert parent.returncode == -signal.SIGINT
    assert (tmp_path / "x").read_text() == "taken down"
