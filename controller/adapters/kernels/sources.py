"""Where kernels come from: brings a source's image and modules into a scratch directory and says what it found."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, assert_never

from controller.adapters.kernels.debian import DEBIAN_ARCHITECTURES, AptRoot, PackageVersion, first_member, unpack
from controller.adapters.kernels.image import MOST_IMAGE_BYTES
from controller.adapters.kernels.rpm import kernel_of
from controller.adapters.kernels.rpm.packages import unpack as unpack_rpms
from controller.adapters.local.cache import Progress
from controller.adapters.local.named_files import kind_of, shown, size_text
from controller.adapters.local.trees import MOST_BYTES, entries, is_file, locate
from controller.domain.errors import InvalidInput, NotFound
from controller.domain.hosts.releases import checked_release
from controller.domain.kernels import DebianKernel, ImageKernel, KernelSource, PackageDirectoryKernel
from controller.domain.printable import printable
from controller.words import names_text

# Of a package's files the kernel itself, with its release.
_IMAGE = re.compile(r"boot/vmlinu[xz]-(?P<boot>[^/]+)$|(?:usr/)?lib/modules/(?P<tree>[^/]+)/vmlinuz$")
# Debian's and Ubuntu's names, signed or not, Proxmox' (proxmox-kernel-R-signed), Armbian's (linux-image-current-BOARD).
_KERNEL_PACKAGE = re.compile(r"linux|kernel")
_RPM = ".rpm"
# Of a directory with packages.
_MOST_ENTRIES = 10_000
# What is built beside a kernel and has neither it nor its modules.
_NO_KERNEL = re.compile(
    r"-(dbg|dbgsym)[-_]|linux-(libc|doc|source|tools|perf|kbuild|config)|-headers-|-dtbs?-|firmware"
)
# A package's architecture: Armbian appends the kernel's version and what it was built from.
_ARCHITECTURE = re.compile(r"_([a-z0-9-]+)(?=\.deb$|__)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A source's files, not yet looked into."""

    image: Path
    # A tree that may hold lib/modules/RELEASE or RELEASE.
    modules: Path | None
    # Whether it is an error when that tree has no modules of the image's release.
    modules_required: bool
    # For people: which packages or file.
    description: str
    # What else they should know of it, to be read after the description; empty when nothing.
    remark: str = ""


def request(source: KernelSource, architecture: str) -> dict[str, Any]:
    """Return what identifies a request: equal requests give the same kernel, and changed files change the request."""
    match source:
        case DebianKernel():
            what: dict[str, Any] = {"debian": source.version, "flavour": _flavour(source)}
        case PackageDirectoryKernel():
            directory = _existing(source.path, "kernel packages")
            what = {
                "packages": str(directory),
                "files": [_stamp(file, directory) for file in _packages(directory)],
            }
        case ImageKernel():
            image = _existing(source.path, "kernel image")
            what = {"image": _stamp(image, image.parent), "modules": None, "directory": str(image.parent)}
            if source.modules is not None:
                tree = _existing(source.modules, "kernel modules")
                what["modules"] = [str(tree), *_stamps(tree)]
        case _:
            assert_never(source)
    return {"architecture": architecture, "command_line": source.command_line, **what}


def obtain(source: KernelSource, architecture: str, packages: AptRoot, scratch: Path, progress: Progress) -> Found:
    """Bring a source's files together. Raises NotFound or InvalidInput saying what to change."""
    match source:
        case DebianKernel():
            return _from_debian(source, architecture, packages, scratch, progress)
        case PackageDirectoryKernel():
            return _from_directory(Path(source.path), architecture, scratch, progress)
        case ImageKernel():
            modules = None if source.modules is None else Path(source.modules)
            return Found(
                image=Path(source.path),
                modules=modules,
                modules_required=modules is not None,
                description=shown(source.path),
            )
        case _:
            assert_never(source)


