"""Kernel modules: finding a release's tree, fingerprinting it, and packing it as a small disk image."""

import hashlib
import os
import shutil
from pathlib import Path

from controller.adapters.ext4 import build_ext4
from controller.adapters.tools import run_tool
from controller.domain.errors import InvalidInput

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
    for parent in ("", "lib/modules", "usr/lib/modules"):
        candidate = tree / parent / release
        if (candidate / "kernel").is_dir() or (candidate / "modules.order").is_file():
            return candidate
    return None


def require_modules(tree: Path, release: str) -> Path:
    """Return the directory of a release's modules. Raises InvalidInput naming what is there instead."""
    found = find_modules(tree, release)
    if found is not None:
        return found
    present = sorted(entry.name for parent in ("lib/modules", "usr/lib/modules") for entry in (tree / parent).glob("*"))
    raise InvalidInput(
        f"{tree} has no modules of {release} (looked for lib/modules/{release} and {release}); "
        f"it has {', '.join(present) if present else 'no modules at all'}. "
        "Run `make modules_install INSTALL_MOD_PATH=...`."
    )


def fingerprint(modules: Path) -> str:
    """Return a SHA-256, in hex, over the names and contents of a modules directory."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(modules):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            relative = path.relative_to(modules).as_posix()
            if relative in _GENERATED or relative in _LEFT_OUT or path.is_symlink():
                continue
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{relative}\0{content}\n".encode())
    return digest.hexdigest()


def index_modules(modules: Path, release: str, tree: Path) -> None:
    """Copy the modules to lib/modules/RELEASE below `tree`, with their dependencies computed. Raises Permanent."""
    target = tree / "lib/modules" / release
    shutil.copytree(modules, target, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    # Newer depmods look below usr/lib, and so do newer modprobes.
    (tree / "usr").mkdir()
    (tree / "usr/lib").symlink_to("../lib")
    run_tool(["depmod", "-b", tree, release], timeout_s=_DEPMOD_TIMEOUT_S, what=f"Indexing the modules of {release}")


def pack_modules(tree: Path, image: Path) -> None:
    """Write an ext4 image with lib/modules at its root. `tree` is an indexed one, and is used up."""
    shutil.rmtree(tree / "usr")
    build_ext4(tree, image)
