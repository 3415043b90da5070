"""Which packages a requested kernel means, and what makes two requests the same."""

import os
import subprocess
from pathlib import Path

import pytest

from controller.adapters.kernels.debian import AptRoot, PackageVersion
from controller.adapters.kernels.sources import Found, choose_packages, kernel_versions, obtain, request
from controller.adapters.local.cache import Cache, no_progress
from controller.domain.errors import InvalidInput, NotFound
from controller.domain.kernels import DebianKernel, ImageKernel, PackageDirectoryKernel

TAIL = "-cloud-amd64"


def offered(*names: str) -> list[PackageVersion]:
    return [PackageVersion(package=name, version=name.split("-")[2].split("+")[0] + "-1~bpo13+1") for name in names]


ARCHIVE = offered(
    "linux-binary-7.0.13+deb13-cloud-amd64",
    "linux-binary-7.3.4+deb13-cloud-amd64",
    "linux-image-6.18.15+deb13-cloud-amd64",
    "linux-image-7.0.13+deb13-cloud-amd64",
    "linux-image-7.3.4+deb13-cloud-amd64",
    "linux-modules-7.2.6+deb13-cloud-amd64",
    "linux-modules-7.3.4+deb13-cloud-amd64",
)


@pytest.mark.parametrize(
    ("version", "kinds"),
    [
        ("6.18.15", ["linux-image-6.18.15+deb13-cloud-amd64"]),
        ("7.0.13", ["linux-binary-7.0.13+deb13-cloud-amd64"]),
        ("7.3.4", ["linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64"]),
        ("7.3.4+deb13", ["linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64"]),
        ("7.0.13-1~bpo13+1", ["linux-binary-7.0.13+deb13-cloud-amd64"]),
        ("7.2.6", []),
        ("7.3", []),
        ("7.0.1", []),
        ("7x0.13", []),
    ],
)
def test_a_version_means_its_image_and_modules(version: str, kinds: list[str]) -> None:
    assert [package.package for package in choose_packages(ARCHIVE, version, TAIL)] == kinds


def test_the_last_build_of_a_version_counts() -> None:
    packages = offered("linux-binary-7.1.3+deb13-cloud-amd64", "linux-binary-7.1.3+deb14-cloud-amd64")
    assert [package.package for package in choose_packages(packages, "7.1.3", TAIL)] == [packages[1].package]


def test_versions_are_listed_oldest_first() -> None:
    assert kernel_versions(ARCHIVE, TAIL) == ["6.18.15", "7.0.13", "7.3.4"]
    assert (
        kernel_versions(offered("linux-image-6.9.2+deb13-cloud-amd64", *(p.package for p in ARCHIVE)), TAIL)[0]
        == "6.9.2"
    )


class Mirror(AptRoot):
    """An apt root that offers the archive above and fetches nothing."""

    def versions(self, pattern: str, architecture: str, progress: object) -> list[PackageVersion]:
        return ARCHIVE


def from_debian(version: str, scratch: Path, flavour: str = "cloud") -> None:
    mirror = Mirror(cache=Cache(root=scratch), suites=("testing",), architectures=("amd64",))
    obtain(DebianKernel(version=version, flavour=flavour), "x86_64", mirror, scratch, no_progress)


def test_a_version_that_is_gone_names_the_setting_and_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as raised:
        from_debian("7.1.13", tmp_path)
    text = str(raised.value)
    for part in (
        "7.1.13-cloud-amd64",
        "(testing)",
        "6.18.15, 7.0.13, 7.3.4",
        "kernels.x86_64.debian.version",
        "KERNELS=",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("version", "flavour"), [("; rm -rf /", "cloud"), ("7.1", "a b"), ("", "cloud"), ("$(x)", "cloud")]
)
def test_nothing_but_a_version_reaches_the_tools(tmp_path: Path, version: str, flavour: str) -> None:
    with pytest.raises(InvalidInput, match="is not a Debian kernel"):
        from_debian(version, tmp_path, flavour)


def test_generic_is_the_flavour_without_a_name() -> None:
    named, unnamed = (request(DebianKernel(version="7.1.13", flavour=flavour), "arm64") for flavour in ("generic", ""))
    assert named == unnamed
    assert named != request(DebianKernel(version="7.1.13"), "arm64")


