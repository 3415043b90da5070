"""QEMU is the machine's own when new enough, else unpacked once; and KVM is believed only when a guest ran."""

import resource
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from controller.adapters.kernels.debian import AptRoot, Archive
from controller.adapters.kernels.debian.suites import host_architecture
from controller.adapters.local.cache import Cache
from controller.domain.errors import Permanent
from controller.domain.kernels import Kernel
from controller.lab import accelerator as accelerator_module
from controller.lab.accelerator import cpu_model, find_accelerator
from controller.lab.images import PROBE_PASSED, GuestImage
from controller.lab.toolset import Toolset, prepare_toolset

NAMES = ("qemu-system-x86_64", "qemu-system-aarch64", "qemu-img")


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands before everything else on the path; whatever QEMU the machine has is hidden."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NAMES:
        script(folder / name, "echo QEMU emulator version 7.2.0")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin:/usr/sbin:/sbin")
    return folder


class Packages(AptRoot):
    """Offers one package with a QEMU of a given version; counts how often it is asked."""

    asked: ClassVar[list[str]] = []

    def closure(self, packages: Sequence[str], architecture: str, progress: object, **options: object) -> list[Archive]:
        Packages.asked.append(architecture)
        return [Archive(package="qemu-utils", version="1:10.0.2+ds-2", uri="", size_bytes=1, sha256="0" * 64)]

    def fetch(self, archives: Sequence[Archive], progress: object, *, label: str) -> list[Path]:
        return sorted(self.cache.root.parent.glob("*.deb"))


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    Packages.asked.clear()
    return Packages(cache=Cache(root=tmp_path / "cache"), suites=("testing",), architectures=("amd64",))


def make_package(tmp_path: Path, version: str) -> None:
    tree = tmp_path / "package"
    for name in (*NAMES, "qemu-nbd"):
        script(tree / "usr/bin" / name, f"echo QEMU emulator version {version}")
    for file in ("usr/share/qemu/pvh.bin", "usr/share/qemu/openbios-ppc", "usr/share/doc/qemu/README"):
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).write_text("")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: q\nVersion: 1\nArchitecture: all\nMaintainer: t <t@t.test>\nDescription: t\n"
    )
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, tmp_path / "q.deb"]
    subprocess.run(command, check=True, capture_output=True)


def test_a_new_enough_qemu_of_the_machine_is_used(bin_dir: Path, packages: Packages) -> None:
    for name in NAMES:
        script(bin_dir / name, "echo QEMU emulator version 10.1.2 '(Debian)'")
    toolset = prepare_toolset(packages.cache, packages=packages)
    assert (toolset.directory, toolset.version) == (None, "10.1.2")
    assert toolset.qemu("arm64").binary == str(bin_dir / "qemu-system-aarch64")
    assert Packages.asked == []


def test_an_old_one_is_not_and_the_unpacked_one_is_kept(tmp_path: Path, bin_dir: Path, packages: Packages) -> None:
    make_package(tmp_path, "10.0.2")
    first = prepare_toolset(packages.cache, packages=packages)
    assert prepare_toolset(packages.cache, packages=packages) == first
    assert len(Packages.asked) == 1
    assert first.version == "10.0.2"
    tool = first.qemu("x86_64")
    assert Path(tool.binary).is_relative_to(packages.cache.root)
    assert tool.arguments[0] == "-L"
    assert (Path(tool.arguments[1]) / "pvh.bin").is_file()
    # What no guest of ours uses takes no room.
    names = {path.name for path in packages.cache.root.rglob("*")}
    assert not names & {"openbios-ppc", "README", "qemu-nbd"}


def test_an_unpacked_qemu_that_is_too_old_is_refused(tmp_path: Path, bin_dir: Path, packages: Packages) -> None:
    make_package(tmp_path, "8.1.0")
    with pytest.raises(Permanent, match=r"is version 8.1.0; the lab needs 10 or newer"):
        prepare_toolset(packages.cache, packages=packages)


def test_a_large_disk_falls_back_where_files_cannot_be_large(tmp_path: Path, bin_dir: Path) -> None:
    script(bin_dir / "qemu-img", f'echo "$@" >> {tmp_path}/log')
    toolset = Toolset(directory=None, version="10")
    assert toolset.create_swap_disk(tmp_path / "small", 2**20) == "raw"
    assert (tmp_path / "small").stat().st_size == 2**20
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        assert toolset.create_swap_disk(tmp_path / "large", 2**40) == "qcow2"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(2**40) in (tmp_path / "log").read_text()


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(
        digest="1" * 64,
        release="1",
        architecture=host_architecture(),
        source="",
        files={"boot": str(tmp_path / "boot")},
    )


def probe(tmp_path: Path, kernel: Kernel) -> str:
    image = GuestImage(path=tmp_path / "base.raw", digest="")
    return find_accelerator(Cache(root=tmp_path / "cache"), Toolset(directory=None, version="10"), kernel, image)


@pytest.fixture
def kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accelerator_module, "_KVM", device)
    return device


CONSOLE = 'for word in "$@"; do case "$word" in file:*) console=${word#file:} ;; esac; done'


def emulators(bin_dir: Path, text: str) -> None:
    script(bin_dir / "qemu-img", "exit 0")
    for name in NAMES[:2]:
        script(bin_dir / name, f"{CONSOLE}\necho run >> {bin_dir}/runs\n{text}")


def test_kvm_is_used_when_a_guest_ran(tmp_path: Path, bin_dir: Path, kvm: Path, kernel: Kernel) -> None:
    emulators(bin_dir, f'echo "{PROBE_PASSED}" > "$console"')
    assert [probe(tmp_path, kernel) for _ in range(2)] == ["kvm", "kvm"]
    assert (bin_dir / "runs").read_text().count("run") == 1


@pytest.mark.parametrize("ending", ["exit 134", "echo 'Linux version' > \"$console\""])
def test_kvm_is_not_used_when_the_guest_died(
    tmp_path: Path, bin_dir: Path, kvm: Path, kernel: Kernel, ending: str
) -> None:
    emulators(bin_dir, ending)
    assert [probe(tmp_path, kernel) for _ in range(2)] == ["tcg", "tcg"]
    assert (bin_dir / "runs").read_text().count("run") == 1


def test_a_guest_that_hangs_is_no_kvm(
    tmp_path: Path, bin_dir: Path, kvm: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator_module, "_DEADLINE_S", 0.05)
    emulators(bin_dir, "exec sleep 60")
    assert probe(tmp_path, kernel) == "tcg"


def test_without_the_device_or_for_another_architecture_nothing_is_started(
    tmp_path: Path, bin_dir: Path, kvm: Path, kernel: Kernel
) -> None:
    emulators(bin_dir, "exit 0")
    other = "arm64" if kernel.architecture == "x86_64" else "x86_64"
    assert probe(tmp_path, replace(kernel, architecture=other)) == "tcg"
    kvm.unlink()
    assert probe(tmp_path, kernel) == "tcg"
    assert not (bin_dir / "runs").exists()


def test_only_an_emulated_guest_has_a_model_of_its_own() -> None:
    assert cpu_model("arm64", "kvm") == cpu_model("x86_64", "kvm") == "host"
    assert cpu_model("arm64", "tcg") != cpu_model("x86_64", "tcg")
