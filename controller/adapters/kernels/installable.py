"""The packages that install a kernel on a host which starts from its own disk, with its own package manager."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, assert_never

from controller.adapters.kernels.debian import DEBIAN_ARCHITECTURES, AptRoot
from controller.adapters.kernels.sources import installable_rpms
from controller.adapters.local.cache import Cache, Progress
from controller.domain.errors import KernrollError, Temporary
from controller.domain.kernels import (
    PACKAGE_ROLE,
    DebianKernel,
    ImageKernel,
    Kernel,
    KernelSource,
    PackageDirectoryKernel,
)

_KINDS: Final = "image|binary|modules|modules-extra|base"
_FOLDER: Final = "kernel-packages"


def keep_packages(cache: Cache, kernel: Kernel, source: KernelSource, root: AptRoot, progress: Progress) -> None:
    """Keep a kernel's packages beside it, where it has any; asked once for each kernel.

    A mirror that is out of reach, or has dropped one of them, keeps nobody from booting the kernel directly: nothing is
    kept then, and the next call asks again.
    """

    def build(directory: Path) -> None:
        for path in _installable(source, kernel, root, progress):
            shutil.copyfile(path, directory / path.name)

    try:
        cache.publish(f"{_FOLDER}/{kernel.digest}", build)
    except Temporary:
        return


def kept_packages(cache: Cache, digest: str) -> dict[str, str]:
    """Return a kernel's packages: role -> file; empty where there are none."""
    folder = cache.root / _FOLDER / digest
    return {f"{PACKAGE_ROLE}{path.name}": str(path) for path in sorted((*folder.glob("*.deb"), *folder.glob("*.rpm")))}


def _installable(source: KernelSource, kernel: Kernel, root: AptRoot, progress: Progress) -> Sequence[Path]:
    match source:
        case DebianKernel():
            return _of_debian(kernel, root, progress)
        case PackageDirectoryKernel():
            return _of_directory(Path(source.path), kernel)
        case ImageKernel():
            return ()
        case _:
            assert_never(source)


def _of_debian(kernel: Kernel, root: AptRoot, progress: Progress) -> Sequence[Path]:
    architecture = DEBIAN_ARCHITECTURES[kernel.architecture]
    image = f"linux-image-{kernel.release}"
    offered = root.versions(f"linux-({_KINDS})-{re.escape(kernel.release)}", architecture, progress)
    version = next((one.version for one in reversed(offered) if one.package == image), "")
    chosen = [one for one in offered if one.version == version]
    if not version:
        return ()
    # The archive drops some of a build's packages before others; half a kernel cannot be installed.
    if not {one.package for one in chosen} >= root.needed_exactly(image, version, architecture, progress):
        return ()
    try:
        return root.fetch(root.exact(chosen, architecture, progress), progress, label=f"packages of {kernel.release}")
    except Temporary:
        raise
    except KernrollError:
        return ()


def _of_directory(directory: Path, kernel: Kernel) -> Sequence[Path]:
    if rpms := installable_rpms(directory, kernel.architecture):
        return rpms
    debian = DEBIAN_ARCHITECTURES[kernel.architecture]
    wanted = re.compile(rf"linux-({_KINDS})-{re.escape(kernel.release)}_[^/]*_({debian}|all)\.deb")
    return sorted(path for path in directory.iterdir() if wanted.fullmatch(path.name))
