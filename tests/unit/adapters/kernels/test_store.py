"""The store knows kernels by what they are, keeps them complete, and answers a known request without asking anybody."""

import os
import subprocess
from pathlib import Path

import pytest

from controller.adapters.kernels import KernelStore
from controller.adapters.kernels.store import kernel_digest
from controller.adapters.local.cache import Cache
from controller.domain.errors import InvalidInput, NotFound
from controller.domain.kernels import ImageKernel

RELEASE = "7.1.0-mine"
IMAGE = bytes(0x38) + b"ARM\x64" + bytes(64) + f"Linux version {RELEASE} (b@h)".encode()


@pytest.fixture
def store(tmp_path: Path) -> KernelStore:
    return KernelStore(Cache(root=tmp_path / "cache"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "Image"
    path.write_bytes(IMAGE)
    return path


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    directory = tmp_path / "built/lib/modules" / RELEASE
    (directory / "kernel").mkdir(parents=True)
    (directory / "kernel/one.ko").write_bytes(b"no real module")
    (directory / "modules.order").write_text("kernel/one.ko\n")
    (directory / "modules.builtin").write_text("")
    (directory / "build").symlink_to("/nowhere")
    return tmp_path / "built"


def test_a_kernel_is_found_again_by_its_digest(store: KernelStore, image: Path) -> None:
    kernel = store.resolve(ImageKernel(path=str(image), command_line="quiet"), "arm64")
    assert (kernel.release, kernel.architecture, kernel.command_line) == (RELEASE, "arm64", "quiet")
    assert Path(kernel.files["boot"]).read_bytes() == IMAGE
    assert store.load(kernel.digest) == kernel
    assert store.list() == [kernel]


def test_the_same_kernel_from_elsewhere_is_the_same_kernel(store: KernelStore, image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(IMAGE)
    assert store.resolve(ImageKernel(path=str(image)), "arm64") == store.resolve(ImageKernel(path=str(other)), "arm64")


def test_a_command_line_makes_another_kernel(store: KernelStore, image: Path) -> None:
    digests = {store.resolve(ImageKernel(path=str(image), command_line=text), "arm64").digest for text in ("", "quiet")}
    assert len(digests) == len(store.list()) == 2


def test_a_known_request_is_answered_without_reading_the_image(store: KernelStore, image: Path) -> None:
    kernel = store.resolve(ImageKernel(path=str(image)), "arm64")
    status = image.stat()
    image.write_bytes(bytes(len(IMAGE)))
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.resolve(ImageKernel(path=str(image)), "arm64") == kernel


def test_a_damaged_entry_is_built_again(store: KernelStore, image: Path) -> None:
    kernel = store.resolve(ImageKernel(path=str(image)), "arm64")
    directory = Path(kernel.files["boot"]).parent
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()
    assert store.list() == []
    assert store.resolve(ImageKernel(path=str(image)), "arm64") == kernel


def test_modules_become_a_disk_with_their_index(store: KernelStore, image: Path, modules: Path) -> None:
    kernel = store.resolve(ImageKernel(path=str(image), modules=str(modules)), "arm64")
    disk = Path(kernel.files["modules"])
    assert disk.stat().st_size < 8 * 2**20
    listing = subprocess.run(
        ["debugfs", "-R", f"ls -p /lib/modules/{RELEASE}", disk], capture_output=True, check=True, text=True
    ).stdout
    assert "modules.dep/" in listing
    assert "build" not in listing
    # Where the tree starts does not matter, nor what depmod left in it.
    (modules / "lib/modules" / RELEASE / "modules.dep").write_text("old")
    again = store.resolve(ImageKernel(path=str(image), modules=str(modules / "lib/modules")), "arm64")
    assert again == kernel


def test_modules_of_another_release_are_refused(store: KernelStore, image: Path, modules: Path) -> None:
    (modules / "lib/modules" / RELEASE).rename(modules / "lib/modules/7.0.0-old")
    with pytest.raises(InvalidInput, match=rf"no modules of {RELEASE}.*it has 7.0.0-old"):
        store.resolve(ImageKernel(path=str(image), modules=str(modules)), "arm64")
    assert store.list() == []


def test_an_image_of_another_architecture_is_refused(store: KernelStore, image: Path) -> None:
    with pytest.raises(InvalidInput, match="for arm64, but it was given for x86_64"):
        store.resolve(ImageKernel(path=str(image)), "x86_64")
    with pytest.raises(InvalidInput, match="riscv64"):
        store.resolve(ImageKernel(path=str(image)), "riscv64")


@pytest.mark.parametrize("digest", ["", "0" * 64, "../../etc/passwd"])
def test_an_unknown_digest_is_named(store: KernelStore, digest: str) -> None:
    with pytest.raises(NotFound, match="no kernel"):
        store.load(digest)


def test_the_digest_covers_image_modules_ram_disk_and_command_line() -> None:
    several = (
        (b"a", None, "", ""),
        (b"b", None, "", ""),
        (b"a", "m", "", ""),
        (b"a", "m", "r", ""),
        (b"a", None, "", "q"),
    )
    assert len({kernel_digest(*parts) for parts in several}) == 5
