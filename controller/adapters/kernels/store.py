"""The store itself: kernels by digest, each a directory that is complete or absent, with a small index by request."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from controller.adapters.kernels.debian import AptRoot
from controller.adapters.kernels.debian.suites import guest_packages
from controller.adapters.kernels.image import MOST_IMAGE_BYTES, KernelImage, read_image
from controller.adapters.kernels.initrd import INITRD_RECIPE, build_initrd, fetch_busybox, modules_to_load, recipe
from controller.adapters.kernels.installable import keep_packages, kept_packages
from controller.adapters.kernels.modules import (
    find_modules,
    fingerprint,
    index_modules,
    pack_modules,
    require_modules,
)
from controller.adapters.kernels.sources import Found, obtain, request
from controller.adapters.local.cache import Cache, Progress, no_progress, request_key
from controller.adapters.local.named_files import read_file, shown
from controller.domain.errors import InvalidInput, NotFound
from controller.domain.hosts.releases import is_release
from controller.domain.kernels import Kernel, KernelSource

ARCHITECTURES = ("x86_64", "arm64")

# Part of every key, so that kernels stored by an older layout are built again instead of misread.
_FORMAT = 1
# Packages, what is unpacked from them, and the images made of that.
_ROOM_BYTES = 500 * 2**20
_BOOT, _MODULES, _INITRD = "boot", "modules", "initrd"
# The files of a kernel, by role.
_FILES = {_BOOT: "boot", _MODULES: "modules.ext4", _INITRD: "initrd"}


class KernelStore:
    """Kernels below `cache`/kernels, ready to boot."""

    def __init__(self, cache: Cache, packages: AptRoot | None = None) -> None:
        self._cache = cache
        self._packages = packages or guest_packages(cache)

    def resolve(self, source: KernelSource, architecture: str, progress: Progress = no_progress) -> Kernel:
        """Return the kernel a source means, fetched and prepared when it is not in the store yet.

        A request that was answered before is answered again without asking anybody, so a version stays what it was.
        Raises NotFound, InvalidInput, Permanent (disk full) or Temporary (mirror out of reach).
        """
        if architecture not in ARCHITECTURES:
            raise InvalidInput(f"Unknown architecture {architecture!r}; kernels are for {' or '.join(ARCHITECTURES)}.")
        key = request_key({"format": _FORMAT, "initrd": INITRD_RECIPE, **request(source, architecture)})
        index = f"kernel-index/{key}.json"
        if (known := self._indexed(index)) is not None:
            return self._with_packages(known, source, progress)
        with self._cache.lock(f"kernel-{key}"), self._cache.scratch(f"kernel-{key}") as scratch:
            if (known := self._indexed(index)) is not None:
                return self._with_packages(known, source, progress)
            self._cache.require_room(_ROOM_BYTES, "preparing a kernel")
            (scratch / "packages").mkdir()
            found = obtain(source, architecture, self._packages, scratch / "packages", progress)
            kernel = self._add(found, architecture, source.command_line, scratch / "indexed", progress)
            self._cache.write_json(index, {"digest": kernel.digest})
        return self._with_packages(kernel, source, progress)

    def load(self, digest: str) -> Kernel:
        """Return a stored kernel. Raises NotFound."""
        value = self._cache.read_json(f"kernels/{digest}/kernel.json") if _is_digest(digest) else None
        if value is None:
            raise NotFound(f"The kernel store has no kernel {digest}. Resolve it again, or check KERNROLL_CACHE_DIR.")
        kernel = _from_json(value, self._cache.root / "kernels" / digest)
        return replace(kernel, files={**kernel.files, **kept_packages(self._cache, digest)})

    def _with_packages(self, kernel: Kernel, source: KernelSource, progress: Progress) -> Kernel:
        """Return the kernel with what installs it on hosts that start from their own disk."""
        keep_packages(self._cache, kernel, source, self._packages, progress)
        return self.load(kernel.digest)

    def list(self) -> list[Kernel]:
        """Return every stored kernel, by release and architecture."""
        parent = self._cache.root / "kernels"
        if not parent.is_dir():
            return []
        kernels = [self.load(entry.name) for entry in parent.iterdir() if (entry / "kernel.json").is_file()]
        return sorted(kernels, key=lambda kernel: (kernel.release, kernel.architecture, kernel.digest))

    def _indexed(self, index: str) -> Kernel | None:
        value = self._cache.read_json(index)
        if value is None:
            return None
        try:
            return self.load(str(value.get("digest")))
        except NotFound:
            return None

    def _add(self, found: Found, architecture: str, command_line: str, tree: Path, progress: Progress) -> Kernel:
        """Store what was found; `tree` is a directory to make."""
        progress(f"reading {shown(found.image.name)}", 0, 0)
        try:
            data = read_file(found.image, MOST_IMAGE_BYTES, name=found.description)
        except OSError as error:
            raise InvalidInput(f"{found.description} cannot be read: {error.strerror}.") from error
        image = read_image(data, found.description)
        if image.architecture != architecture:
            raise InvalidInput(
                f"{found.description} is a kernel for {image.architecture}, but it was given for {architecture}."
            )
        modules = _modules_of(found, image)
        load: list[Path] = []
        if modules is not None:
            progress(f"indexing the modules of {image.release}", 0, 0)
            index_modules(modules, image.release, tree)
            load = modules_to_load(tree, image.release)
        parts = (data, None if modules is None else fingerprint(modules), recipe(load))
        kernel = Kernel(
            digest=kernel_digest(*parts, command_line),
            release=image.release,
            architecture=architecture,
            source=" ".join(filter(None, (found.description, found.remark))),
            command_line=command_line,
            files={
                _BOOT: _FILES[_BOOT],
                **({} if modules is None else {_MODULES: _FILES[_MODULES]}),
                **({_INITRD: _FILES[_INITRD]} if load else {}),
            },
        )
        self._publish(kernel, image.boot, tree, load, progress)
        return self.load(kernel.digest)

    def _publish(self, kernel: Kernel, boot: bytes, tree: Path, load: Sequence[Path], progress: Progress) -> None:
        """Store a kernel, unless it is there. `tree` holds its modules, indexed, and is used up."""

        def build(directory: Path) -> None:
            (directory / _BOOT).write_bytes(boot)
            if _INITRD in kernel.files:
                with self._cache.scratch(f"initrd-{kernel.digest}") as scratch:
                    (scratch / "package").mkdir()
                    busybox = fetch_busybox(kernel.architecture, self._packages, scratch / "package", progress)
                    (scratch / "tree").mkdir()
                    build_initrd(load, busybox, scratch / "tree", directory / kernel.files[_INITRD])
            if _MODULES in kernel.files:
                progress(f"packing the modules of {kernel.release}", 0, 0)
                pack_modules(tree, directory / kernel.files[_MODULES])
            self._cache.write_json((directory / "kernel.json").relative_to(self._cache.root).as_posix(), asdict(kernel))

        self._cache.publish(f"kernels/{kernel.digest}", build)


def kernel_digest(image: bytes, modules: str | None, initrd: str, command_line: str) -> str:
    """Return the identity of a kernel: over image, modules' fingerprint, initial RAM disk and added command line.

    The last two are empty where there is none.
    """
    text = f"{hashlib.sha256(image).hexdigest()}\n{modules or ''}\n{command_line}\n"
    if initrd:
        text += f"{initrd}\n"
    return hashlib.sha256(text.encode()).hexdigest()


def _modules_of(found: Found, image: KernelImage) -> Path | None:
    if found.modules is None:
        return None
    if found.modules_required:
        return require_modules(found.modules, image.release)
    return find_modules(found.modules, image.release)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)


def _from_json(value: dict[str, Any], directory: Path) -> Kernel:
    words = [value.get(name) for name in ("digest", "release", "architecture", "source", "command_line")]
    files = value.get("files")
    if (
        not all(isinstance(word, str) for word in words)
        or not is_release(str(value["release"]))
        or value["digest"] != directory.name
        or not isinstance(files, dict)
        or any(_FILES.get(role) != name for role, name in files.items())
    ):
        raise NotFound(f"{directory / 'kernel.json'} is damaged. Delete that directory and resolve the kernel again.")
    return Kernel(
        digest=value["digest"],
        release=value["release"],
        architecture=value["architecture"],
        source=value["source"],
        command_line=value["command_line"],
        files={role: str(directory / name) for role, name in files.items()},
    )
