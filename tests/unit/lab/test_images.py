"""Guest images: the disk's layout, what every guest boots with, and the seed disk."""

import importlib.metadata
import re
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest
from patience import PATIENCE_S

from controller.adapters.local.cache import Cache
from controller.adapters.local.wheels import install_wheels, wheel_requirements
from controller.domain.errors import Permanent
from controller.lab.bytecode import merge_usr
from controller.lab.images import SEED_APP, base_command_line, build_seed, guest_settings, partition_table
from controller.lab.rootfs import GUEST_FILES, complete


def test_the_partition_is_where_the_kernel_looks_for_it() -> None:
    table = partition_table(2**20, 4 * 2**30)
    assert len(table) == 512
    assert table[510:] == b"\x55\xaa"
    kind, start, sectors = table[446 + 4], *struct.unpack_from("<II", table, 446 + 8)
    assert (kind, start * 512, sectors * 512) == (0x83, 2**20, 4 * 2**30)
    (signature,) = struct.unpack_from("<I", table, 440)
    assert f"root=PARTUUID={signature:08x}-01" in base_command_line("x86_64")


@pytest.mark.parametrize(("architecture", "console"), [("x86_64", "ttyS0"), ("arm64", "ttyAMA0")])
def test_every_guest_ends_on_panic_and_speaks_on_its_console(architecture: str, console: str) -> None:
    words = base_command_line(architecture).split()
    assert {f"console={console}", "panic=5", "mitigations=off", "init=/sbin/kernroll-init", "rw"} <= set(words)


def test_the_first_process_is_a_valid_script_and_reads_the_settings() -> None:
    script = GUEST_FILES / "kernroll-init"
    subprocess.run(["sh", "-n", script], check=True, timeout=PATIENCE_S)
    keys = [line.split("=")[0] for line in guest_settings(hostname="h", network=True).decode().splitlines()]
    text = script.read_text()
    assert all(f"{key})" in text for key in keys)
    # The serial numbers and the port of the contract between image and hypervisor.
    assert set(re.findall(r"kernroll-(?:seed|modules|swap)\)", text)) == {
        "kernroll-seed)",
        "kernroll-modules)",
        "kernroll-swap)",
    }


def test_a_tree_becomes_bootable_and_keeps_what_packages_brought(tmp_path: Path) -> None:
    merge_usr(tmp_path)
    (tmp_path / "usr/bin/free").write_text("the real one")
    (tmp_path / "usr/share/doc/x").mkdir(parents=True)
    complete(tmp_path)
    assert (tmp_path / "usr/bin/free").read_text() == "the real one"
    assert (tmp_path / "bin/sh").readlink() == Path("busybox")
    assert (tmp_path / "sbin/kernroll-init").stat().st_mode & 0o111
    assert (tmp_path / "var/lib/kernroll").is_dir()
    assert not (tmp_path / "usr/share/doc").exists()


def test_an_uninstalled_project_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.requires", unknown)
    with pytest.raises(Permanent, match="make setup"):
        wheel_requirements()


def test_the_agents_requirements_come_from_the_project() -> None:
    names = {re.split(r"[<>=\[]", requirement)[0] for requirement in wheel_requirements()}
    assert {"grpcio", "protobuf", "structlog", "cryptography"} <= names


def read_file(image: Path, name: str) -> str:
    result = subprocess.run(
        ["debugfs", "-R", f"cat {name}", image], capture_output=True, check=True, text=True, timeout=30
    )
    return result.stdout


def test_a_seed_holds_bytes_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/data").write_text("deep")
    (tmp_path / "tree/__pycache__").mkdir()
    (tmp_path / "one").write_text("single")
    cache, seed = Cache(root=tmp_path / "cache"), tmp_path / "seed.ext4"
    for hostname in ("first", "second"):
        build_seed(
            cache,
            seed,
            {
                "guest.env": guest_settings(hostname=hostname, network=False),
                "copy/one": tmp_path / "one",
                "copy/tree": tmp_path / "tree",
            },
        )
    assert read_file(seed, "/guest.env") == "hostname=second\nnetwork=none\n"
    assert read_file(seed, "/copy/one") == "single"
    assert read_file(seed, "/copy/tree/sub/data") == "deep"
    listing = subprocess.run(
        ["debugfs", "-R", "ls -p /copy/tree", seed], capture_output=True, check=True, text=True
    ).stdout
    assert "__pycache__" not in listing
    assert seed.stat().st_size < 4 * 2**20
    assert sorted(file.name for file in tmp_path.glob("*seed*")) == ["seed.ext4"]


def test_a_seeds_python_is_compiled_for_the_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, list[str], str]] = []
    monkeypatch.setattr("controller.lab.images.guest_python", lambda cache, packages, progress: tmp_path / "python")
    monkeypatch.setattr(
        "controller.lab.images.compile_tree",
        lambda python, tree, folders, prefix: calls.append((python, folders, prefix)),
    )
    build_seed(Cache(root=tmp_path / "cache"), tmp_path / "seed.ext4", {f"{SEED_APP}/agent/main.py": b"print()\n"})
    assert calls == [(tmp_path / "python", ["app"], "/run/kernroll/seed")]


def test_wheels_are_laid_side_by_side(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
            wheel.writestr(f"{name}-1.data/scripts/run", "")
    install_wheels(sorted(tmp_path.glob("*.whl")), tmp_path / "lib")
    assert sorted(path.name for path in (tmp_path / "lib").iterdir()) == ["one", "two"]
