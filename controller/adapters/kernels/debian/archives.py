"""Package files: what apt says about them, fetching them with their checksums, unpacking them."""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from controller.adapters.kernels.unpacking import TarReader, extract
from controller.adapters.local.cache import Progress
from controller.adapters.local.named_files import shown, tail
from controller.adapters.local.tools import ToolContent, missing_tool, running, tool_environment, tool_failure
from controller.domain.errors import InvalidInput, Permanent, Temporary
from controller.domain.printable import printable

_HELPER = "/usr/lib/apt/apt-helper"
_POLL_S = 0.25
_STALLED_S = 180.0
_MOST_LOG_BYTES = 1 << 20
_UNPACK_TIMEOUT_S = 300.0
# A package may ask for gigabytes to be decompressed with; those that people build ask for some tens of megabytes.
_UNPACK_MEMORY_BYTES = 2 << 30
_ONE_THREAD = {"DPKG_DEB_THREADS_MAX": "1", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One package file on the mirror."""

    package: str
    version: str
    uri: str
    size_bytes: int
    # In hex, from the signed package index.
    sha256: str

    @property
    def file_name(self) -> str:
        """The name under which it is kept: the same name never means two contents."""
        return f"{self.sha256}.deb"


def parse_uris(output: str) -> dict[str, str]:
    """Return the address of each file that `apt-get --print-uris` would fetch, by the file's name on the mirror."""
    found = re.findall(r"^'([^']+)' \S+ \d+ ", output, re.MULTILINE)
    return {unquote(uri.rsplit("/", 1)[1]): uri for uri in found}


def parse_records(output: str) -> list[dict[str, str]]:
    """Return the fields of each record that `apt-cache show` prints; continuation lines are left out."""
    records = []
    for block in re.split(r"\n\s*\n", output):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", block, re.MULTILINE))
        if fields:
            records.append(fields)
    return records


def fetch(
    archives: Sequence[Archive], directory: Path, progress: Progress, *, label: str, environment: Mapping[str, str]
) -> list[Path]:
    """Bring package files into `directory` (those already there are kept) and return their paths in order.

    Raises Temporary when the mirror cannot be reached and Permanent when the disk is full or a checksum differs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    wanted = {archive.file_name: archive for archive in archives}
    missing = [archive for name, archive in wanted.items() if not (directory / name).is_file()]
    if missing:
        total_bytes = sum(archive.size_bytes for archive in missing)
        _sweep(directory)
        drafts = Path(tempfile.mkdtemp(prefix=f".partial-{os.getpid()}-", dir=directory))
        try:
            _download(missing, drafts, progress, label=label, environment=environment)
            for archive in missing:
                _accept(archive, drafts / archive.file_name, directory / archive.file_name)
        finally:
            shutil.rmtree(drafts, ignore_errors=True)
        progress(label, total_bytes, total_bytes)
    return [directory / archive.file_name for archive in archives]


def _sweep(directory: Path) -> None:
    """Remove what killed processes left half-fetched."""
    for drafts in directory.glob(".partial-*"):
        if not Path("/proc", drafts.name.split("-")[1]).exists():
            shutil.rmtree(drafts, ignore_errors=True)


def _download(
    archives: Sequence[Archive], drafts: Path, progress: Progress, *, label: str, environment: Mapping[str, str]
) -> None:
    """Let apt's own downloader fetch the files: it knows the machine's proxies and keeps connections open."""
    command = [_HELPER, "download-file"]
    for archive in archives:
        command += [archive.uri, str(drafts / archive.file_name), f"SHA256:{archive.sha256}"]
    total_bytes = sum(archive.size_bytes for archive in archives)
    what = f"Downloading {label}"
    log = drafts / "log"
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=tool_environment(environment)
            )
        except FileNotFoundError as error:
            raise missing_tool("apt-helper", what) from error
        try:
            _watch(process, drafts, total_bytes, progress, label)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        _fail(tail(log, _MOST_LOG_BYTES), what, archives[0].uri)


def _watch(process: subprocess.Popen[bytes], drafts: Path, total_bytes: int, progress: Progress, label: str) -> None:
    done_bytes, moved_at = -1, time.monotonic()
    while process.poll() is None:
        present = sum(file.stat().st_size for file in drafts.glob("*.deb") if file.exists())
        if present != done_bytes:
            done_bytes, moved_at = present, time.monotonic()
            progress(label, min(present, total_bytes), total_bytes)
        elif time.monotonic() - moved_at > _STALLED_S:
            raise Temporary(
                f"Downloading {label}: nothing arrived for {_STALLED_S:.0f} s. Check the network and try again."
            )
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            continue


def _fail(output: str, what: str, uri: str) -> None:
    errors = [line.removeprefix("E: ").strip() for line in output.splitlines() if line.startswith(("E: ", "Err:"))]
    failure = tool_failure(_HELPER, what, output.encode())
    if "disk is full" in str(failure):
        raise failure
    reason = printable(errors[-1]) if errors else "the downloader gave no reason"
    if "404" in output:
        raise Permanent(
            f"{what}: the mirror no longer has {uri.rsplit('/', 1)[1]}; "
            "its index is newer than ours. Try again in a while."
        )
    if "Hash Sum mismatch" in output:
        raise Permanent(f"{what}: the mirror sent a file whose checksum differs from the signed index: {reason}")
    raise Temporary(
        f"{what}: the mirror cannot be reached: {reason}. Check the network, or set KERNROLL_DEBIAN_MIRROR."
    )


def _accept(archive: Archive, draft: Path, target: Path) -> None:
    with draft.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != archive.sha256:
        raise Permanent(
            f"The file of {archive.package} {archive.version} has another checksum than the signed index says."
        )
    draft.replace(target)


def unpack(archives: Sequence[Path], tree: Path, progress: Progress, *, label: str) -> None:
    """Unpack package files over each other into `tree`. Maintainer scripts are not run.

    Raises InvalidInput for a package that holds what no package does (see unpacking.extract), else Permanent.
    """
    total_bytes = sum(archive.stat().st_size for archive in archives)
    done_bytes = 0
    for archive in archives:
        with _content(archive, f"Unpacking {label}") as content:
            extract(content, tree, shown(archive.name))
        done_bytes += archive.stat().st_size
        progress(f"unpacking {label}", done_bytes, total_bytes)


def first_member(archive: Path, wanted: re.Pattern[str]) -> re.Match[str] | None:
    """Return how the path of a package's first file that matches does so, as "boot/vmlinuz-7.1.13"; None without one.

    Errors as in unpack.
    """
    with _content(archive, f"Reading {shown(archive)}") as content:
        for member in TarReader(content, shown(archive)).members():
            if found := wanted.match(member.name.removeprefix("./")):
                content.enough()
                return found
    return None


@contextlib.contextmanager
def _content(archive: Path, what: str) -> Iterator[ToolContent]:
    """Yield the tar in a package file. Raises Permanent with what its tool says is wrong with it."""
    command = ["dpkg-deb", "--fsys-tarfile", os.path.abspath(archive)]
    with running(
        command, timeout_s=_UNPACK_TIMEOUT_S, what=what, environment=_ONE_THREAD, memory_bytes=_UNPACK_MEMORY_BYTES
    ) as tool:
        content = ToolContent(tool)
        try:
            yield content
        except InvalidInput as error:
            # What the tool says of a damaged package tells more than where its content ends.
            if content.ended and tool.code() != 0:
                raise tool_failure(command[0], what, tool.said) from error
            raise
        if not content.left and tool.code() != 0:
            raise tool_failure(command[0], what, tool.said)
