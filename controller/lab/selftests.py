"""The kernel's own selftests of memory and swap for guests: built here, statically, from Debian's linux-source.

An emulated guest would take an hour to build them. For the other architecture Debian's cross compiler is unpacked into
the cache, never installed; its C library comes with it.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controller.adapters.kernels.debian import AptRoot, unpack
from controller.adapters.kernels.debian.suites import has_host_packages, host_architecture, host_packages
from controller.adapters.local.cache import Cache, Progress, request_key
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent
from controller.lab.kernel_source import extract_kept, newest, offered_sources, source_tarball

# Where the agent looks for them.
SELFTESTS_FOLDER = "usr/libexec/kselftests"
# What the agent runs, by folder.
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "mm": (
        *("madv_populate", "mkdirty", "mremap_test", "mremap_dontunmap", "mlock2-tests", "mrelease_test", "soft-dirty"),
        *("pagemap_ioctl", "guard-regions", "process_madv", "merge", "droppable", "cow", "ksm_functional_tests"),
        *("split_huge_page_test", "khugepaged", "uffd-unit-tests", "uffd-stress", "transhuge-stress"),
    ),
    "cgroup": ("test_memcontrol", "test_zswap"),
}

_FORMAT = 1
_SELFTESTS = "tools/testing/selftests"
_FOLDERS = (
    *("arch/arm64", "arch/x86", "include/asm-generic", "include/uapi", "scripts", "usr"),
    *("tools/arch", "tools/build", "tools/include", "tools/lib", "tools/scripts", _SELFTESTS),
)
_FILES = ("COPYING", "Kbuild", "Kconfig", "Makefile", "mm/gup_test.h", "lib/test_hmm_uapi.h")
_LEFT_OUT = ("arch/arm64/boot/dts", "arch/arm64/kvm", "arch/x86/kvm")
_KERNEL_NAMES = {"x86_64": "x86_64", "arm64": "arm64"}
_PREFIXES = {"x86_64": "x86_64-linux-gnu-", "arm64": "aarch64-linux-gnu-"}
_TRIPLETS = {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_CROSS_PACKAGES = {
    "x86_64": ("gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"),
    "arm64": ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"),
}
_BUILD_TOOLS = ("gcc", "make")
_ROOM_BYTES = 800 * 2**20
_TIMEOUT_S = 1800.0
# What an image's key takes of this module: another one makes another image.
SELFTESTS_RECIPE = request_key({"format": _FORMAT, "programs": PROGRAMS, "kept": [_FOLDERS, _FILES, _LEFT_OUT]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Selftests:
    """The built programs in the cache, in folders as the kernel's own installation has them."""

    path: Path
    # What they were built from, for people and digests.
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiler:
    """How make is told of the compiler."""

    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def can_build(architecture: str) -> bool:
    """Return whether selftests can be built here for guests of an architecture; images go without where not."""
    native = architecture == host_architecture()
    return all(shutil.which(tool) for tool in _BUILD_TOOLS) and (native or has_host_packages())


def is_kept(member: str) -> bool:
    """Tell whether a file of the source, named from its top, is needed to build the selftests."""
    return member in _FILES or (_is_below(member, _FOLDERS) and not _is_below(member, _LEFT_OUT))


def prepare_selftests(cache: Cache, architecture: str, packages: AptRoot, progress: Progress) -> Selftests:
    """Return the programs, built on first use; about two minutes, 150 MB to fetch.

    Raises Permanent (not on the mirror, disk full, nothing could be built) or Temporary (mirror out of reach).
    """
    chosen = newest(offered_sources(packages, progress))
    origin = f"{chosen.package} {chosen.version}"
    label = f"the {architecture} selftests"

    def build(directory: Path) -> None:
        cache.require_room(_ROOM_BYTES, f"building {label}")
        compiler = _compiler(cache, architecture, progress)
        name = f"selftests-{architecture}"
        with cache.lock(name), cache.scratch(name) as scratch:
            with source_tarball(cache, packages, chosen, progress, label=name) as tarball:
                progress(f"unpacking the source of {label}", 0, 0)
                extract_kept(tarball, scratch / "source", is_kept)
            progress(f"building {label}", 0, 0)
            _make(scratch / "source", scratch / "output", architecture, compiler)
            _collect(scratch / "output", directory, origin)

    recipe = f"{chosen.package}-{chosen.version}-{architecture}-{SELFTESTS_RECIPE}"
    return Selftests(path=cache.publish(f"selftests/{recipe}", build), origin=origin)


def _make(source: Path, output: Path, architecture: str, compiler: _Compiler) -> None:
    make: tuple[str | Path, ...] = (
        "make",
        "-s",
        "-j2",
        f"ARCH={_KERNEL_NAMES[architecture]}",
        *compiler.arguments,
        "-C",
    )
    environment = {"MAKEFLAGS": "", "CCACHE_DISABLE": "1", **compiler.environment}
    what = f"Building the {architecture} selftests"
    run_tool([*make, source, "headers"], timeout_s=_TIMEOUT_S, what=what, environment=environment)
    for folder, names in PROGRAMS.items():
        sources = source / _SELFTESTS / folder
        wanted = [output / folder / name for name in names if (sources / f"{name}.c").exists()]
        if not wanted:
            # Without a target make would build whatever there is.
            continue
        (output / folder).mkdir(parents=True)
        command: list[str | Path] = [*make, sources, "-k", f"OUTPUT={output / folder}", "USERLDFLAGS=-static", *wanted]
        # One that does not build is left out, and the agent says so; that none did is found afterwards.
        tolerant = ["sh", "-c", '"$@" || true', "sh"]
        run_tool([*tolerant, *command], timeout_s=_TIMEOUT_S, what=what, environment=environment)


def _collect(output: Path, directory: Path, origin: str) -> None:
    """Move what was built to where it stays. Raises Permanent when nothing was."""
    found = [output / folder / name for folder, names in PROGRAMS.items() for name in names]
    found = [path for path in found if path.is_file()]
    if not found:
        raise Permanent(f"None of the selftests of {origin} could be built: is libc6-dev installed beside gcc?")
    for path in found:
        target = directory / path.parent.name / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
        target.chmod(0o755)


def _compiler(cache: Cache, architecture: str, progress: Progress) -> _Compiler:
    """Return this machine's own compiler, or a cross compiler in the cache."""
    if architecture == host_architecture():
        return _Compiler()
    root = host_packages(cache)
    label = f"a compiler for {architecture}"
    archives = root.closure(_CROSS_PACKAGES[architecture], root.architectures[0], progress)
    key = request_key({"format": _FORMAT, "files": sorted(archive.sha256 for archive in archives)})

    def build(directory: Path) -> None:
        unpack(root.fetch(archives, progress, label=label), directory, progress, label=label)

    directory = cache.publish(f"compilers/{architecture}-{key}", build)
    libraries = directory / "usr/lib" / _TRIPLETS[host_architecture()]
    return _Compiler(
        arguments=(f"CROSS_COMPILE={directory / 'usr/bin' / _PREFIXES[architecture]}",),
        environment={"LD_LIBRARY_PATH": str(libraries)},
    )


def _is_below(member: str, folders: tuple[str, ...]) -> bool:
    return any(member.startswith(f"{folder}/") for folder in folders)
