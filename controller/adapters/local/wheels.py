"""The Python packages that the agent needs, for machines of other architectures and other Pythons than this one's."""

import importlib.metadata
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from controller.adapters.local.cache import Progress
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent, Temporary

# By the project's word for an architecture, that of wheels.
MACHINES: Final = {"x86_64": "x86_64", "arm64": "aarch64"}
_LEVELS: Final = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_PIP_TIMEOUT_S: Final = 600.0
_MOST_WHEEL_BYTES: Final = 512 << 20


def wheel_requirements() -> list[str]:
    """Return what the agent needs from the package index, as the project's own metadata states it."""
    try:
        requirements = importlib.metadata.requires("kernroll") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    found = []
    for requirement in requirements:
        name, _, marker = requirement.partition(";")
        if re.search(r"extra == ['\"](agent|enroll)['\"]", marker):
            found.append(name.strip())
    if not found:
        raise Permanent(
            "The installed kernroll does not state the agent's requirements. Install it again (`make setup`)."
        )
    return sorted(found)


def download_wheels(architecture: str, python: str, directory: Path, progress: Progress) -> list[Path]:
    """Fetch the agent's wheels for a Python such as "3.13". Raises Temporary when the index cannot be reached."""
    progress(f"Python packages for {architecture}", 0, 0)
    command: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--dest", directory, "--python-version", python, "--implementation", "cp"]
    command += ["--only-binary=:all:"]
    for level in _LEVELS:
        command += ["--platform", f"{level}_{MACHINES[architecture]}"]
    try:
        run_tool(
            [*command, *wheel_requirements()], timeout_s=_PIP_TIMEOUT_S, what="Fetching the agent's Python packages"
        )
    except Permanent as error:
        if "disk is full" in str(error):
            raise
        raise Temporary(f"{error} Check the network and pip's index settings, then try again.") from error
    return sorted(directory.glob("*.whl"))


def install_wheels(wheels: Sequence[Path], library: Path) -> None:
    """Unpack wheels side by side; what wheels put elsewhere (scripts, headers) is not needed by the agent."""
    library.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as content:
            members = [name for name in content.namelist() if ".data/" not in name]
            size_bytes = sum(content.getinfo(name).file_size for name in members)
            if size_bytes > _MOST_WHEEL_BYTES:
                raise Permanent(
                    f"{wheel.name} holds {size_bytes >> 20} MiB, more than a Python package of the agent's has"
                )
            content.extractall(library, members)
