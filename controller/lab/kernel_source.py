"""The part of a kernel's source that guests build a few objects from: Debian's linux-source, cut down.

A whole source is 1.7 GB unpacked, which no guest needs: emulated processors would take hours to build it. What is kept
is enough to configure it and to build objects of kernel/, mm/ and fs/ on both architectures.
"""

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

from controller.adapters.kernels.debian import AptRoot, PackageVersion, unpack
from controller.adapters.kernels.unpacking import extract
from controller.adapters.local.cache import Cache, Progress, request_key
from controller.adapters.local.named_files import open_file
from controller.domain.errors import Permanent

# Where the agent looks for a source; the folder's name says that it is no whole one, and the agent goes by it.
GUEST_FOLDER = "usr/src"
_NAME_END = "-objects-only"

_PACKAGE = r"linux-source-[0-9.]+"
_ARCHITECTURE = "amd64"  # the package is the same for all
_ROOM_BYTES = 500 * 2**20
_FORMAT = 1
_TOP = ("Kbuild", "Makefile", "COPYING")
_FOLDERS = (
    "arch/arm64",
    "arch/x86",
    *(f"include/{name}" for name in ("acpi", "asm-generic", "clocksource", "crypto", "keys", "kunit", "kvm", "linux")),
    *(f"include/{name}" for name in ("memory", "net", "pcmcia", "ras", "scsi", "trace", "uapi", "vdso", "xen")),
    "init",
    "io_uring",
    "kernel",
    "lib/vdso",
    "mm",
    "scripts",
    "tools/include",
    "tools/objtool",
)
_LEFT_OUT = ("arch/arm64/boot/dts", "arch/arm64/crypto", "arch/arm64/kvm", "arch/x86/crypto", "arch/x86/kvm")
# Their own files, and nothing below them.
_FLAT_FOLDERS = ("fs", "lib", "arch")
# What an image's key takes of this module: another one makes another image.
SOURCE_RECIPE = request_key({"format": _FORMAT, "kept": [_TOP, _FOLDERS, _LEFT_OUT, _FLAT_FOLDERS]})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """The cut-down source in the cache."""

    path: Path
    # The folder's name in guests, for example "linux-source-6.12-objects-only".
    name: str
    # What it was taken from, for people and digests.
    origin: str


def is_kept(member: str) -> bool:
    """Tell whether a file of the source, named from its top, is kept; Kconfig files all are, since they name others."""
    folder, _, name = member.rpartition("/")
    if name.startswith("Kconfig"):
        return True
    if not folder:
        return name in _TOP
    if _is_below(member, _LEFT_OUT):
        return name == "Makefile"
    return folder in _FLAT_FOLDERS or _is_below(member, _FOLDERS)


def prepare_source(cache: Cache, packages: AptRoot, progress: Progress) -> SourceTree:
    """Return the cut-down source, fetched and unpacked on first use; about half a minute, 150 MB to fetch.

    Raises Permanent (not on the mirror, disk full) or Temporary (mirror out of reach).
    """
    chosen = oldest(offered_sources(packages, progress))
    origin = f"{chosen.package} {chosen.version}"
    name = f"{chosen.package}{_NAME_END}"

    def build(directory: Path) -> None:
        cache.require_room(_ROOM_BYTES, f"unpacking {origin}")
        with source_tarball(cache, packages, chosen, progress, label=name) as tarball:
            progress("unpacking a kernel's source", 0, 0)
            extract_kept(tarball, directory / name, is_kept)

    directory = cache.publish(f"sources/{chosen.package}-{chosen.version}-{SOURCE_RECIPE}", build)
    return SourceTree(path=directory / name, name=name, origin=origin)


def offered_sources(packages: AptRoot, progress: Progress) -> list[PackageVersion]:
    """Return the sources that the mirror offers. Raises Permanent when there are none."""
    offered = packages.versions(_PACKAGE, _ARCHITECTURE, progress)
    if not offered:
        raise Permanent(
            "the mirror offers no linux-source package, which guests with tools need parts of: set "
            "KERNROLL_DEBIAN_SUITES to suites that have one"
        )
    return offered


def oldest(offered: list[PackageVersion]) -> PackageVersion:
    """Return the newest revision of the oldest kernel: the release's own, and the smallest."""
    first = min((each.package for each in offered), key=_numbers)
    return max((each for each in offered if each.package == first), key=lambda each: _numbers(each.version))


def newest(offered: list[PackageVersion]) -> PackageVersion:
    """Return the newest revision of the newest kernel: its tests know most, and skip what an older one has not."""
    return max(offered, key=lambda each: (_numbers(each.package), _numbers(each.version)))


@contextmanager
def source_tarball(
    cache: Cache, packages: AptRoot, chosen: PackageVersion, progress: Progress, *, label: str
) -> Iterator[Path]:
    """Fetch a source package and give its tarball; `label` tells apart who unpacks it at the same time."""
    origin = f"{chosen.package} {chosen.version}"
    files = packages.fetch(packages.exact([chosen], _ARCHITECTURE, progress), progress, label=origin)
    with cache.scratch(f"package-{label}") as scratch:
        unpack(files, scratch, progress, label=origin)
        yield _tarball(scratch / GUEST_FOLDER, origin)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _tarball(folder: Path, origin: str) -> Path:
    found = sorted(folder.glob("linux-source-*.tar.*"))
    if len(found) != 1:
        raise Permanent(f"{origin} has {len(found)} source archives in {GUEST_FOLDER} where one was expected")
    return found[0]


def extract_kept(tarball: Path, target: Path, is_kept: Callable[[str], bool]) -> None:
    """Unpack the files whose names, from the source's top, are kept, in one pass. Errors as in unpacking.extract."""

    def kept(name: str) -> str | None:
        path = name.partition("/")[2]
        return path if path and is_kept(path) else None

    try:
        with _opened(tarball) as content:
            extract(content, target, tarball.name, kept)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise Permanent(f"{tarball.name} cannot be unpacked: {error}") from error


def _opened(tarball: Path) -> BufferedIOBase:
    match tarball.suffix:
        case ".xz":
            return lzma.LZMAFile(tarball)
        case ".gz":
            return gzip.GzipFile(tarball)
        case ".bz2":
            return bz2.BZ2File(tarball)
        case _:
            return open_file(tarball)


def _is_below(member: str, folders: tuple[str, ...]) -> bool:
    return any(member.startswith(f"{folder}/") for folder in folders)
