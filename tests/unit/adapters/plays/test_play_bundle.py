"""kernroll-boot as a folder of its own, and for whom there is an agent."""

import subprocess
import sys
from pathlib import Path

import pytest

from controller.adapters.local.cache import Cache, no_progress
from controller.adapters.plays.bundle import INSTALLED_IN, LAUNCHER, agent_bundle, write_boot_program
from controller.domain.errors import InvalidInput


def test_kernroll_boot_runs_wherever_it_lies_by_its_own_code_alone(tmp_path: Path) -> None:
    write_boot_program(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "other")
    (tmp_path / "kernroll-boot").symlink_to(tmp_path / "other" / "bin" / "kernroll-boot")
    # As on a host, where no package of ours is installed.
    command = ["/usr/bin/python3", "-I", "-S", tmp_path / "kernroll-boot", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env={}).stdout
    assert told.startswith("usage: kernroll-boot")
    assert {path.name for path in (tmp_path / "other" / "lib" / "agent").iterdir()} >= {"__init__.py", "boot"}


@pytest.mark.parametrize(
    ("architecture", "python", "sentence"),
    [
        ("riscv64", "3.11", "the agent is made for x86_64 and arm64, and the host is riscv64"),
        ("x86_64", "3.9", "the agent needs Python 3.11 or newer, and the host has 3.9"),
        ("x86_64", "3.11; rm", "the agent needs Python 3.11 or newer"),
    ],
)
def test_there_is_no_agent_for_every_host(tmp_path: Path, architecture: str, python: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        agent_bundle(Cache(root=tmp_path), architecture, python, no_progress)


def test_what_the_agent_starts_finds_the_bundle_too(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "agent"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    starts = "subprocess.call([sys.executable, '-c', 'import agent; print(agent)'])"
    (package / "main.py").write_text(f"import subprocess, sys\ndef main(): return {starts}\n")
    launcher = tmp_path / "kernroll-agent"
    launcher.write_text(LAUNCHER.replace(INSTALLED_IN, str(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-I", launcher], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path, env={}
    )
    assert done.returncode == 0, done.stderr
    assert str(package) in done.stdout
