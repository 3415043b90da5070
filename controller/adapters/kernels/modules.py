"""Kernel modules: finding a release's tree, fingerprinting it, and packing it as a small disk image."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from controller.adapters.kernels.image import MOST_IMAGE_BYTES
from controller.adapters.local.ext4 import build_ext4
from controller.adapters.local.named_files import copy_file, open_file, shown
from controller.adapters.local.tools import run_tool
from controller.adapters.local.trees import entries, is_file, locate
from controller.domain.errors import InvalidInput
from controller.domain.hosts.releases import checked_release
from controller.domain.printable import printable

# Where a release's modules are below a tree.
_PLACES = ("", "lib/modules", "usr/lib/modules")

# Links to the build machine's sources, the image itself, and what depmod writes: no part of the modules' identity.
_LEFT_OUT = ("build", "source", "vmlinuz")
_GENERATED = (
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.dep",
    "modules.dep.bin",
    "modules.devname",
    "modules.softdep",
    "modules.symbols",
    "modules.symbols.bin",
    "modules.weakdep",
)
_DEPMOD_TIMEOUT_S = 300.0


def find_modules(tree: Path, release: str) -> Path | None:
    """Return the directory of a release's modules below `tree`, or None when it has none."""
    for parent in _PLACES:
        candidate = locate(tree, f"{parent}/{release}".lstrip("/"))
        if (candidate / "kernel").is_dir() or (candidate / "modules.order").is_file():
            return candidate
    return None


def require_modules(tree: Path, release: str) -> Path:
    """Return the directory of a release's modules. Raises InvalidInput naming what is there instead."""
    found = find_modules(tree, release)
    if found is not None:
        return found
    folders = [locate(tree, parent) for parent in _PLACES[1:]]
    present = sorted({name for folder in folders if folder.is_dir() for name in os.listdir(folder)})
    raise InvalidInput(
        f"{shown(tree)} has no modules of {release} (looked for lib/modules/{release} and {release}); "
        f"it has {printable(', '.join(present)) if present else 'no modules at all'}. "
        "Run `make modules_install INSTALL_MOD_PATH=...`."
    )


def fingerprint(modules: Path) -> str:
    """Return a SHA-256, in hex, over the names and contents of a modules directory. Errors as in index_modules."""
    digest = hashlib.sha256()
    for relative, path in _files(modules):
        if relative in _GENERATED:
            continue
        with open_file(path, follow=False) as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{relative}\0{content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def index_modules(modules: Path, release: str, tree: Path) -> None:
    """Copy the modules to lib/modules/RELEASE below `tree`, with their dependencies computed.

    Raises InvalidInput for a directory with anything but files in it, or links that lead out of it; else Permanent.
    """
    target = tree / "lib/modules" / checked_release(release, shown(modules))
    target.mkdir(parents=True)
    for relative, path in _files(modules):
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        copy_file(path, target / relative, MOST_IMAGE_BYTES)
    # Newer depmods look below usr/lib, and so do newer modprobes.
    (tree / "usr").mkdir()
    (tree / "usr/lib").symlink_to("../lib")
    run_tool(
        ["depmod", "-b", tree, "--", release], timeout_s=_DEPMOD_TIMEOUT_S, what=f"Indexing the modules of {release}"
    )


def _files(modules: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and place of every file, in a fixed order; a link stands for the file of the directory it leads to.

    A link that leads anywhere else would bring files of this machine into a guest.
    """
    for entry in entries(modules):
        relative = Path(entry.path).relative_to(modules).as_posix()
        if relative in _LEFT_OUT:
            continue
        if not entry.is_symlink():
            yield relative, Path(entry.path)
        elif is_file(modules, relative):
            yield relative, locate(modules, relative)
        else:
            raise InvalidInput(
                f"{shown(entry.path)} is a link that leads to no file of {shown(modules)}: put the file in its place, "
                "or take the link away"
            )


def pack_modules(tree: Path, image: Path) -> None:
    """Write an ext4 image with lib/modules at its root. `tree` is an indexed one, and is used up."""
    shutil.rmtree(tree / "usr")
    build_ext4(tree, image)
