"""What enrolling puts on a host: one archive of kernroll-boot, the agent, and the wheels that the agent needs.

It is made for an architecture and a Python version, once, in the user's cache.
"""

import compileall
import gzip
import hashlib
import io
import os
import py_compile
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.adapters.local.cache import Cache, Progress, request_key
from controller.adapters.local.wheels import MACHINES, download_wheels, install_wheels, wheel_requirements
from controller.adapters.plays.places import code_directory
from controller.domain.errors import InvalidInput

INSTALLED_IN: Final = "/opt/kernroll"
_PYTHON: Final = re.compile(r"3\.(1[1-9]|[2-9][0-9])")
LAUNCHER: Final = f"""#!/usr/bin/python3 -I
import os
import sys

sys.path.insert(0, "{INSTALLED_IN}/lib")
# What it starts, its own programs, looks there too.
os.environ["PYTHONPATH"] = "{INSTALLED_IN}/lib"

from agent.main import main

sys.exit(main())
"""
# It must work without the agent and before it, wherever it lies: so it has its own copy of its code.
_BOOT_LAUNCHER: Final = """#!/usr/bin/python3 -I
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lib"))

from agent.boot.main import main

sys.exit(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Kernroll-boot and the agent as one archive."""

    path: Path
    sha256: str
    # Whether its bytecode is in it; otherwise the host makes it.
    compiled: bool


def write_boot_program(directory: Path) -> None:
    """Write kernroll-boot as a folder that runs wherever it lies: bin/kernroll-boot, and lib/ with its code alone."""
    for path in (code_directory() / "agent/__init__.py", *_sources("agent/boot")):
        target = directory / "lib" / path.relative_to(code_directory())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (directory / "bin").mkdir()
    program = directory / "bin" / "kernroll-boot"
    program.write_text(_BOOT_LAUNCHER, encoding="utf-8")
    program.chmod(0o755)


def agent_bundle(cache: Cache, architecture: str, python: str, progress: Progress) -> Bundle:
    """Return the agent for hosts of an architecture ("x86_64", "arm64") and a Python version ("3.11").

    Raises InvalidInput for others, Temporary when the package index cannot be reached.
    """
    if architecture not in MACHINES:
        raise InvalidInput(f"the agent is made for {' and '.join(MACHINES)}, and the host is {architecture}")
    if not _PYTHON.fullmatch(python):
        raise InvalidInput(f"the agent needs Python 3.11 or newer, and the host has {python}")
    sources = hashlib.sha256()
    for path in (*_sources("agent"), *_sources("protos")):
        sources.update(f"{path.relative_to(code_directory())}\0".encode() + path.read_bytes())
    compiled = python == f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = {
        "sources": sources.hexdigest(),
        "requirements": wheel_requirements(),
        "architecture": architecture,
        "python": python,
        "compiled": compiled,
        "launchers": [LAUNCHER, _BOOT_LAUNCHER],
    }

    def build(directory: Path) -> None:
        tree = directory / "tree"
        library = tree / "lib"
        install_wheels(download_wheels(architecture, python, directory / "wheels", progress), library)
        for path in (*_sources("agent"), *_sources("protos")):
            target = library / path.relative_to(code_directory())
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        write_boot_program(tree / "boot")
        if compiled:
            _compile(library)
            _compile(tree / "boot" / "lib")
        (tree / "bin").mkdir()
        (tree / "bin" / "kernroll-agent").write_text(LAUNCHER, encoding="utf-8")
        content = _archive(tree)
        shutil.rmtree(tree)
        shutil.rmtree(directory / "wheels")
        (directory / "agent.tar.gz").write_bytes(content)
        (directory / "sha256").write_text(hashlib.sha256(content).hexdigest(), encoding="ascii")

    made = cache.publish(f"agent-bundles/{request_key(wanted)}", build)
    return Bundle(path=made / "agent.tar.gz", sha256=(made / "sha256").read_text(encoding="ascii"), compiled=compiled)


def _sources(folder: str) -> Iterator[Path]:
    """Yield the files of a package, in order."""
    for path in sorted((code_directory() / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _compile(library: Path) -> None:
    """Put bytecode beside the sources: where it runs the agent must not write, and a slow host need not compile."""
    compileall.compile_dir(
        library,
        quiet=2,
        stripdir=os.fspath(library),
        prependdir=f"{INSTALLED_IN}/lib",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _archive(tree: Path) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(tree.rglob("*")):
            member = archive.gettarinfo(path, str(path.relative_to(tree)))
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = "root"
            program = path.is_dir() or path.parent.name == "bin"
            member.mode = 0o755 if program else 0o644
            if path.is_file():
                with path.open("rb") as file:
                    archive.addfile(member, file)
            else:
                archive.addfile(member)
    return gzip.compress(raw.getvalue(), compresslevel=6, mtime=0)
