"""Rpm package files: what rpm says of one, whether it is whole, and unpacking it."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.adapters.kernels.unpacking import extract
from controller.adapters.local.cache import Progress
from controller.adapters.local.named_files import shown
from controller.adapters.local.tools import Tool, ToolContent, running, tool_failure
from controller.adapters.local.trees import MOST_FILES
from controller.domain.bounds import digits
from controller.domain.errors import InvalidInput, Permanent
from controller.domain.printable import printable

_TIMEOUT_S: Final = 300.0
# Of a header: some 10 000 paths of modules are one MiB.
_MOST_HEADER_BYTES: Final = 32 << 20
# As dpkg's: xz and zstd of packages that people build ask for some tens of megabytes.
_MEMORY_BYTES: Final = 2 << 30
_LEAD: Final = b"\xed\xab\xee\xdb"
_FORMAT: Final = (
    r"name %{NAME}\nepoch %|EPOCH?{%{EPOCH}}:{0}|\nversion %{VERSION}\nrelease %{RELEASE}\narch %{ARCH}\n"
    r"source %|SOURCEPACKAGE?{1}:{0}|\n[file %{FILEMODES:octal} %{FILEFLAGS} %{FILENAMES}\n]"
)
# Of a file's flags: it is only named, and not in the package (%ghost).
_GHOST: Final = 1 << 6
_ROUTES: Final = ("boot/", "lib/modules/", "usr/lib/modules/")
_FIELDS: Final = ("name", "epoch", "version", "release", "arch", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package file, as its header describes it."""

    path: Path
    name: str
    epoch: str
    version: str
    release: str
    # As rpm has it: "x86_64", "aarch64", "noarch".
    architecture: str
    is_source: bool
    # Absolute paths of the regular files and links in it.
    files: frozenset[str]


def read_package(path: Path) -> Package:
    """Return what a package's header says. Raises InvalidInput for what is no package, or is damaged there."""
    _require_lead(path)
    what = f"Reading {shown(path.name)}"
    command = ["rpm", "--query", "--package", "--nosignature", "--queryformat", _FORMAT, os.path.abspath(path)]
    with _asked(command, what) as tool:
        printed = tool.printed(_MOST_HEADER_BYTES)
        if printed is None:
            raise InvalidInput(f"{shown(path.name)} has a header of more than {_MOST_HEADER_BYTES >> 20} MiB.")
        if tool.code() != 0:
            raise _damaged(path, tool)
    return _package(path, printed.decode(errors="replace"))


def check_digests(path: Path) -> None:
    """Raise InvalidInput unless header and content are those that the package was built with, by its own digests."""
    command = ["rpmkeys", "--checksig", "--nosignature", "--verbose", os.path.abspath(path)]
    with _asked(command, f"Comparing the digests of {shown(path.name)}") as tool:
        printed = tool.printed(_MOST_HEADER_BYTES) or b""
        if tool.code() != 0:
            told = (line.partition(": BAD") for line in printed.decode(errors="replace").splitlines())
            bad = next((what.strip() for what, found, _ in told if found and what.endswith(" digest")), "")
            if bad:
                raise InvalidInput(
                    f"{shown(path.name)} is damaged: its {bad} is not that of what is in it. Fetch it again."
                )
            raise _damaged(path, tool)


def unpack(paths: Sequence[Path], tree: Path, progress: Progress, *, label: str) -> None:
    """Unpack what packages have of a kernel, its image and its modules, over each other into `tree`.

    Errors as in kernels.debian.unpack.
    """
    total_bytes = sum(path.stat().st_size for path in paths)
    done_bytes = 0
    for path in paths:
        with _asked(["rpm2archive", "--nocompression"], f"Unpacking {label}", path) as tool:
            content = ToolContent(tool)
            try:
                extract(content, tree, shown(path.name), _of_a_kernel)
            except InvalidInput as error:
                # What the tool says of a damaged package tells more than where its content ends.
                if content.ended and tool.code() != 0:
                    raise _damaged(path, tool) from error
                raise
            if tool.code() != 0:
                raise _damaged(path, tool)
        done_bytes += path.stat().st_size
        progress(f"unpacking {label}", done_bytes, total_bytes)


def _of_a_kernel(path: str) -> str | None:
    return path if f"{path}/".startswith(_ROUTES) else None


@contextmanager
def _asked(command: list[str], what: str, stdin: Path | None = None) -> Iterator[Tool]:
    """Run one of rpm's programs with a home of its own: a user's macros must not decide what is read, nor be written.

    Raises Permanent when it is missing or takes too long.
    """
    with (
        tempfile.TemporaryDirectory(prefix="kernroll-rpm-") as home,
        running(
            command,
            timeout_s=_TIMEOUT_S,
            what=what,
            environment={"HOME": home, "MALLOC_ARENA_MAX": "1"},
            stdin=stdin,
            memory_bytes=_MEMORY_BYTES,
        ) as tool,
    ):
        yield tool


def _require_lead(path: Path) -> None:
    try:
        with path.open("rb") as file:
            lead = file.read(len(_LEAD))
    except OSError as error:
        raise InvalidInput(f"{shown(path)} (kernel package) cannot be read: {error.strerror}.") from error
    if lead != _LEAD:
        raise InvalidInput(f"{shown(path.name)} is called an rpm package and is none. Fetch it again, or remove it.")


def _damaged(path: Path, tool: Tool) -> InvalidInput | Permanent:
    said = tool_failure("rpm", f"Reading {shown(path.name)}", tool.said)
    if "disk is full" in str(said):
        return said
    lines = [line.strip() for line in tool.said.decode(errors="replace").splitlines() if line.strip()]
    reason = lines[0].removeprefix("error: ") if lines else "rpm gave no reason"
    reason = reason.replace(f"{os.path.abspath(path)}: ", "").replace(f"{path.name}: ", "")
    return InvalidInput(f"{shown(path.name)} is damaged: {printable(reason, 300)}. Fetch it again.")


def _package(path: Path, text: str) -> Package:
    found: dict[str, str] = {}
    files = set()
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key in _FIELDS:
            found.setdefault(key, value)
        elif key == "file":
            mode, flags, name = [*value.split(" ", 2), "", ""][:3]
            kinds = digits(flags)
            if mode[:3] in ("100", "120") and kinds is not None and not kinds & _GHOST:
                files.add(name)
    if len(files) > MOST_FILES:
        raise InvalidInput(f"{shown(path.name)} holds more than {MOST_FILES} files, the most that is unpacked.")
    if missing := [key for key in _FIELDS if not found.get(key)]:
        raise InvalidInput(f"{shown(path.name)} is damaged: its header has no {missing[0]}. Fetch it again.")
    return Package(
        path=path,
        name=found["name"],
        epoch=found["epoch"],
        version=found["version"],
        release=found["release"],
        architecture=found["arch"],
        is_source=found["source"] == "1",
        files=frozenset(files),
    )