def _from_debian(
    source: DebianKernel, architecture: str, packages: AptRoot, scratch: Path, progress: Progress
) -> Found:
    debian = DEBIAN_ARCHITECTURES[architecture]
    if not re.fullmatch(r"[0-9][A-Za-z0-9.+~-]*", source.version) or not re.fullmatch(r"[a-z0-9]*", _flavour(source)):
        raise InvalidInput(
            f"{source.version!r} with flavour {source.flavour!r} is not a Debian kernel, such as 7.1.13 with cloud."
        )
    flavour = _flavour(source)
    tail = f"-{flavour}-{debian}" if flavour else f"-{debian}"
    offered = packages.versions(f"linux-(binary|image|modules)-[0-9][A-Za-z0-9.+~]*{re.escape(tail)}", debian, progress)
    chosen = choose_packages(offered, source.version, tail)
    if not chosen:
        versions = kernel_versions(offered, tail)
        raise NotFound(
            f"The mirror ({', '.join(packages.suites)}) has no kernel {source.version}{tail}. It has "
            f"{', '.join(versions) if versions else 'none of this flavour'}. "
            f"Change kernels.{architecture}.debian.version in the rollout (in the demo: KERNELS=OLD:NEW), "
            "or set KERNROLL_DEBIAN_MIRROR to a mirror that still has it."
        )
    archives = packages.exact(chosen, debian, progress)
    label = f"kernel {source.version}{tail}"
    unpack(packages.fetch(archives, progress, label=label), scratch, progress, label=label)
    description = "Debian " + ", ".join(f"{package.package} {package.version}" for package in chosen)
    return _unpacked(scratch, description)


def _flavour(source: DebianKernel) -> str:
    """Return the flavour as package names have it: the generic kernel's has no name."""
    return "" if source.flavour == "generic" else source.flavour


def choose_packages(offered: Sequence[PackageVersion], version: str, tail: str) -> list[PackageVersion]:
    """Return the packages that together hold a kernel: image, and modules where they are a package of their own.

    `version` is the kernel's ("7.1.13", "7.1.13+deb13") or the package's ("7.1.13-1~bpo13+1"). Up to 6.18 linux-image
    holds both; later linux-binary holds the image and linux-modules the modules, which the archive drops earlier. Of
    several matching builds the last one counts.
    """
    shape = re.compile(rf"linux-(binary|image|modules)-([^-]+){re.escape(tail)}")
    wanted = re.compile(rf"{re.escape(version)}(\+deb[0-9]+)?")
    by_build: dict[str, dict[str, PackageVersion]] = {}
    for package in offered:
        match = shape.fullmatch(package.package)
        if match and (package.version == version or wanted.fullmatch(match[2])):
            by_build.setdefault(match[2], {})[match[1]] = package
    for build in sorted(by_build, reverse=True):
        kinds = by_build[build]
        if "binary" in kinds:
            return [kinds[kind] for kind in ("binary", "modules") if kind in kinds]
        if "image" in kinds:
            return [kinds["image"]]
    return []


def kernel_versions(offered: Sequence[PackageVersion], tail: str) -> list[str]:
    """Return the upstream versions among offered packages, oldest first."""
    pattern = re.compile(rf"linux-(?:binary|image)-([0-9.]+)[^-]*{re.escape(tail)}")
    found = {match[1] for package in offered if (match := pattern.fullmatch(package.package))}
    return sorted(found, key=lambda version: [int(part) for part in version.split(".") if part])


def _from_directory(directory: Path, architecture: str, scratch: Path, progress: Progress) -> Found:
    there = _packages(directory)
    if there and there[0].suffix == _RPM:
        return _from_rpms(directory, there, architecture, scratch, progress)
    debian = DEBIAN_ARCHITECTURES[architecture]
    files = [file for file in there if _architecture(file) in (debian, "")]
    candidates = [file for file in files if _KERNEL_PACKAGE.search(file.name) and not _NO_KERNEL.search(file.name)]
    named = {file: found for file in candidates if (found := first_member(file, _IMAGE))}
    if not named:
        raise InvalidInput(
            f"{shown(directory)} has no linux-image-*_{debian}.deb with a kernel, and no rpm package. "
            f"Run `make bindeb-pkg` (or `make binrpm-pkg`) for {architecture}."
        )
    if len(named) > 1:
        names = printable(", ".join(file.name for file in named))
        raise InvalidInput(
            f"{shown(directory)} has several kernels for {architecture}: {names}. Leave one of them there."
        )
    ((image, found),) = named.items()
    release = checked_release(found["boot"] or found["tree"], f"The kernel in {shown(image)}")
    modules = _modules(image, release, candidates)
    unpack([image, *modules], scratch, progress, label=shown(image.name))
    return replace(_unpacked(scratch, shown(image)), remark=_remark(modules, [*files], image))


def _from_rpms(directory: Path, files: Sequence[Path], architecture: str, scratch: Path, progress: Progress) -> Found:
    kernel = kernel_of(directory, files, architecture)
    image, *modules = kernel.paths
    unpack_rpms(kernel.paths, scratch, progress, label=shown(image.name))
    found = _unpacked(scratch, shown(image))
    return replace(found, remark=_remark(modules, [*kernel.paths, *kernel.unused], image))


