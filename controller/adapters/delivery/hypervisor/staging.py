"""Brings a kernel's files into the VM's directory: falling back must not depend on a cache that somebody cleaned."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from controller.domain.errors import NotFound, Permanent, Temporary
from controller.domain.hosts.releases import is_release
from controller.domain.kernels import Kernel
from controller.domain.printable import printable

DIRECTORY = "kernels"
ROLES = ("boot", "modules", "initrd")


def stage_files(vm_dir: Path, kernel: Kernel) -> Kernel:
    """Link (or copy, across file systems) the files and return the kernel with paths relative to the VM's directory.

    Raises NotFound naming the missing file, Temporary when the disk refuses, Permanent for what is no kernel.
    """
    if not (kernel.digest.isascii() and kernel.digest.isalnum() and is_release(kernel.release)):
        name = f"{printable(kernel.release, 80)} ({printable(kernel.digest, 80)})"
        raise Permanent(f"kernel {name} is named as no kernel is; import it again")
    if "boot" not in kernel.files:
        raise Permanent(f"kernel {kernel.release} has no file to boot; import it again")
    files = {}
    for role in ROLES:
        if role not in kernel.files:
            continue
        source = vm_dir / kernel.files[role]
        if not source.is_file():
            raise NotFound(f"kernel {kernel.release}: {source} does not exist; import the kernel again")
        name = f"{DIRECTORY}/{kernel.digest}/{role}"
        try:
            _place(source, vm_dir / name)
        except OSError as error:
            raise Temporary(
                f"kernel {kernel.release} cannot be staged in {vm_dir}: {error}", retry_after_s=30
            ) from error
        files[role] = name
    return replace(kernel, files=files)


def _place(source: Path, target: Path) -> None:
    """Make `target` whole or not at all."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        try:
            shutil.copyfile(source, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    temporary.replace(target)
