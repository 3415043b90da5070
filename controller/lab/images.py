"""Guest images: one read-only base image an architecture, and the small seed disk that makes a VM a particular host."""

import hashlib
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.kernels.debian import DEBIAN_ARCHITECTURES, AptRoot, unpack
from controller.adapters.kernels.debian.suites import guest_packages
from controller.adapters.local.cache import Cache, Progress, no_progress, request_key
from controller.adapters.local.ext4 import build_ext4
from controller.adapters.local.wheels import download_wheels, install_wheels, wheel_requirements
from controller.domain.errors import Permanent
from controller.lab import rootfs
from controller.lab.bytecode import GUEST_PYTHON, compile_tree, guest_python, merge_usr
from controller.lab.kernel_source import GUEST_FOLDER, SOURCE_RECIPE, SourceTree, prepare_source
from controller.lab.selftests import SELFTESTS_FOLDER, SELFTESTS_RECIPE, Selftests, can_build, prepare_selftests

# Tells the first process of a guest to start Python, print PROBE_PASSED and switch off.
PROBE_ARGUMENT = "kernroll.probe"
PROBE_PASSED = "kernroll-probe: passed"
# Where a guest finds the seed's files; Python packages belong below `app`.
SEED_MOUNT = "/run/kernroll/seed"
SEED_APP = "app"

_FORMAT = 1
# The root file system is found by this disk signature: NVMe names change from boot to boot, and there is no initrd.
_SIGNATURE = 0x6B726F6C
_SECTOR_BYTES = 512
_PARTITION_START_BYTES = 2**20
# Room for what a guest writes; the base image and its overlays are sparse.
_ROOT_BYTES = 4 * 2**30
_JOURNAL_MIB = 16
_SPARE_INODES = 60_000
_ROOM_BYTES = 700 * 2**20
_CONSOLES = {"x86_64": "console=ttyS0", "arm64": "console=ttyAMA0"}
_QUIRKS = {
    # An emulated clock is never better than the first guess, and probing absent hardware takes time.
    "x86_64": "no_timer_check tsc=reliable i8042.noaux i8042.nokbd",
    "arm64": "",
}

# How much of its log a dying kernel keeps; the default is a screen or two, and an oops is longer.
_KEPT_LOG = {"x86_64": "pstore.kmsg_bytes=65536", "arm64": ""}

