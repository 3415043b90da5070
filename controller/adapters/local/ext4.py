"""Builds ext4 file systems from directories, without mounting anything and without root."""

import math
import os
from pathlib import Path

from controller.adapters.local.tools import run_tool

BLOCK_BYTES = 4096
_INODE_BYTES = 256
_TIMEOUT_S = 600.0


def measure(tree: Path) -> tuple[int, int]:
    """Return the bytes that a tree's files occupy in whole blocks, and how many files and directories it has."""
    size_bytes, count = 0, 1
    for folder, folders, files in os.walk(tree):
        count += len(folders) + len(files)
        size_bytes += BLOCK_BYTES * len(folders)
        for name in files:
            length = os.lstat(os.path.join(folder, name)).st_size
            size_bytes += math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES
    return size_bytes, count


def build_ext4(
    tree: Path,
    image: Path,
    *,
    size_bytes: int | None = None,
    offset_bytes: int = 0,
    journal_mib: int = 0,
    spare_inodes: int = 16,
    uuid: str | None = None,
) -> None:
    """Write a file system with the tree's files to `image`, from `offset_bytes` on.

    `size_bytes` of None makes it as small as the files allow, `uuid` of None lets it have any. Its root belongs to
    root; other files keep their owner's number, which a guest that runs everything as root does not mind. Raises
    Permanent, also when the disk is full.
    """
    content_bytes, count = measure(tree)
    inodes = count + spare_inodes
    if size_bytes is None:
        tables_bytes = inodes * _INODE_BYTES
        # Extent blocks and group descriptors: 3 % and some fixed room have always been enough for trees of files.
        size_bytes = int(content_bytes * 1.03) + tables_bytes + journal_mib * 2**20 + 2 * 2**20
    blocks = math.ceil(size_bytes / BLOCK_BYTES)
    features = "^resize_inode,^huge_file" + ("" if journal_mib else ",^has_journal")
    with image.open("ab") as output:
        output.truncate(offset_bytes + blocks * BLOCK_BYTES)
    command: list[str | Path] = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        str(BLOCK_BYTES),
        "-m",
        "0",
        "-N",
        str(inodes),
    ]
    command += ["-I", str(_INODE_BYTES), "-O", features, "-d", tree]
    if journal_mib:
        command += ["-J", f"size={journal_mib}"]
    if uuid is not None:
        command += ["-U", uuid]
    extended = "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    if offset_bytes:
        extended += f",offset={offset_bytes}"
    command += ["-E", extended, image, str(blocks)]
    run_tool(command, timeout_s=_TIMEOUT_S, what=f"Building the file system {image.name}")
