"""Kernels in rpm packages are read with rpm's own programs: which one is meant, and what is wrong with the others."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from crafted_rpms import Rpm, build, rpm_environment

from controller.adapters.kernels import KernelStore
from controller.adapters.kernels.rpm import choosing, packages
from controller.adapters.local.cache import Cache
from controller.domain.errors import InvalidInput, Permanent
from controller.domain.kernels import Kernel, PackageDirectoryKernel

RELEASE = "6.12.0-55.el10.x86_64"
TREE = f"/lib/modules/{RELEASE}"


@pytest.fixture(autouse=True)
def rpm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rpm_environment().items():
        monkeypatch.setenv(name, value)


def image(release: str) -> bytes:
    """A kernel image for arm64, as far as its head and its banner go."""
    return bytes(0x38) + b"ARM\x64" + bytes(64) + b"Linux version " + release.encode() + b" (b@h) #1"


def core(release: str = RELEASE, *, name: str = "kernel-core", architecture: str = "aarch64") -> Rpm:
    tree = f"/lib/modules/{release}"
    files = {f"{tree}/vmlinuz": image(release), f"{tree}/modules.builtin": b"", f"{tree}/modules.order": b""}
    return Rpm(name=name, files=files, architecture=architecture)


def other(name: str, *files: str, architecture: str = "aarch64") -> Rpm:
    return Rpm(name=name, architecture=architecture, files=dict.fromkeys(files, b"content\n"))


def resolve(tmp_path: Path, architecture: str = "arm64") -> Kernel:
    store = KernelStore(Cache(root=tmp_path / "cache"))
    return store.resolve(PackageDirectoryKernel(path=str(tmp_path / "rpms")), architecture)


def put(tmp_path: Path, *rpms: Rpm) -> list[Path]:
    return [build(tmp_path / "rpms", one) for one in rpms]


def refused(tmp_path: Path, architecture: str = "arm64") -> str:
    with pytest.raises(InvalidInput) as caught:
        resolve(tmp_path, architecture)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_kernel_is_its_image_and_every_package_with_modules_of_its_release(tmp_path: Path) -> None:
    made = put(
        tmp_path,
        core(),
        other("kernel-modules-core", f"{TREE}/kernel/drivers/one.ko"),
        other("kernel-devel", f"/usr/src/kernels/{RELEASE}/Makefile", f"{TREE}/build-here"),
        other("kernel-modules-old", "/lib/modules/6.12.0-1.x86_64/kernel/a.ko"),
        core("6.12.0-55.el10.other", architecture="x86_64"),
        other("linux-firmware", "/usr/lib/firmware/a.bin", architecture="noarch"),
    )
    kernel = resolve(tmp_path)
    assert (kernel.release, kernel.architecture) == (RELEASE, "arm64")
    assert [Path(one).name for one in kernel.packages] == [made[0].name, made[1].name]
    assert Path(kernel.packages[0]).read_bytes() == made[0].read_bytes()
    assert kernel.source.startswith(f"{made[0]} with {made[1].name} (beside it and not used: ")
    assert made[4].name not in kernel.source
    assert "modules" in kernel.files
    # The kernel is what it is, however it was packed.
    shutil.copytree(tmp_path / "rpms", tmp_path / "again")
    again = KernelStore(Cache(root=tmp_path / "cache")).resolve(
        PackageDirectoryKernel(path=str(tmp_path / "again")), "arm64"
    )
    assert again.digest == kernel.digest


def test_what_is_only_named_in_a_package_is_not_in_it(tmp_path: Path) -> None:
    put(tmp_path, replace(core(), ghosts=(f"/boot/vmlinuz-{RELEASE}", "/boot/vmlinuz-another")))
    assert resolve(tmp_path).release == RELEASE


def test_a_build_with_the_image_below_boot_is_read_as_well(tmp_path: Path) -> None:
    files = {f"/boot/vmlinuz-{RELEASE}": image(RELEASE), f"{TREE}/kernel/a.ko": b"a", f"{TREE}/modules.order": b""}
    put(tmp_path, Rpm(name="kernel", files=files, architecture="aarch64"))
    assert len(resolve(tmp_path).packages) == 1


def test_packages_of_both_kinds_are_refused(tmp_path: Path) -> None:
    put(tmp_path, core())
    (tmp_path / "rpms/linux-image-1_1_arm64.deb").write_bytes(b"!<arch>\n")
    assert "holds .deb and .rpm packages. Leave those of one kind there" in refused(tmp_path)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    put(tmp_path, core())
    told = refused(tmp_path, "x86_64")
    assert "has no rpm package for x86_64 with a kernel" in told
    assert "those there are for aarch64" in told
    assert "make binrpm-pkg" in told


def test_what_is_no_kernel_is_told(tmp_path: Path) -> None:
    put(tmp_path, other("kernel-tools", "/usr/bin/cpupower"))
    assert "has no rpm package for aarch64 with a kernel" in refused(tmp_path)


def test_two_kernels_are_named_with_their_packages(tmp_path: Path) -> None:
    put(tmp_path, core(), core("6.13.0-1.aarch64", name="kernel-lt-core"))
    told = refused(tmp_path)
    assert "several kernels for arm64" in told
    assert "6.12.0-55.el10.x86_64 in kernel-core-6.12.0-55.el10.aarch64.rpm" in told
    assert "6.13.0-1.aarch64 in kernel-lt-core-6.12.0-55.el10.aarch64.rpm" in told


def test_one_package_in_two_builds_is_refused(tmp_path: Path) -> None:
    modules = other("kernel-modules", f"{TREE}/kernel/a.ko")
    put(tmp_path, core(), modules, Rpm(name=modules.name, files=modules.files, build="56", architecture="aarch64"))
    assert "has kernel-modules several times" in refused(tmp_path)


def test_a_package_that_is_none_is_told_by_its_name(tmp_path: Path) -> None:
    put(tmp_path, core())
    (tmp_path / "rpms/kernel-modules.rpm").write_bytes(gzip.compress(b"a page of errors"))
    assert refused(tmp_path).startswith("kernel-modules.rpm is called an rpm package and is none")


@pytest.mark.parametrize("kept", [100, 1500])
def test_a_package_that_is_cut_off_is_told(tmp_path: Path, kept: int) -> None:
    (made,) = put(tmp_path, core())
    made.write_bytes(made.read_bytes()[:kept])
    assert refused(tmp_path).startswith(f"{made.name} is damaged: ")


def test_content_that_is_not_what_was_packed_is_told(tmp_path: Path) -> None:
    (made,) = put(tmp_path, core())
    data = made.read_bytes()
    made.write_bytes(data[:-20] + bytes(20))
    told = refused(tmp_path)
    assert told.startswith(f"{made.name} is damaged: its ")
    assert "digest is not that of what is in it" in told


def test_limits_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, core(), other("kernel-modules-core", f"{TREE}/kernel/drivers/one.ko"))
    with monkeypatch.context() as patch:
        patch.setattr(choosing, "_MOST_PACKAGES", 1)
        assert "more than 1 rpm packages" in refused(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(packages, "_MOST_HEADER_BYTES", 100)
        assert "has a header of more than" in refused(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(packages, "MOST_FILES", 1)
        assert "holds more than 1 files" in refused(tmp_path)


def test_a_missing_rpm_is_told_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, core())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Permanent, match="the program rpm was not found; install the Debian package rpm"):
        resolve(tmp_path)