# A busy machine interrupts an emulated guest while it measures the speed of its own clock, which then runs several
# times too fast and makes every deadline of the guest too short; the speed of this timer is fixed.
_EMULATED_CLOCK = {"x86_64": "clocksource=acpi_pm", "arm64": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestImage:
    """A read-only raw disk image that guests' disks start from."""

    path: Path
    # Over the versions of everything in it: equal digests, equal userland.
    digest: str


def base_command_line(architecture: str, *, emulated: bool = True) -> str:
    """Return the kernel command line that every guest boots with; a kernel's own is appended to it."""
    words = [
        _CONSOLES[architecture],
        f"root=PARTUUID={_SIGNATURE:08x}-01 rootfstype=ext4 rw init=/sbin/kernroll-init",
        # With QEMU's -no-reboot a panic ends the VM after these seconds.
        "panic=5",
        # Page table isolation makes an emulated guest several times slower.
        "mitigations=off",
        # The console then shows how far a boot came that hung; printing it takes no time that matters.
        "loglevel=7 random.trust_cpu=on random.trust_bootloader=on",
        # Free pages parked on a processor's own list count as used; by itself that list grows to tens of MiB and
        # shrinks again much later, which a reading of used memory cannot tell from what a kernel structure costs.
        "sysctl.vm.percpu_pagelist_high_fraction=1000",
        _QUIRKS[architecture],
        _KEPT_LOG[architecture],
        _EMULATED_CLOCK[architecture] if emulated else "",
    ]
    return " ".join(word for word in words if word)


def prepare_guest(
    cache: Cache,
    architecture: str,
    progress: Progress = no_progress,
    packages: AptRoot | None = None,
    *,
    workloads: bool = False,
) -> GuestImage:
    """Return the base image of an architecture, built on first use; with what `workloads` need, if asked.

    That is the programs that they run, the kernel's selftests where they can be built here, and as much of a kernel's
    source as building a few objects takes.

    Once built it stays as it is until its recipe changes. Raises Permanent (disk full, missing tool) or Temporary
    (mirror or package index out of reach).
    """
    wanted = (*rootfs.PACKAGES, *rootfs.WORKLOAD_PACKAGES) if workloads else rootfs.PACKAGES
    selftests = workloads and can_build(architecture)
    recipe = {
        "format": _FORMAT,
        "packages": wanted,
        "wheels": wheel_requirements(),
        "init": (rootfs.GUEST_FILES / "kernroll-init").read_text(encoding="utf-8"),
        "root_bytes": _ROOT_BYTES,
        **({"source": SOURCE_RECIPE} if workloads else {}),
        **({"selftests": SELFTESTS_RECIPE} if selftests else {}),
    }
    name = f"guests/{architecture}-{request_key(recipe)}"
    root = packages or guest_packages(cache)

    def build(directory: Path) -> None:
        cache.require_room(_ROOM_BYTES, f"building the {architecture} guest image")
        with cache.scratch(f"tree-{name}") as scratch:
            contents = _build_tree(cache, architecture, scratch, root, progress=progress, wanted=wanted)
            if workloads:
                contents.append(_add_source(prepare_source(cache, root, progress), scratch / "root"))
            if selftests:
                built = prepare_selftests(cache, architecture, root, progress)
                contents.append(_add_selftests(built, scratch / "root"))
            progress(f"writing the {architecture} image", 0, 0)
            _write_disk(scratch / "root", directory / "base.raw")
            digest = hashlib.sha256("\n".join(contents).encode()).hexdigest()
            cache.write_json(
                (directory / "guest.json").relative_to(cache.root).as_posix(), {"digest": digest, "contents": contents}
            )

    directory = cache.publish(name, build)
    description = cache.read_json(f"{name}/guest.json")
    if description is None:
        raise Permanent(f"The guest image {directory} is damaged. Delete that directory; it is built again.")
    return GuestImage(path=directory / "base.raw", digest=str(description["digest"]))


def build_seed(cache: Cache, path: Path, files: Mapping[str, bytes | Path], progress: Progress = no_progress) -> None:
    """Write a VM's seed disk: `files` by their path on it, contents given or copied from a file or directory.

    Python below `app` is compiled for the guests. The disk is replaced atomically.
    """
    key = f"seed-{request_key({'path': str(path.absolute())})}"
    with cache.lock(key), cache.scratch(key) as scratch:
        tree = scratch / "tree"
        for name, content in files.items():
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(content)
            elif content.is_dir():
                shutil.copytree(
                    content, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"), dirs_exist_ok=True
                )
            else:
                shutil.copyfile(content, target)
        if (tree / SEED_APP).is_dir():
            python = guest_python(cache, guest_packages(cache), progress)
            compile_tree(python, tree, [SEED_APP], SEED_MOUNT)
        draft = path.with_name(f".{path.name}.draft")
        draft.unlink(missing_ok=True)
        build_ext4(tree, draft)
        draft.replace(path)


def guest_settings(*, hostname: str, network: bool) -> bytes:
    """Return the contents of the seed's file guest.env, which a guest's first process reads."""
    return f"hostname={hostname}\nnetwork={'user' if network else 'none'}\n".encode()


def _build_tree(
    cache: Cache, architecture: str, scratch: Path, packages: AptRoot, *, progress: Progress, wanted: tuple[str, ...]
) -> list[str]:
    """Build the userland in scratch/root and return what went into it, one line each."""
    label = f"the {architecture} userland"
    tree = scratch / "root"
    merge_usr(tree)
    archives = packages.closure(wanted, DEBIAN_ARCHITECTURES[architecture], progress)
    unpack(packages.fetch(archives, progress, label=label), tree, progress, label=label)
    wheels = download_wheels(architecture, GUEST_PYTHON, scratch / "wheels", progress)
    install_wheels(wheels, tree / rootfs.WHEELS_FOLDER)
    rootfs.complete(tree)
    progress(f"compiling Python for {architecture}", 0, 0)
    python = guest_python(cache, packages, progress)
    compile_tree(python, tree, [f"usr/lib/python{GUEST_PYTHON}", "usr/lib/python3/dist-packages", rootfs.WHEELS_FOLDER])
    return [f"{archive.package} {archive.version}" for archive in archives] + [wheel.name for wheel in wheels]


def _add_source(source: SourceTree, tree: Path) -> str:
    """Copy a kernel's source to where the agent looks for one and return what it is."""
    shutil.copytree(source.path, tree / GUEST_FOLDER / source.name, symlinks=True)
    return f"{source.origin}, for objects only"


def _add_selftests(selftests: Selftests, tree: Path) -> str:
    """Copy the kernel's selftests to where the agent looks for them and return what they are."""
    shutil.copytree(selftests.path, tree / SELFTESTS_FOLDER)
    return f"selftests of {selftests.origin}"


def _write_disk(tree: Path, image: Path) -> None:
    """Write a disk with one partition that holds the tree."""
    build_ext4(
        tree,
        image,
        size_bytes=_ROOT_BYTES,
        offset_bytes=_PARTITION_START_BYTES,
        journal_mib=_JOURNAL_MIB,
        spare_inodes=_SPARE_INODES,
    )
    with image.open("r+b") as disk:
        disk.write(partition_table(_PARTITION_START_BYTES, _ROOT_BYTES))


def partition_table(start_bytes: int, size_bytes: int) -> bytes:
    """Return a master boot record with one Linux partition and the signature by which guests find it."""
    start, sectors = start_bytes // _SECTOR_BYTES, size_bytes // _SECTOR_BYTES
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", start, sectors)
    return bytes(440) + struct.pack("<IH", _SIGNATURE, 0) + entry + bytes(48) + b"\x55\xaa"
