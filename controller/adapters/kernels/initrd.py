"""Initial RAM disks, for kernels whose disk driver or root file system is a module: they load those first."""

import re
from collections.abc import Sequence
from pathlib import Path

from controller.adapters.kernels.debian import DEBIAN_ARCHITECTURES, AptRoot, unpack
from controller.adapters.kernels.image import MOST_MODULE_BYTES, decompress
from controller.adapters.local.cache import Progress, request_key
from controller.adapters.local.named_files import copy_file, read_file, shown
from controller.adapters.local.tools import run_tool
from controller.adapters.local.trees import is_file, locate
from controller.domain.errors import InvalidInput, Permanent

# What directly booted machines have: NVMe disks with an ext4 root, and a virtio port or network card.
_NEEDED = ("nvme", "ext4", "virtio_pci")
# Brings the first process's shell and tools in one file.
_PACKAGE = "busybox-static"
_INIT = Path(__file__).parent / "initrd-init"
_TIMEOUT_S = 60.0
# What a request's key takes of this module: made otherwise, a kernel that was stored before is made again.
INITRD_RECIPE = request_key({"init": _INIT.read_text(), "needed": _NEEDED})


def recipe(load: Sequence[Path]) -> str:
    """Return what tells an initial RAM disk from one that is made otherwise of the same modules; empty without one."""
    return request_key({"made": INITRD_RECIPE, "modules": [each.name for each in load]}) if load else ""


def modules_to_load(tree: Path, release: str) -> list[Path]:
    """Return the module files without which no root file system is found, in the order to load them in.

    Empty where the drivers are built in, or where the kernel has none. `tree` holds lib/modules/RELEASE, indexed.
    """
    folder = tree / "lib/modules" / release
    offered = {_module_name(line.partition(":")[0]) for line in _lines(folder / "modules.dep")}
    found: list[Path] = []
    for name in _NEEDED:
        if name in offered:
            found += [each for each in _with_dependencies(tree, release, name) if each not in found]
    return found


def _lines(index: Path) -> list[str]:
    # Names of files need not be text.
    return read_file(index, MOST_MODULE_BYTES).decode(errors="surrogateescape").splitlines()


def _with_dependencies(tree: Path, release: str, name: str) -> list[Path]:
    printed = run_tool(
        ["modprobe", "-d", tree, "-S", release, "-C", "/dev/null", "--show-depends", name],
        timeout_s=_TIMEOUT_S,
        what=f"Looking up what the module {name} of {release} needs",
    ).decode(errors="surrogateescape")
    found = [Path(match[1]) for match in re.finditer(r"^insmod (\S+)", printed, re.MULTILINE)]
    for path in found:
        if not path.is_relative_to(tree) or not is_file(tree, path.relative_to(tree).as_posix()):
            raise InvalidInput(f"The modules of {release} name {shown(path)} for {name}, which is no file of theirs.")
    return found


def _module_name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


def fetch_busybox(architecture: str, packages: AptRoot, scratch: Path, progress: Progress) -> Path:
    """Return a static busybox. Raises Permanent (not on the mirror) or Temporary (mirror out of reach)."""
    debian = DEBIAN_ARCHITECTURES[architecture]
    archives = packages.fetch(packages.closure([_PACKAGE], debian, progress), progress, label=_PACKAGE)
    unpack(archives, scratch, progress, label=_PACKAGE)
    places = {locate(scratch, name) for name in ("bin/busybox", "usr/bin/busybox") if is_file(scratch, name)}
    if len(places) != 1:
        raise Permanent(f"{_PACKAGE} ({debian}) has {len(places)} programs called busybox where one was expected")
    return places.pop()


def build_initrd(load: Sequence[Path], busybox: Path, tree: Path, target: Path) -> None:
    """Write the RAM disk (a cpio archive) that loads these modules and mounts the root. `tree` is an empty directory.

    Raises InvalidInput naming a module that is no file or cannot be decompressed.
    """
    for name in ("bin", "dev", "modules", "proc", "sys", "target"):
        (tree / name).mkdir()
    for source, name in ((busybox, "bin/busybox"), (_INIT, "init")):
        copy_file(source, tree / name, MOST_MODULE_BYTES)
        (tree / name).chmod(0o755)
    for number, path in enumerate(load):
        name = shown(path.name)
        data = read_file(path, MOST_MODULE_BYTES, name=name, follow=False)
        content = data if path.suffix == ".ko" else decompress(data, name, MOST_MODULE_BYTES)
        word = re.sub(r"[^0-9A-Za-z_-]", "_", path.name.partition(".")[0])[:64]
        (tree / "modules" / f"{number:02}-{word}.ko").write_bytes(content)
    members = "\n".join(sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*"))) + "\n"
    archive = run_tool(
        ["cpio", "--create", "--format=newc", "--owner=0:0", "--reproducible", "--quiet"],
        timeout_s=_TIMEOUT_S,
        what="Packing an initial RAM disk",
        stdin=members.encode(),
        directory=tree,
    )
    target.write_bytes(archive)
