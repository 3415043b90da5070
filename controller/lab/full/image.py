"""The disks that machines start from: built once into the cache, read-only from then on."""

import hashlib
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from controller.adapters.local.cache import Cache, Progress, no_progress, request_key
from controller.adapters.local.ext4 import build_ext4
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent
from controller.lab.full.partitions import MARGIN_BYTES, bios_table, uefi_disk_bytes, uefi_table
from controller.lab.full.shapes import ROOT_SERIAL, SHAPES, Shape, processor, shape_named
from controller.lab.full.userland import (
    GUEST_FILES,
    PACKAGES,
    ROOT_UUID,
    SYSTEM_ID,
    WORK,
    build_userland,
    choose,
    full_packages,
    is_native,
    settings,
)
from controller.lab.toolset import Toolset, prepare_toolset

_FORMAT = 3
_ROOT_BYTES = 4 * 2**30
# Of the EFI system partition, which systemd-boot's kernels live on.
_SYSTEM_BYTES = 256 * 2**20
_JOURNAL_MIB = 64
_SPARE_INODES = 120_000
_ROOM_BYTES = 3 * 2**30
_MEMORY_MIB = 1024
# A machine that configures its own packages takes most of that.
_FINISH_TIMEOUT_S = 3600.0
_PASSED = b"kernroll-finish: passed"
_TOLD_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FullImage:
    """A read-only raw disk with a whole system on it."""

    path: Path
    # Its name in SHAPES.
    shape: str
    # The kernel that it boots by default, for example "6.12.117+deb13-cloud-amd64".
    release: str
    # Over the versions of everything in it.
    digest: str
    # Its packages, as "NAME VERSION".
    contents: frozenset[str] = field(repr=False)


def prepare_disk(cache: Cache, shape: str, progress: Progress = no_progress) -> FullImage:
    """Return the disk of a shape, built on first use; takes some minutes, and root.

    Once built it stays as it is until its recipe changes. Raises InvalidInput for an unknown shape, else Permanent or
    Temporary (mirror out of reach).
    """
    chosen = shape_named(shape)
    name = f"full/{shape}-{request_key(_recipe(chosen))}"

    def build(directory: Path) -> None:
        cache.require_room(_ROOM_BYTES, f"building the {shape} machine")
        root = full_packages(cache)
        contents = choose(root, chosen, progress)
        toolset = prepare_toolset(cache, progress)
        with cache.scratch(f"tree-{name}") as scratch:
            tree = scratch / "root"
            build_userland(cache, root, chosen, contents, tree, progress=progress)
            kernel = _kernel(tree)
            shutil.copyfile(kernel, scratch / "vmlinuz")
            _write_disk(tree, chosen, directory / "disk.raw", progress)
            _finish(toolset, chosen, directory / "disk.raw", scratch, progress)
        description = {
            "release": kernel.name.removeprefix("vmlinuz-"),
            "digest": hashlib.sha256("\n".join(contents.lines).encode()).hexdigest(),
            "contents": contents.lines,
        }
        cache.write_json((directory / "machine.json").relative_to(cache.root).as_posix(), description)

    directory = cache.publish(name, build)
    found = cache.read_json(f"{name}/machine.json")
    if found is None:
        raise Permanent(f"The disk in {directory} is damaged. Delete that directory; it is built again.")
    return FullImage(
        path=directory / "disk.raw",
        shape=shape,
        release=str(found["release"]),
        digest=str(found["digest"]),
        contents=frozenset(found["contents"]),
    )


def _recipe(shape: Shape) -> dict[str, object]:
    others = {known.setup for known in SHAPES.values()} - {shape.setup}
    files = sorted(path for path in GUEST_FILES.iterdir() if path.is_file() and path.suffix != ".py")
    return {
        "format": _FORMAT,
        "packages": [*PACKAGES, shape.kernel, *shape.loader],
        "settings": settings(shape),
        "guest": {path.name: path.read_text(encoding="utf-8") for path in files if path.name not in others},
        "shape": next(name for name, known in SHAPES.items() if known is shape),
        "bytes": [MARGIN_BYTES, _ROOT_BYTES, _SYSTEM_BYTES, _JOURNAL_MIB],
    }


def _kernel(tree: Path) -> Path:
    found = sorted((tree / "boot").glob("vmlinuz-*"))
    if len(found) != 1:
        raise Permanent(f"a machine was given {len(found)} kernels where one was expected")
    return found[0]


def _write_disk(tree: Path, shape: Shape, disk: Path, progress: Progress) -> None:
    """Write a disk with a partition that holds the tree, and what the machine's first boot will do."""
    progress("writing the machine's disk", 0, 0)
    work = tree / WORK
    if is_native(shape):
        shutil.rmtree(work)
        work.mkdir()
    shutil.copyfile(GUEST_FILES / shape.setup, work / "loader-setup")
    shutil.copyfile(GUEST_FILES / "system-partition", work / "system-partition")
    (work / "system-id").write_text(SYSTEM_ID, encoding="ascii")
    shutil.copyfile(GUEST_FILES / "finish", work / "finish")
    (work / "finish").chmod(0o755)
    build_ext4(
        tree,
        disk,
        size_bytes=_ROOT_BYTES,
        offset_bytes=MARGIN_BYTES,
        journal_mib=_JOURNAL_MIB,
        spare_inodes=_SPARE_INODES,
        uuid=ROOT_UUID,
    )
    with disk.open("r+b") as output:
        if shape.uefi:
            output.truncate(uefi_disk_bytes(_ROOT_BYTES, _SYSTEM_BYTES))
        for piece in uefi_table(_ROOT_BYTES, _SYSTEM_BYTES) if shape.uefi else bios_table(_ROOT_BYTES):
            output.seek(piece.offset_bytes)
            output.write(piece.content)


def _finish(toolset: Toolset, shape: Shape, disk: Path, scratch: Path, progress: Progress) -> None:
    """Boot the disk once with its kernel given to QEMU: there its boot loader is installed, by its own tools."""
    own = "" if is_native(shape) else "configuring the machine's packages on it and "
    progress(f"{own}installing the machine's boot loader", 0, 0)
    tool, console = toolset.qemu(shape.architecture), scratch / "console.log"
    words = (
        f"console={shape.console} root=/dev/nvme0n1p1 rootfstype=ext4 ro mitigations=off panic=5 init=/{WORK}/finish"
    )
    command: list[str | Path] = [tool.binary, *tool.arguments, "-nodefaults", "-no-user-config", "-display", "none"]
    command += ["-no-reboot", "-machine", shape.machine, "-accel", "tcg", "-cpu", processor(shape, "tcg")]
    command += ["-m", str(_MEMORY_MIB), "-nic", "none", "-serial", f"file:{console}"]
    command += ["-kernel", scratch / "vmlinuz", "-append", words]
    command += ["-drive", f"file={disk},format=raw,if=none,id=root,discard=unmap"]
    command += ["-device", f"nvme,drive=root,serial={ROOT_SERIAL}"]
    run_tool(
        command,
        timeout_s=_FINISH_TIMEOUT_S,
        what="Installing the boot loader of a machine",
        environment=tool.environment,
    )
    said = console.read_bytes()
    if _PASSED not in said:
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode(errors="replace")).splitlines()
        raise Permanent(f"a new machine's boot loader could not be installed: {' | '.join(lines[-_TOLD_LINES:])}")