def package(directory: Path, name: str, files: tuple[str, ...], architecture: str = "amd64") -> Path:
    """Build a package file with empty files in it."""
    tree = directory / f"tree-{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: 1\nArchitecture: {architecture}\nMaintainer: t <t@t.test>\nDescription: t\n"
    (tree / "DEBIAN/control").write_text(control)
    for file in files:
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).write_text(name)
    target = directory / "debs" / f"{name}_1_{architecture}.deb"
    target.parent.mkdir(exist_ok=True)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, target], check=True, capture_output=True)
    return target


def directory(tmp_path: Path, architecture: str = "x86_64") -> Found:
    mirror = Mirror(cache=Cache(root=tmp_path), suites=("testing",), architectures=("amd64",))
    source = PackageDirectoryKernel(path=str(tmp_path / "debs"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return obtain(source, architecture, mirror, scratch, no_progress)


def from_directory(tmp_path: Path, architecture: str = "x86_64") -> Path:
    return directory(tmp_path, architecture).image


def test_a_build_directory_gives_its_one_kernel(tmp_path: Path) -> None:
    package(tmp_path, "linux-image-7.1.0-mine", ("boot/vmlinuz-7.1.0-mine", "lib/modules/7.1.0-mine/modules.order"))
    package(tmp_path, "linux-image-7.1.0-mine-dbg", ("boot/vmlinuz-7.1.0-mine",))
    package(tmp_path, "linux-headers-7.1.0-mine", ("usr/src/a",))
    package(tmp_path, "linux-image-7.1.0-other", ("boot/vmlinuz-7.1.0-other",), "arm64")
    assert from_directory(tmp_path).name == "vmlinuz-7.1.0-mine"


def test_a_package_that_only_depends_on_the_kernel_is_passed_over(tmp_path: Path) -> None:
    package(tmp_path, "linux-image-7.3.4", ("usr/share/doc/a",))
    package(tmp_path, "linux-binary-7.3.4", ("usr/lib/modules/7.3.4/vmlinuz",))
    package(tmp_path, "linux-modules-7.3.4", ("usr/lib/modules/7.3.4/modules.order",))
    image = from_directory(tmp_path)
    assert image.name == "vmlinuz"
    assert (image.parent / "modules.order").is_file()


MODULES = "lib/modules/{0}/kernel/fs/ext4.ko"
EXTRA = "lib/modules/{0}/kernel/drivers/extra.ko"


@pytest.mark.parametrize(
    ("release", "image", "modules", "unused"),
    [
        # Ubuntu, and its builds of the main line.
        (
            "6.8.0-45-generic",
            ("linux-image-unsigned-6.8.0-45-generic", "boot/vmlinuz-{0}"),
            (("linux-modules-6.8.0-45-generic", MODULES), ("linux-modules-extra-6.8.0-45-generic", EXTRA)),
            ("linux-headers-6.8.0-45-generic", "linux-modules-6.8.0-44-generic", "linux-buildinfo-6.8.0-45-generic"),
        ),
        (
            "6.13.0-061300rc3-generic",
            ("linux-image-unsigned-6.13.0-061300rc3-generic", "boot/vmlinuz-{0}"),
            (("linux-modules-6.13.0-061300rc3-generic", MODULES),),
            (),
        ),
        # Debian's own, before it is signed.
        (
            "7.3.4+deb13-cloud-amd64",
            ("linux-binary-7.3.4+deb13-cloud-amd64-unsigned", "usr/lib/modules/{0}/vmlinuz"),
            (("linux-modules-7.3.4+deb13-cloud-amd64", f"usr/{MODULES}"),),
            ("linux-image-7.3.4+deb13-cloud-amd64-dbg",),
        ),
        # Proxmox: everything in one.
        (
            "6.8.12-4-pve",
            ("proxmox-kernel-6.8.12-4-pve-signed", "boot/vmlinuz-{0}"),
            (),
            ("proxmox-headers-6.8.12-4-pve",),
        ),
        ("5.15.102-1-pve", ("pve-kernel-5.15.102-1-pve", "boot/vmlinuz-{0}"), (), ("pve-firmware",)),
        # A name that says nothing.
        ("6.6.51-v8+", ("raspberrypi-kernel", "boot/vmlinuz-{0}"), (), ()),
    ],
)
def test_modules_are_found_by_the_release_whatever_the_packages_are_called(
    tmp_path: Path, release: str, image: tuple[str, str], modules: tuple[tuple[str, str], ...], unused: tuple[str, ...]
) -> None:
    own = () if modules else (MODULES.format(release),)
    package(tmp_path, image[0], (image[1].format(release), *own))
    for name, file in modules:
        package(tmp_path, name, (file.format(release),))
    for name in unused:
        package(tmp_path, name, ("lib/modules/6.8.0-44-generic/kernel/x.ko", "usr/share/doc/x"))
    found = directory(tmp_path)
    assert found.modules is not None
    held = sorted(path.name for path in found.modules.rglob("*.ko"))
    assert held == sorted(Path(file).name for _, file in modules or (("", MODULES),))
    assert found.description.endswith(f"{image[0]}_1_amd64.deb")
    told = "with " + " and ".join(f"{name}_1_amd64.deb" for name, _ in modules) if modules else ""
    assert (told in found.remark, "not used" in found.remark) == (True, bool(unused))
    for name in unused:
        assert f"{name}_1_amd64.deb" in found.remark.partition("not used: ")[2]


def test_armbians_file_names_tell_the_architecture_in_the_middle(tmp_path: Path) -> None:
    release = "6.6.63-current-rockchip64"
    made = package(
        tmp_path, "linux-image-current-rockchip64", (f"boot/vmlinuz-{release}", MODULES.format(release)), "arm64"
    )
    dtb = package(tmp_path, "linux-dtb-current-rockchip64", ("boot/dtb/x.dtb",), "arm64")
    for file in (made, dtb):
        file.rename(file.with_name(f"{file.name.partition('_')[0]}_24.11.1_arm64__6.6.63-S5f58-D1f9d-Pb6e9.deb"))
    found = directory(tmp_path, "arm64")
    assert found.image.name == f"vmlinuz-{release}"
    assert "linux-dtb-current-rockchip64_24.11.1_arm64__6.6.63" in found.remark


def test_of_modules_in_several_versions_those_of_the_image_count(tmp_path: Path) -> None:
    package(tmp_path, "linux-image-unsigned-6.8.0-45-generic", ("boot/vmlinuz-6.8.0-45-generic",))
    wanted = package(tmp_path, "linux-modules-6.8.0-45-generic", (MODULES.format("6.8.0-45-generic"),))
    other = wanted.with_name("linux-modules-6.8.0-45-generic_2_amd64.deb")
    other.write_bytes(wanted.read_bytes())
    found = directory(tmp_path)
    assert found.remark == f"with {wanted.name} (beside it and not used: {other.name})"


def test_several_kernels_are_refused_by_name(tmp_path: Path) -> None:
    package(tmp_path, "linux-image-7.1.0-a", ("boot/vmlinuz-7.1.0-a",))
    package(tmp_path, "linux-image-7.1.0-b", ("boot/vmlinuz-7.1.0-b",))
    with pytest.raises(InvalidInput, match=r"several kernels.*linux-image-7.1.0-a_1_amd64.deb, linux-image-7.1.0-b"):
        from_directory(tmp_path)


def test_a_directory_without_a_kernel_says_how_to_make_one(tmp_path: Path) -> None:
    package(tmp_path, "linux-image-7.1.0-a", ("boot/vmlinuz-7.1.0-a",))
    with pytest.raises(InvalidInput, match="bindeb-pkg"):
        from_directory(tmp_path, "arm64")


def test_changed_files_make_another_request(tmp_path: Path) -> None:
    image = tmp_path / "Image"
    image.write_bytes(b"one")
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/a.ko").write_bytes(b"a")
    source = ImageKernel(path=str(image), modules=str(tmp_path / "modules"))
    first = request(source, "arm64")
    assert first == request(source, "arm64")
    assert first != request(ImageKernel(path=str(image)), "arm64")
    (tmp_path / "modules/a.ko").write_bytes(b"ab")
    second = request(source, "arm64")
    os.utime(image, ns=(1, 1))
    assert len({str(value) for value in (first, second, request(source, "arm64"))}) == 3


def test_paths_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFound, match="nowhere"):
        request(ImageKernel(path=str(tmp_path / "nowhere")), "arm64")
    with pytest.raises(InvalidInput, match="a directory, not a file"):
        request(ImageKernel(path=str(tmp_path)), "arm64")
    with pytest.raises(InvalidInput, match="not a directory"):
        request(PackageDirectoryKernel(path=str(tmp_path / "file")), "arm64")
