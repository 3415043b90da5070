"""QEMU for both architectures: the machine's own when it is new enough, else unpacked from Debian into the cache."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.kernels.debian import AptRoot, unpack
from controller.adapters.kernels.debian.suites import host_architecture, host_packages
from controller.adapters.local.cache import Cache, Progress, no_progress, request_key
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent

MINIMUM_QEMU = 10
_PACKAGES = {"x86_64": "qemu-system-x86", "arm64": "qemu-system-arm"}
_BINARIES = {"x86_64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
_TRIPLETS = {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_DPKG_STATUS = Path("/var/lib/dpkg/status")
# What direct-boot guests need of the packages; the rest, mostly other machines, is left out.
_KEPT_BINARIES = ("qemu-img", *_BINARIES.values())
_KEPT_FIRMWARE = ("pvh.bin", "kvmvapic.bin", "linuxboot.bin", "linuxboot_dma.bin", "efi-virtio.rom")
_TIMEOUT_S = 60.0
_FORMAT = 1
_ROOM_BYTES = 400 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuTool:
    """How to start QEMU for one guest architecture."""

    binary: str
    # To stand first on its command line: where its firmware is.
    arguments: tuple[str, ...]
    # To be added to the environment: where its libraries are.
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolset:
    """The programs that the lab starts VMs with. Get one from `prepare_toolset`."""

    # Where QEMU was unpacked; None when the machine's own is used throughout.
    directory: Path | None
    # For people and keys, for example "10.0.2".
    version: str

    def qemu(self, architecture: str) -> QemuTool:
        """Return the emulator of a guest architecture ("x86_64" or "arm64")."""
        return self._tool(_BINARIES[architecture])

    @property
    def image_tool(self) -> QemuTool:
        """qemu-img."""
        return self._tool("qemu-img")

    def create_overlay(self, base: Path, path: Path) -> None:
        """Create a qcow2 image that starts as the read-only raw image `base` and holds what a VM changes."""
        command: list[str | Path] = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.absolute(), path]
        self._run_image_tool(command, f"Creating the disk {path.name}")

    def create_swap_disk(self, path: Path, size_bytes: int) -> str:
        """Create an empty, sparse disk and return its format: raw, or qcow2 where files cannot be that large."""
        try:
            with path.open("wb") as output:
                output.truncate(size_bytes)
        except OSError:
            # Too large a file for this file system (EFBIG and its relatives); qcow2 needs no large file.
            path.unlink(missing_ok=True)
            self._run_image_tool(
                ["create", "-q", "-f", "qcow2", path, str(size_bytes)], f"Creating the disk {path.name}"
            )
            return "qcow2"
        return "raw"

    def _run_image_tool(self, arguments: list[str | Path], what: str) -> None:
        tool = self.image_tool
        run_tool([tool.binary, *arguments], timeout_s=_TIMEOUT_S, what=what, environment=tool.environment)

    def _tool(self, name: str) -> QemuTool:
        unpacked = None if self.directory is None else self.directory / "usr/bin" / name
        if unpacked is not None and unpacked.is_file():
            return QemuTool(
                binary=str(unpacked), arguments=_firmware_arguments(unpacked), environment=_library_path(unpacked)
            )
        found = _installed(name)
        if found is None:
            raise Permanent(
                f"{name} is neither installed nor in the cache. Delete the cache's qemu directory and try again."
            )
        return QemuTool(binary=found, arguments=(), environment={})


def prepare_toolset(cache: Cache, progress: Progress = no_progress, packages: AptRoot | None = None) -> Toolset:
    """Return a usable toolset, fetched and unpacked on first use.

    Raises Permanent (unsupported release, disk full) or Temporary (mirror out of reach).
    """
    own = _own_version()
    if own is not None:
        return Toolset(directory=None, version=own)
    index = (
        "qemu/" + request_key({"format": _FORMAT, "host": host_architecture(), "status": _machine_state()}) + ".json"
    )
    known = cache.read_json(index)
    if known is not None and (cache.root / str(known["directory"])).is_dir():
        return Toolset(directory=cache.root / str(known["directory"]), version=str(known["version"]))
    root = packages or host_packages(cache)
    cache.require_room(_ROOM_BYTES, "QEMU")
    wanted = [*_PACKAGES.values(), "qemu-utils"]
    archives = root.closure(wanted, root.architectures[0], progress, default_release=root.suites[-1])
    key = request_key({"format": _FORMAT, "files": sorted(archive.sha256 for archive in archives)})
    version = next(
        (re.sub(r"^\d+:|[-+].*$", "", item.version) for item in archives if item.package == "qemu-utils"), "installed"
    )

    def build(directory: Path) -> None:
        files = root.fetch(archives, progress, label=f"QEMU {version}")
        unpack(files, directory, progress, label=f"QEMU {version}")
        _prune(directory)

    name = f"qemu/{version}-{key}"
    directory = cache.publish(name, build)
    toolset = Toolset(directory=directory, version=version)
    for architecture in _PACKAGES:
        _check(toolset.qemu(architecture))
    cache.write_json(index, {"directory": name, "version": version})
    return toolset


def _machine_state() -> list[int]:
    """Return what changes when packages of the machine change: the unpacked QEMU uses the machine's libraries too."""
    try:
        status = _DPKG_STATUS.stat()
    except FileNotFoundError:
        return []
    return [status.st_mtime_ns, status.st_size]