def installable_rpms(directory: Path, architecture: str) -> Sequence[Path]:
    """Return the rpm packages that install a directory's kernel; none where it holds no rpm packages."""
    files = [path for path in _packages(directory) if path.suffix == _RPM]
    return kernel_of(directory, files, architecture).paths if files else ()


def _architecture(package: Path) -> str:
    """Return a package's architecture as its file's name tells it; empty when it does not."""
    found = _ARCHITECTURE.search(package.name)
    return found[1] if found else ""


def _modules(image: Path, release: str, candidates: Sequence[Path]) -> list[Path]:
    """Return the packages with a release's modules: of one that is there in several versions the image's, or the last.

    Their names follow many rules; what counts is the release in the paths.
    """
    wanted = re.compile(rf"(?:usr/)?lib/modules/{re.escape(release)}/.")
    _, _, version = image.name.partition("_")
    by_package: dict[str, Path] = {}
    for file in sorted(candidates, key=lambda file: (file.name.partition("_")[2] == version, file.name)):
        package = file.name.partition("_")[0]
        if file != image and ("modules" in package or release in package) and first_member(file, wanted):
            by_package[package] = file
    return [by_package[package] for package in sorted(by_package)]


def _remark(modules: Sequence[Path], files: Sequence[Path], image: Path) -> str:
    with_modules = f" with {names_text([file.name for file in modules])}" if modules else ""
    unused = [file.name for file in files if file != image and file not in modules]
    return printable(with_modules + (f" (beside it and not used: {names_text(unused)})" if unused else ""), 1024)


def _unpacked(tree: Path, description: str) -> Found:
    names = [f"boot/{name}" for name in _names(tree, "boot") if re.match("vmlinu[xz]-", name)]
    for folder in ("lib/modules", "usr/lib/modules"):
        names += [f"{folder}/{name}/vmlinuz" for name in _names(tree, folder)]
    images = {locate(tree, name) for name in names if is_file(tree, name)}
    if len(images) != 1:
        raise InvalidInput(f"{description} holds {len(images)} kernel images; one is expected.")
    return Found(image=images.pop(), modules=tree, modules_required=False, description=description)


def _names(tree: Path, folder: str) -> list[str]:
    place = locate(tree, folder)
    return sorted(os.listdir(place)) if place.is_dir() else []


def _packages(directory: Path) -> list[Path]:
    """Return the package files of a directory, of one kind. Raises InvalidInput for what is called one and is none."""
    found = []
    with os.scandir(directory) as listing:
        for count, entry in enumerate(listing):
            if count > _MOST_ENTRIES:
                raise InvalidInput(f"{shown(directory)} (kernel packages) holds more than {_MOST_ENTRIES} files.")
            if entry.name.endswith((".deb", _RPM)):
                found.append(Path(entry.path))
    if len({path.suffix for path in found}) > 1:
        raise InvalidInput(
            f"{shown(directory)} (kernel packages) holds .deb and .rpm packages. Leave those of one kind there: a "
            "rollout installs the same packages on all hosts of an architecture."
        )
    for path in found:
        _require_file(path, "kernel package", MOST_BYTES)
    return sorted(found)


def _existing(path: str, what: str) -> Path:
    found = Path(path)
    if "\0" in path or not found.exists():
        raise NotFound(
            f"There is no {shown(path)} ({what}). Check the path; it is looked up on the machine of the controller."
        )
    if what == "kernel image":
        _require_file(found, what, MOST_IMAGE_BYTES)
    elif not found.is_dir():
        raise InvalidInput(f"{shown(path)} ({what}) is not a directory.")
    if not os.access(found, os.R_OK):
        raise InvalidInput(f"{shown(path)} ({what}) cannot be read by this user. Change its permissions.")
    return found.absolute()


def _require_file(path: Path, what: str, most_bytes: int) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidInput(f"{shown(path)} ({what}) cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(f"{shown(path)} ({what}) is {kind_of(status.st_mode)}, not a file.")
    if status.st_size > most_bytes:
        raise InvalidInput(f"{shown(path)} ({what}) is larger than {size_text(most_bytes)}, the most that is read.")


def _stamp(file: Path, base: Path) -> list[str | int]:
    return [file.relative_to(base).as_posix(), *_state(file.stat())]


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _stamps(tree: Path) -> list[list[str | int]]:
    found: list[list[str | int]] = [
        [os.path.relpath(entry.path, tree), *_state(entry.stat(follow_symlinks=False))]
        for entry in entries(tree)
        if not entry.is_symlink()
    ]
    return sorted(found, key=lambda stamp: str(stamp[0]))
