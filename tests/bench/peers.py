"""What is measured as a user would have it: an agent's own environment, and Debian's node exporter."""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "bench"
EXPORTER = "prometheus-node-exporter"
_EXTRAS = ".[agent,enroll]"
_FETCH_TIMEOUT_S = 900.0


def agent_python() -> str:
    """Return the interpreter of an environment as docs/install.md makes it on a host; made when it is not there.

    A developer's environment holds more, and structlog loads what it finds of it.
    """
    folder = FOLDER / "host"
    python, stamp = folder / "bin" / "python", folder / "made-from"
    made_from = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != made_from:
        print(f"making an environment as a host has it: {folder.relative_to(ROOT)}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        pip = (str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-q")
        _call((*pip, "--editable", _EXTRAS), ROOT, f"{_EXTRAS} cannot be installed; does `make setup` run?")
        stamp.write_text(made_from)
    return str(python)


def exporter_binary() -> str:
    """Return Debian's node exporter: the installed one, else its package unpacked under build/, never a service."""
    installed = shutil.which(EXPORTER)
    if installed:
        return installed
    binary = FOLDER / EXPORTER / "usr" / "bin" / EXPORTER
    if not binary.exists():
        print(
            f"{EXPORTER} is not installed: unpacking Debian's package into {FOLDER.relative_to(ROOT)}", file=sys.stderr
        )
        FOLDER.mkdir(parents=True, exist_ok=True)
        advice = f"{EXPORTER} cannot be had; run apt-get update and try again, or install it yourself."
        _call(("apt-get", "-q", "download", EXPORTER), FOLDER, advice)
        package = max(FOLDER.glob(f"{EXPORTER}_*.deb"), key=lambda path: path.stat().st_mtime)
        _call(("dpkg-deb", "-x", package.name, EXPORTER), FOLDER, advice)
    return str(binary)


def _call(command: tuple[str, ...], folder: Path, advice: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        ended = subprocess.run(
            command, cwd=folder, env=environment, check=False, capture_output=True, timeout=_FETCH_TIMEOUT_S, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"{error}\n{advice}") from error
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}\n{ended.stdout[-1000:]}{ended.stderr[-1000:]}\n{advice}")