def _own_version() -> str | None:
    """Return the version of the machine's own QEMU when all its parts are there and new enough, else None."""
    versions = set()
    for name in _KEPT_BINARIES:
        binary = _installed(name)
        if binary is None:
            return None
        versions.add(_version(QemuTool(binary=binary, arguments=(), environment={})))
    oldest = min(versions, key=lambda version: int(version.split(".")[0]))
    return oldest if int(oldest.split(".")[0]) >= MINIMUM_QEMU else None


def _check(tool: QemuTool) -> None:
    version = _version(tool)
    if int(version.split(".")[0]) < MINIMUM_QEMU:
        raise Permanent(f"{tool.binary} is version {version}; the lab needs {MINIMUM_QEMU} or newer.")


def _version(tool: QemuTool) -> str:
    output = run_tool(
        [tool.binary, "--version"], timeout_s=_TIMEOUT_S, what=f"Trying {tool.binary}", environment=tool.environment
    )
    match = re.search(rb"version (\d+(\.\d+)*)", output)
    return match[1].decode() if match else "0"


def _installed(name: str) -> str | None:
    return shutil.which(name)


def _firmware_arguments(binary: Path) -> tuple[str, ...]:
    if not binary.name.startswith("qemu-system"):
        return ()
    root = binary.parent.parent
    arguments: list[str] = []
    # Parts that the machine has already were not unpacked.
    for folder in ("share/qemu", "share/seabios"):
        for candidate in (root / folder, Path("/usr") / folder):
            if candidate.is_dir():
                arguments += ["-L", str(candidate)]
    return tuple(arguments)


def _library_path(binary: Path) -> dict[str, str]:
    root = binary.parent.parent.parent
    triplet = _TRIPLETS[host_architecture()]
    folders = [str(root / folder / triplet) for folder in ("usr/lib", "lib") if (root / folder / triplet).is_dir()]
    return {"LD_LIBRARY_PATH": ":".join(folders)}


def _prune(directory: Path) -> None:
    """Remove what no direct-boot guest uses: three quarters of the packages."""
    for file in (directory / "usr/bin").iterdir():
        if file.name not in _KEPT_BINARIES:
            file.unlink()
    for file in (directory / "usr/share/qemu").glob("*"):
        if file.name not in _KEPT_FIRMWARE:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    for folder in ("doc", "man", "icons", "applications", "lintian"):
        shutil.rmtree(directory / "usr/share" / folder, ignore_errors=True)
    for unused in ("usr/libexec", "usr/lib/ipxe", "etc", "var"):
        shutil.rmtree(directory / unused, ignore_errors=True)
