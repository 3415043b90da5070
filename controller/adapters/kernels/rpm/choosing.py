"""Which packages of a directory are one kernel: the one with its image, and those with modules of its release.

Names follow each distribution's own rules (kernel-core, kernel-uek-core, kernel-default); what counts are the files.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.adapters.kernels.rpm.packages import Package, check_digests, read_package
from controller.adapters.local.named_files import shown
from controller.domain.errors import InvalidInput
from controller.domain.hosts.releases import checked_release
from controller.domain.printable import printable
from controller.words import names_text

RPM_ARCHITECTURES: Final = {"x86_64": "x86_64", "arm64": "aarch64"}
# Each is asked what it is, which takes some hundredths of a second.
_MOST_PACKAGES: Final = 512
_IMAGE: Final = re.compile(r"/boot/vmlinu[xz]-(?P<boot>[^/]+)|(?:/usr)?/lib/modules/(?P<tree>[^/]+)/(?:vmlinuz|Image)")
_MODULES: Final = re.compile(r"(?:/usr)?/lib/modules/([^/]+)/.+")
# Debugging symbols lie below the same paths in some builds, and boot nothing.
_NO_KERNEL: Final = re.compile(r"-(debuginfo|debugsource|devel|headers|doc|tools|selftests)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class RpmKernel:
    """A kernel in packages of a directory."""

    release: str
    # The one with the image first, then those with modules, by name.
    packages: tuple[Package, ...]
    # Further packages for its architecture that lie there.
    unused: tuple[Path, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of its packages."""
        return tuple(one.path for one in self.packages)


def kernel_of(directory: Path, files: Sequence[Path], architecture: str) -> RpmKernel:
    """Return the one kernel for an architecture that is in a directory's packages, each whole by its own digests.

    Raises InvalidInput, saying which package is damaged, is not a kernel's, is one too many or is not there.
    """
    if len(files) > _MOST_PACKAGES:
        raise InvalidInput(
            f"{shown(directory)} holds more than {_MOST_PACKAGES} rpm packages; put those of one kernel in a directory "
            "of their own."
        )
    wanted = RPM_ARCHITECTURES[architecture]
    packages = [one for one in map(read_package, files) if not one.is_source]
    fitting = [one for one in packages if one.architecture in (wanted, "noarch")]
    candidates = [one for one in fitting if not _NO_KERNEL.search(one.name)]
    images = [(one, release) for one in candidates for release in sorted(_releases(one, _IMAGE))]
    if not images:
        raise InvalidInput(_none(directory, packages, wanted))
    if len(images) > 1:
        names = printable(", ".join(f"{release} in {one.path.name}" for one, release in images), 1024)
        raise InvalidInput(
            f"{shown(directory)} has several kernels for {architecture}: {names}. Leave one of them there."
        )
    ((image, found),) = images
    release = checked_release(found, f"The kernel in {shown(image.path)}")
    modules = [one for one in candidates if one != image and release in _releases(one, _MODULES)]
    chosen = (image, *sorted(modules, key=lambda one: one.name))
    _require_single(directory, chosen)
    for one in chosen:
        check_digests(one.path)
    return RpmKernel(
        release=release,
        packages=chosen,
        unused=tuple(one.path for one in fitting if one not in chosen),
    )


def _releases(package: Package, pattern: re.Pattern[str]) -> set[str]:
    found = (pattern.fullmatch(one) for one in package.files)
    return {next(filter(None, match.groups())) for match in found if match}


def _require_single(directory: Path, chosen: Sequence[Package]) -> None:
    """Raise InvalidInput where a package lies there twice: rpm would be told to install two that share their files."""
    for name in sorted({one.name for one in chosen}):
        same = [one.path.name for one in chosen if one.name == name]
        if len(same) > 1:
            raise InvalidInput(
                f"{shown(directory)} has {printable(name)} several times: {names_text(same)}. Leave one of them there."
            )


def _none(directory: Path, packages: Sequence[Package], wanted: str) -> str:
    others = sorted({one.architecture for one in packages if _releases(one, _IMAGE)} - {wanted})
    there = f"; those there are for {printable(', '.join(others))}" if others else ""
    return (
        f"{shown(directory)} has no rpm package for {wanted} with a kernel (/lib/modules/RELEASE/vmlinuz or "
        f"/boot/vmlinuz-RELEASE){there}. Fedora's and RHEL's is kernel-core; of one's own, run `make binrpm-pkg`."
    )
