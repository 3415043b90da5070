"""Commands whose output nobody takes, and state directories that may not be written: one sentence and a code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    ("--help",),
    ("--version",),
    ("hosts", "--help"),
    ("hosts", "facts"),
    ("hosts", "facts", "--output", "json"),
    ("spec", "schema"),
    ("completion", "bash"),
    ("controller", "serve", "--help"),
)


def call(tmp_path: Path, redirected: str, *arguments: str) -> tuple[int, str]:
    """Run a command with its output redirected by a shell; return its code and what it says on standard error."""
    command = ("sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-m", "controller", *arguments)
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_full_output_is_told(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, said = call(tmp_path, ">/dev/full", *arguments)
    assert said == (
        "kernroll: the output cannot be written: No space left on device; what was asked for may have been done\n"
    )
    assert code == 1


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_closed_output_is_told_before_anything_is_done(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, said = call(tmp_path, ">&-", *arguments)
    assert said == "kernroll: standard output is closed: nothing was done; send it to a file or to /dev/null\n"
    assert code == 1


@pytest.mark.parametrize("name", ["lock", "client", "authority", "kernroll.db"])
def test_a_state_directory_that_cannot_be_used_names_the_file(tmp_path: Path, name: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    if name in ("lock", "kernroll.db"):
        (state / name).mkdir()
    else:
        (state / name).write_text("in the way")
    addresses = ("--listen", "127.0.0.1:0", "--enroll-listen", "127.0.0.1:0")
    code, said = call(tmp_path, "", "controller", "serve", "--state-dir", str(state), *addresses)
    assert code == 1, said
    assert f"{state / name}" in said
    assert "a bug of ours" not in said
    assert said.startswith("kernroll: ")
