"""The systemd units are accepted by systemd itself and start commands that exist."""

import re
import shutil
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from controller.cli.controller import serve

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PREFIX = "/opt/kernroll/bin/"
# A program of its own, which needs nothing of what lies in PREFIX.
BOOT = "/usr/local/sbin/kernroll-boot"
VERIFY_TIMEOUT_S = 60


def body(unit: Path) -> str:
    """Return the unit with its continued lines joined."""
    return re.sub(r"\\\n\s*", "", unit.read_text(encoding="utf-8"))


def commands(unit: Path) -> list[str]:
    """Return what the unit executes."""
    return re.findall(r"^ExecStart=(.+)$", body(unit), re.MULTILINE)


def test_there_are_units() -> None:
    assert len(UNITS) == 6


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_starts_what_the_distribution_installs(unit: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    (command,) = commands(unit)
    program, *arguments = command.split()
    if program == BOOT:
        assert Path(program).name in scripts
        return
    assert program.startswith(PREFIX)
    if program == f"{PREFIX}python":
        assert arguments[0] == "-m"
        assert find_spec(arguments[1]) is not None
    else:
        assert program.removeprefix(PREFIX) in scripts


def test_the_controller_knows_the_options_it_is_started_with() -> None:
    (unit,) = (unit for unit in UNITS if unit.name == "kernroll-controller.service")
    (command,) = commands(unit)
    known = {option for parameter in serve.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", command)) <= known


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd to ask")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_it(unit: Path, tmp_path: Path) -> None:
    # It also checks that the programs are there, which on this machine they are not.
    text = body(unit)
    for program in {command.split()[0] for command in re.findall(r"^Exec\w+=(.+)$", text, re.MULTILINE)}:
        text = re.sub(rf"(?<==){re.escape(program)}.*", shutil.which("true") or "/bin/true", text)
    copy = tmp_path / unit.name.replace("@", "@example")
    copy.write_text(text, encoding="utf-8")
    verify = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=VERIFY_TIMEOUT_S, check=False)
    complaints = [line for line in done.stderr.splitlines() if copy.name in line]
    assert done.returncode == 0, done.stderr
    assert not complaints
