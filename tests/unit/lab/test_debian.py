"""Package files come from the machine's own mirror, are checked, and fail with one clear sentence."""

import hashlib
import json
from pathlib import Path

import pytest

from controller.adapters.kernels.debian import archives as archives_module
from controller.adapters.kernels.debian.archives import Archive, fetch, parse_records, parse_uris, unpack
from controller.adapters.kernels.debian.mirror import choose_mirror, find_mirror
from controller.adapters.kernels.debian.suites import guest_packages, host_release
from controller.adapters.local.cache import Cache, no_progress
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent, Temporary

MIRROR = "http://mirror.test/debian"


@pytest.mark.parametrize(
    ("targets", "mirror"),
    [
        (f"Packages|Debian|Debian|{MIRROR}/", MIRROR),
        (
            f"Packages|Other|Other|http://a.test/\nPackages|Debian|Debian-Security|http://s.test/\nPackages|Debian|Debian|{MIRROR}/",
            MIRROR,
        ),
        (f"Packages|||http://s.test/debian-security/\nPackages|||{MIRROR}/", MIRROR),
        (f"Translations|Debian|Debian|{MIRROR}/", None),
        ("Packages|Ubuntu|Ubuntu|http://u.test/ubuntu/", None),
        ("", None),
    ],
)
def test_the_mirror_is_the_machines_own(targets: str, mirror: str | None) -> None:
    assert choose_mirror(targets) == mirror


def test_the_setting_wins() -> None:
    assert find_mirror({"KERNROLL_DEBIAN_MIRROR": f"{MIRROR}/"}) == MIRROR


def test_addresses_are_known_by_the_files_own_names() -> None:
    output = f"'{MIRROR}/pool/l/linux-binary-7.1%2bdeb13_7.1-1%7ebpo_amd64.deb' x_amd64.deb 12 MD5Sum:00\nnoise\n"
    assert parse_uris(output) == {"linux-binary-7.1+deb13_7.1-1~bpo_amd64.deb": output.split("'")[1]}


def test_records_are_read_without_their_continuations() -> None:
    text = "Package: a\nVersion: 1\nDescription: x\n more: not a field\n\nPackage: b\nVersion: 2\n"
    assert parse_records(text) == [
        {"Package": "a", "Version": "1", "Description": "x"},
        {"Package": "b", "Version": "2"},
    ]


def test_other_suites_can_be_chosen(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path)
    assert guest_packages(cache, {"KERNROLL_DEBIAN_SUITES": "sid trixie"}).suites == ("sid", "trixie")
    assert guest_packages(cache, {}).suites == ("trixie", "trixie-backports")


def test_the_machines_release_is_read(tmp_path: Path) -> None:
    file = tmp_path / "os-release"
    file.write_text('NAME="Debian GNU/Linux"\nVERSION_CODENAME=bookworm\n')
    assert host_release(file) == "bookworm"
    assert host_release(tmp_path / "none") == ""


def archive(name: str, content: bytes, *, sha256: str | None = None) -> Archive:
    digest = sha256 or hashlib.sha256(content).hexdigest()
    return Archive(package=name, version="1", uri=f"{MIRROR}/{name}.deb", size_bytes=len(content), sha256=digest)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for apt's downloader: serves files of a directory, or fails as a file named `failure` says."""
    served = tmp_path / "mirror"
    served.mkdir()
    helper = tmp_path / "apt-helper"
    helper.write_text(
        "#!/bin/sh\nset -e\n"
        f'served={served}\nif [ -e "$served/failure" ]; then cat "$served/failure" >&2; exit 100; fi\n'
        'shift\nwhile [ $# -gt 0 ]; do echo "$1" >> "$served/asked"; cp "$served/${1##*/}" "$2"; shift 3; done\n'
    )
    helper.chmod(0o755)
    monkeypatch.setattr(archives_module, "_HELPER", str(helper))
    return served


def test_files_are_fetched_once_and_progress_ends_at_the_total(tmp_path: Path, mirror: Path) -> None:
    wanted = [archive("a", b"first"), archive("b", b"second")]
    (mirror / "a.deb").write_bytes(b"first")
    (mirror / "b.deb").write_bytes(b"second")
    heard: list[tuple[str, int, int]] = []
    for _ in range(2):
        files = fetch(wanted, tmp_path / "cache", lambda *step: heard.append(step), label="two", environment={})
        assert [file.read_bytes() for file in files] == [b"first", b"second"]
    assert heard[-1] == ("two", 11, 11)
    assert len((mirror / "asked").read_text().split()) == 2
    assert not list((tmp_path / "cache").glob(".*"))


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        ("E: Failed to fetch x  Could not connect to mirror.test:80", Temporary, "KERNROLL_DEBIAN_MIRROR"),
        ("E: Failed to fetch x  404  Not Found [IP: 192.0.2.1 80]", Permanent, "no longer has a.deb"),
        ("E: Failed to fetch x  Hash Sum mismatch", Permanent, "checksum"),
        ("E: Write error - write (28: No space left on device)", Permanent, "disk is full"),
        ("", Temporary, "gave no reason"),
    ],
)
def test_a_failed_download_says_why(
    tmp_path: Path, mirror: Path, failure: str, kind: type[Exception], text: str
) -> None:
    (mirror / "failure").write_text(failure)
    with pytest.raises(kind, match=text):
        fetch([archive("a", b"first")], tmp_path / "cache", no_progress, label="a", environment={})
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_with_other_content_is_not_kept(tmp_path: Path, mirror: Path) -> None:
    (mirror / "a.deb").write_bytes(b"other")
    with pytest.raises(Permanent, match="another checksum"):
        fetch([archive("a", b"first")], tmp_path / "cache", no_progress, label="a", environment={})
    assert list((tmp_path / "cache").iterdir()) == []


def test_leftovers_of_killed_downloads_are_removed(tmp_path: Path, mirror: Path) -> None:
    (mirror / "a.deb").write_bytes(b"first")
    # Process numbers end far below this one.
    leftover = tmp_path / "cache/.partial-99999999-x"
    leftover.mkdir(parents=True)
    fetch([archive("a", b"first")], tmp_path / "cache", no_progress, label="a", environment={})
    assert not leftover.exists()


def test_what_is_no_package_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "a.deb"
    file.write_bytes(json.dumps({}).encode())
    with pytest.raises(Permanent, match="Unpacking thing: dpkg-deb failed"):
        unpack([file], tmp_path / "tree", no_progress, label="thing")


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.adapters.local.tools.tool_environment", lambda extra=None: {"PATH": "/nowhere"})
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Permanent, match="depmod was not found; install the Debian package kmod"):
        run_tool(["depmod"], timeout_s=1, what="Indexing")


def test_a_tool_that_hangs_is_ended() -> None:
    with pytest.raises(Permanent, match="took longer than 0 s"):
        run_tool(["sleep", "60"], timeout_s=0.01, what="Waiting")
