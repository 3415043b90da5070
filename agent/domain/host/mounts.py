"""Which file system a directory lies on, as the kernel lists them, and which of them a swap file can be made on."""

import re
from dataclasses import dataclass

# What lies there is in memory: swapping to it frees none.
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs", "hugetlbfs"})
# swapon refuses their files, or takes them only in a form in which none is made here (btrfs: without copy on write).
_NO_SWAP_FILES = re.compile(
    "(9p|aufs|bcachefs|btrfs|ceph|cifs|ecryptfs|erofs|fuse|fuseblk|gfs2|nfs|nfs4|nilfs2|ntfs3|ocfs2|overlay|smb3|squashfs|"
    r"ubifs|virtiofs|zfs)(\..*)?"
)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of /proc/self/mountinfo."""

    point: str
    # "ext4", "fuse.sshfs", …
    type: str
    # Of the file system itself, as "upperdir=/run/upper".
    options: tuple[str, ...] = ()


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """Return the mounts in the order in which they were made; lines that are none are left out."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, described = before.split(" "), after.split(" ")
        if separator and len(fields) >= 5 and len(described) >= 2:
            options = tuple(described[2].split(",")) if len(described) > 2 else ()
            found.append(Mount(point=_plain(fields[4]), type=described[0], options=tuple(map(_plain, options))))
    return tuple(found)


def mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """Return what a path without links lies on; None when nothing is known of it.

    Of two mounts at one place the later one hides the other.
    """
    holding = [each for each in mounts if f"{path}/".startswith(f"{each.point.rstrip('/')}/")]
    return max(reversed(holding), key=lambda each: len(each.point)) if holding else None


def swap_file_problem(path: str, mounts: tuple[Mount, ...], *, sparse: bool) -> str:
    """Say why no swap can lie in a directory; empty when nothing is known against it.

    A sparse file under a loop device asks less of its file system than a swap file.
    """
    mount = mount_of(path, mounts)
    if mount is None:
        return ""
    home = _home(mount, mounts)
    if home.type in _IN_MEMORY:
        return (
            f"{path} lies on {_named(mount, home)}, which is in memory: swapping to it would free none; name a "
            "directory on a disk"
        )
    if not sparse and _NO_SWAP_FILES.fullmatch(mount.type):
        return (
            f"{path} lies on {mount.type}, whose files the kernel does not take for swap as they are made here; name a "
            "directory on ext4 or XFS, or use another swap"
        )
    return ""


def _home(mount: Mount, mounts: tuple[Mount, ...]) -> Mount:
    """Return where what is written to a mount lies: an overlay's upper directory may be anywhere."""
    upper = next((each.partition("=")[2] for each in mount.options if each.startswith("upperdir=/")), "")
    return (mount_of(upper, mounts) if upper else None) or mount


def _named(mount: Mount, home: Mount) -> str:
    return mount.type if mount == home else f"{mount.type} over {home.type}"


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)
