"""systemd-boot's versions and EFI variables, sign by sign."""

from pathlib import Path

import pytest

from agent.boot.host import Host
from agent.boot.systemd_boot.variables import FOLDER, are_read_only, are_there, read, text_of, version_of
from agent.boot.systemd_boot.versions import version_key
from agent.boot.values import BrokenHost

# The first from systemd's own description of the order; older ones first.
ORDERS = (
    "122.1 123~rc1-1 123 123-a 123-a.1 123-1 123-1.1 123^post1 123.a-1 123.1-1 123a-1 124-1",
    "5.10.0-9-amd64 5.10.0-10-amd64 6.6.6+deb13-amd64 06.12 6.101",
)


@pytest.mark.parametrize("order", ORDERS)
def test_versions_are_ordered_as_systemd_boot_orders_them(order: str) -> None:
    shuffled = sorted(order.split())
    assert sorted(shuffled, key=version_key) == order.split()


def test_signs_that_mean_nothing_only_separate() -> None:
    assert version_key("123_a") == version_key("123a")
    assert version_key("007") == version_key("7")
    assert version_key("") < version_key("1")
    assert version_key("1~") < version_key("1") < version_key("1.")


def variable(root: Path, data: bytes) -> Host:
    folder = root / FOLDER.lstrip("/")
    folder.mkdir(parents=True)
    (folder / "LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f").write_bytes(data)
    return Host(root)


@pytest.mark.parametrize(
    ("data", "text", "persists"),
    [
        (b"\7\0\0\0a\0b\0\0\0", "ab", True),
        (b"\6\0\0\0a\0\0\0", "a", False),
        (b"\7\0\0\0a\0", "a", True),
        (b"\7\0\0\0a\0\0\0rest", "a", True),
        (b"\7\0\0\0\xfc\0\0\0", "ü", True),
        (b"\7\0\0\0", "", True),
    ],
)
def test_a_variable_is_its_attributes_and_a_text(tmp_path: Path, data: bytes, text: str, persists: bool) -> None:
    found = read(variable(tmp_path, data), "LoaderEntryDefault")
    assert found is not None
    assert (found.text, found.persists) == (text, persists)


@pytest.mark.parametrize("data", [b"\7", b"\7\0\0", b"\7\0\0\0a"])
def test_what_is_no_text_is_told(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BrokenHost, match=f"has {len(data)} bytes"):
        read(variable(tmp_path, data), "LoaderEntryDefault")


def test_a_variable_that_was_never_written_is_not_set(tmp_path: Path) -> None:
    host = variable(tmp_path, b"")
    assert read(host, "LoaderEntryDefault") is None
    assert text_of(host, "LoaderInfo") == ""
    assert are_there(host)
    assert not are_read_only(host)
    assert not are_there(Host(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ("systemd-boot 257.13-1~deb13u1", (257, 13)),
        ("systemd-boot 259", (259, 0)),
        ("systemd-boot 260~rc1", (260, 0)),
        ("GRUB 2.12", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_the_loader_tells_its_version(info: str, version: tuple[int, int]) -> None:
    assert version_of(info) == version
