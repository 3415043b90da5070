"""What systemd-boot offers, and in which order, from files alone."""

import os
import struct
from pathlib import Path

import pytest

from agent.boot.host import Host
from agent.boot.systemd_boot.entries import Offer, chosen, offers, settings
from agent.boot.systemd_boot.images import read_unified, release_of
from agent.boot.systemd_boot.refusals import Preferences
from agent.boot.values import BrokenHost

X86_KERNEL = b"\0" * 0x202 + b"HdrS" + b"\0" * 8 + struct.pack("<H", 0x100) + b"\0" * 0xF0


def entry(root: Path, name: str, text: str = "", place: str = "efi") -> None:
    folder = root / place / "loader/entries"
    folder.mkdir(parents=True, exist_ok=True)
    (root / place / "k").write_bytes(b"kernel")
    (folder / name).write_text(text or f"title {name}\nlinux /k\n")


def found(root: Path, *places: str) -> list[Offer]:
    return offers(Host(root), places or ("/efi",))


def ids(root: Path, *places: str) -> list[str]:
    return [one.entry.id for one in found(root, *places)]


def unified(sections: dict[str, bytes]) -> bytes:
    """Return a PE file that has these sections and nothing to run."""
    table, body, start = b"", b"", 0x400
    for name, data in sections.items():
        head = name.encode().ljust(8, b"\0")
        table += head + struct.pack("<IIII", len(data), 0, len(data), start + len(body)) + b"\0" * 16
        body += data
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    pe = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, 0, 0)
    return (head + pe + table).ljust(start, b"\0") + body


def test_an_entry_is_read_with_all_that_it_loads(tmp_path: Path) -> None:
    text = (
        "# comment\ntitle   Debian GNU/Linux\nversion\t6.1.0-44-amd64\noptions root=LABEL=a\noptions panic=10  quiet\n"
        "linux \\t\\6.1.0-44-amd64\\linux\ninitrd /a\ninitrd /b\ndevicetree /d\n\nnothing\n"
    )
    entry(tmp_path, "t-6.1.0-44-amd64.conf", text)
    kernel = tmp_path / "efi/t/6.1.0-44-amd64/linux"
    kernel.parent.mkdir(parents=True)
    kernel.touch()
    one = found(tmp_path)[0].entry
    assert (one.id, one.title, one.release) == ("t-6.1.0-44-amd64.conf", "Debian GNU/Linux", "6.1.0-44-amd64")
    assert one.arguments == ("root=LABEL=a", "panic=10", "quiet")
    assert one.files == ("/efi/t/6.1.0-44-amd64/linux", "/efi/a", "/efi/b", "/efi/d")
    assert not one.recovery


@pytest.mark.parametrize(
    ("path", "version", "release"),
    [
        ("/t/7.1.13+deb13/linux", "", "7.1.13+deb13"),
        ("/vmlinuz-7.1.13-a~b", "", "7.1.13-a~b"),
        ("/vmlinuz-linux", "", "6.6.6-own"),
        ("/vmlinuz-linux", "Arch rolling", "6.6.6-own"),
        ("/vmlinuz-linux", "7.0.1", "7.0.1"),
    ],
)
def test_a_release_is_told_by_entry_path_or_kernel(tmp_path: Path, path: str, version: str, release: str) -> None:
    entry(tmp_path, "one.conf", f"linux {path}\n" + (f"version {version}\n" if version else ""))
    kernel = tmp_path / "efi" / path[1:]
    kernel.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_bytes(X86_KERNEL + b"6.6.6-own (builder) #1\0")
    assert found(tmp_path)[0].entry.release == release


def test_what_is_no_kernel_names_no_release(tmp_path: Path) -> None:
    for data in (b"", b"\0" * 0x20000, X86_KERNEL, X86_KERNEL + b"linux"):
        (tmp_path / "k").write_bytes(data)
        assert release_of(tmp_path / "k") == ""


@pytest.mark.parametrize(
    ("name", "entry_id", "left", "done"),
    [
        ("a+3.conf", "a.conf", 3, 0),
        ("a+2-1.conf", "a.conf", 2, 1),
        ("a+0-3.conf", "a.conf", 0, 3),
        ("a-7.1.13+deb13-amd64.conf", "a-7.1.13+deb13-amd64.conf", None, 0),
        ("a-7.1.13+deb13-amd64+1.conf", "a-7.1.13+deb13-amd64.conf", 1, 0),
        ("a+.conf", "a+.conf", None, 0),
        ("a+1-.conf", "a+1-.conf", None, 0),
        ("A.CONF", "A.CONF", None, 0),
    ],
)
def test_counters_are_no_part_of_a_name(tmp_path: Path, name: str, entry_id: str, left: int | None, done: int) -> None:
    entry(tmp_path, name)
    one = found(tmp_path)[0]
    assert (one.entry.id, one.tries_left, one.tries_done) == (entry_id, left, done)


def test_what_systemd_boot_leaves_out_is_left_out(tmp_path: Path) -> None:
    for name in (".hidden.conf", "auto-windows.conf", "a.conf.dpkg-new", "b"):
        entry(tmp_path, name)
    entry(tmp_path, "gone.conf", "linux /is-not-there\n")
    entry(tmp_path, "empty.conf", "title nothing\n")
    entry(tmp_path, "other.conf", "linux /k\narchitecture ia32\n")
    (tmp_path / "efi/loader/entries/folder.conf").mkdir()
    assert ids(tmp_path) == []
    own = {"x86_64": "X64", "aarch64": "aa64"}.get(os.uname().machine)
    if own:
        entry(tmp_path, "own.conf", f"linux /k\narchitecture {own}\n")
        assert ids(tmp_path) == ["own.conf"]


