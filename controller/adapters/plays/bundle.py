"""What enrolling puts on a host: kernroll-boot as one file, and the agent with its wheels as one archive.

The agent's archive is made for an architecture and a Python version, once, in the user's cache.
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
import zipfile
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
# The first moment that a zip archive can hold: the same files make the same archive.
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)
_MAIN: Final = "import sys\n\nfrom agent.boot.main import main\n\nsys.exit(main())\n"
LAUNCHER: Final = f"""#!/usr/bin/python3 -I
import os
import sys

sys.path.insert(0, "{INSTALLED_IN}/lib")
# What it starts, its own programs, looks there too.
os.environ["PYTHONPATH"] = "{INSTALLED_IN}/lib"

from agent.main import main

sys.exit(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The agent as one archive."""

    path: Path
    sha256: str
    # Whether its bytecode is in it; otherwise the host makes it.
    compiled: bool


def boot_program() -> bytes:
    """Return kernroll-boot as a program of one file: a zip archive that Python runs."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        files = {
            "__main__.py": _MAIN.encode(),
            "agent/__init__.py": (code_directory() / "agent/__init__.py").read_bytes(),
        }
        for path in _sources("agent/boot"):
            files[str(path.relative_to(code_directory()))] = path.read_bytes()
        for name, content in sorted(files.items()):
            file.writestr(zipfile.ZipInfo(name, _MOMENT), content, zipfile.ZIP_DEFLATED)
    return b"#!/usr/bin/python3 -I\n" + archive.getvalue()


def boot_program_name(content: bytes) -> str:
    """Return the name under which a program is kept."""
    return hashlib.sha256(content).hexdigest()[:16]


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
        "launcher": LAUNCHER,
    }

    def build(directory: Path) -> None:
        tree = directory / "tree"
        library = tree / "lib"
        install_wheels(download_wheels(architecture, python, directory / "wheels", progress), library)
        for path in (*_sources("agent"), *_sources("protos")):
            target = library / path.relative_to(code_directory())
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        if compiled:
            _compile(library)
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
