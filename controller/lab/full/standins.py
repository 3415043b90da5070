"""Kernels of which the mirror has dropped a part: what is left of them, made installable by empty stand-ins.

Backports keep a kernel's image for long and its modules for weeks. Such a kernel boots a machine, whose disk needs no
module, and finds no network card, which needs one: the very fault that a host must come back from by itself.
"""

import re
from pathlib import Path

from controller.adapters.kernels.debian import DEBIAN_ARCHITECTURES
from controller.adapters.local.cache import Cache, Progress, no_progress
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent
from controller.lab.full.image import FullImage
from controller.lab.full.shapes import SHAPES
from controller.lab.full.userland import full_packages

_TIMEOUT_S = 60.0
_PARTS = ("base", "modules")
# What depmod expects in a kernel's folder.
_LISTS = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
_CONTROL = """\
Package: linux-{part}-{release}
Version: {version}
Architecture: {architecture}
Maintainer: kernroll lab <lab@kernroll.invalid>
Description: stand-in for a part of Linux {release} that the mirror has dropped
 It holds nothing: no module of this kernel can be loaded.
"""


def image_only_packages(
    cache: Cache, image: FullImage, version: str, directory: Path, progress: Progress = no_progress
) -> list[Path]:
    """Return the package files of a kernel such as "7.1.13", those that are gone made anew in `directory`.

    Raises Permanent when the mirror does not have its image either.
    """
    root = full_packages(cache)
    architecture = DEBIAN_ARCHITECTURES[SHAPES[image.shape].architecture]
    flavour = SHAPES[image.shape].kernel.removeprefix("linux-image-")
    pattern = rf"linux-(image|binary|base|modules)-{re.escape(version)}[+]deb[0-9]+-{flavour}"
    offered = root.versions(pattern, architecture, progress)
    whole = next((one for one in offered if one.package.startswith("linux-image-")), None)
    if whole is None:
        raise Permanent(f"The mirror has no linux-image of {version} for {flavour}. Choose a version that it has.")
    release = whole.package.removeprefix("linux-image-")
    files = root.fetch(root.exact(offered, architecture, progress), progress, label=release)
    known = {one.package for one in offered}
    for part in _PARTS:
        if f"linux-{part}-{release}" not in known:
            control = _CONTROL.format(part=part, release=release, version=whole.version, architecture=architecture)
            files.append(_build(directory / f"linux-{part}-{release}", control, release if part == "base" else None))
    return files


def _build(tree: Path, control: str, release: str | None) -> Path:
    """Build a package that holds nothing, or the empty lists of a kernel's modules."""
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / "DEBIAN/control").write_text(control, encoding="utf-8")
    if release is not None:
        folder = tree / "usr/lib/modules" / release
        folder.mkdir(parents=True, exist_ok=True)
        for name in _LISTS:
            (folder / name).touch()
    target = tree.with_name(f"{tree.name}.deb")
    command: list[str | Path] = ["dpkg-deb", "--build", "--root-owner-group", tree, target]
    run_tool(command, timeout_s=_TIMEOUT_S, what=f"Building {target.name}")
    return target