def test_the_newest_stands_first_and_what_failed_last(tmp_path: Path) -> None:
    for name, version, key in (
        ("m-6.9.conf", "6.9", "debian"),
        ("m-6.10.conf", "6.10", "debian"),
        ("m-6.10~rc1.conf", "6.10~rc1", "debian"),
        ("m-7.0+0-3.conf", "7.0", "debian"),
        ("a-1.conf", "1", "arch"),
    ):
        entry(tmp_path, name, f"linux /k\nversion {version}\nsort-key {key}\n")
    for name in ("old-9.conf", "old-10.conf"):
        entry(tmp_path, name)
    entry(tmp_path, "m-6.11.conf", "linux /k\nversion 6.11\nsort-key debian\n", "boot")
    order = ["a-1.conf", "m-6.11.conf", "m-6.10.conf", "m-6.10~rc1.conf", "m-6.9.conf"]
    assert ids(tmp_path, "/efi", "/boot") == [*order, "old-10.conf", "old-9.conf", "m-7.0.conf"]


def test_a_unified_image_is_an_entry(tmp_path: Path) -> None:
    folder = tmp_path / "efi/EFI/Linux"
    folder.mkdir(parents=True)
    sections = {
        ".osrel": b'ID=debian\nPRETTY_NAME="Debian 13"\nVERSION_ID=13\n',
        ".cmdline": b"root=LABEL=a panic=10\n\0",
        ".uname": b"7.1.13-amd64\0",
    }
    (folder / "debian+3.efi").write_bytes(unified(sections))
    (folder / "unnamed.efi").write_bytes(unified({".osrel": b"VERSION_ID=13\n"}))
    (folder / "shell.efi").write_bytes(b"MZ")
    (offer,) = found(tmp_path)
    one = offer.entry
    assert (one.id, one.title, one.release) == ("debian.efi", "Debian 13", "7.1.13-amd64")
    assert (one.arguments, one.files) == (("root=LABEL=a", "panic=10"), ("/efi/EFI/Linux/debian+3.efi",))
    assert (offer.sort_key, offer.version, offer.tries_left) == ("debian", "13", 3)
    # An entry may name one as well, and give it another command line.
    entry(tmp_path, "named.conf", "efi /EFI/Linux/debian+3.efi\noptions single\n")
    named = chosen(found(tmp_path), "named.conf")
    assert named is not None
    assert (named.entry.release, named.entry.arguments, named.entry.recovery) == ("7.1.13-amd64", ("single",), True)


@pytest.mark.parametrize("length", [0, 1, 0x3F, 0x41, 0x58, 0x60, 0x3FF, 0x405])
def test_an_image_that_is_cut_off_is_read_without_harm(tmp_path: Path, length: int) -> None:
    (tmp_path / "cut").write_bytes(unified({".osrel": b"ID=debian\n", ".uname": b"7.1\0"})[:length])
    read_unified(tmp_path / "cut")


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("B-2.CONF", "b-2.conf"),
        ("b-*", "b-2.conf"),
        ("?-1.conf", "b-1.conf"),
        ("b-[1-2].conf", "b-2.conf"),
        # No negation, as in a shell.
        ("b-[!2].conf", "b-2.conf"),
        ("b-[1", ""),
        ("b-[z-a].conf", ""),
        ("b-\\2.conf", "b-2.conf"),
        ("b-2", ""),
        ("b-2.conf.d", ""),
        ("", ""),
    ],
)
def test_a_name_may_be_a_pattern(tmp_path: Path, pattern: str, taken: str) -> None:
    for name in ("b-1.conf", "b-2.conf"):
        entry(tmp_path, name)
    one = chosen(found(tmp_path), pattern)
    assert (one.entry.id if one else "") == taken


@pytest.mark.parametrize(
    ("said", "default"),
    [
        ({}, "c.conf"),
        ({"default": "a.conf"}, "a.conf"),
        ({"default": "a.conf", "LoaderEntryDefault": "b.conf"}, "b.conf"),
        ({"default": "a.conf", "LoaderEntryDefault": "gone.conf"}, "a.conf"),
        ({"preferred": "a.conf", "LoaderEntryDefault": "b.conf"}, "a.conf"),
        ({"preferred": "a.conf", "LoaderEntryPreferred": "c.conf"}, "c.conf"),
        # What is preferred must still have tries; the default need not.
        ({"preferred": "bad.conf"}, "c.conf"),
        ({"LoaderEntryDefault": "bad.conf"}, "bad.conf"),
        ({"LoaderEntryDefault": "@saved", "LoaderEntryLastBooted": "a.conf"}, "a.conf"),
        ({"default": "@saved", "LoaderEntryLastBooted": "gone.conf"}, "c.conf"),
    ],
)
def test_what_boots_by_default_is_asked_for_in_order(tmp_path: Path, said: dict[str, str], default: str) -> None:
    for name in ("a.conf", "b.conf", "c.conf", "bad+0-1.conf"):
        entry(tmp_path, name)
    one = Preferences(variables=said, configured=said).default_of(found(tmp_path))
    assert one is not None
    assert one.entry.id == default
    assert Preferences(variables=said, configured=said).default_of([]) is None


def test_settings_are_read_as_systemd_boot_reads_them() -> None:
    text = 'timeout 3\r\n  default  "a b.conf" \n#editor no\nwithout\ntimeout menu-force\n'
    assert settings(text) == {"timeout": ["menu-force"], "default": ["a b.conf"]}


def test_entries_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path, "a.conf")

    def fails(_path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", fails)
    with pytest.raises(BrokenHost, match="/efi/loader/entries cannot be read: Permission denied"):
        found(tmp_path)
