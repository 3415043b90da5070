"""Paths that lead to devices, FIFOs, sockets and links: nothing hangs, fills the memory or is replaced."""

import io
import os
import signal
import socket
import stat
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.adapters.kernels import KernelStore
from controller.adapters.local.cache import Cache
from controller.adapters.local.named_files import copy_file, read_at_most, read_file, write_file
from controller.adapters.local.plots import write_forest
from controller.cli.gate.files import WhatIf, judge_files
from controller.cli.session import SPEC_MAX_BYTES, read_spec
from controller.domain.errors import InvalidInput, KernrollError, Permanent
from controller.domain.kernels import ImageKernel, KernelSource, PackageDirectoryKernel
from controller.views.gate.forest import ForestView

KINDS = ("device", "fifo", "socket", "link to a device", "link to a fifo")


@pytest.fixture(autouse=True)
def at_most_seconds() -> Iterator[None]:
    """End a test that hangs."""

    def late(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def odd(directory: Path, kind: str, name: str = "odd") -> Path:
    """Make what is no regular file."""
    path = directory / name
    if kind == "device":
        return Path("/dev/zero") if name == "odd" else odd(directory, "link to a device", name)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(path))
    else:
        path.symlink_to(odd(directory, kind.rpartition(" ")[2], f"{name}-behind" if "fifo" in kind else "odd"))
    return path


def kernel(tmp_path: Path, source: KernelSource) -> None:
    KernelStore(Cache(root=tmp_path / "cache")).resolve(source, "arm64")


@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_is_not_read_from_what_is_no_file(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"\(kernel image\) is a (device|FIFO|socket)"):
        kernel(tmp_path, ImageKernel(path=str(odd(tmp_path, kind))))
    (tmp_path / "debs").mkdir()
    odd(tmp_path / "debs", kind, "linux-image-7.1_1_arm64.deb")
    with pytest.raises(InvalidInput, match=r"\(kernel package\) is a (device|FIFO|socket)"):
        kernel(tmp_path, PackageDirectoryKernel(path=str(tmp_path / "debs")))


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_modules_are_files(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image").write_bytes(bytes(0x38) + b"ARM\x64" + bytes(64) + b"Linux version 7.1 (b@h)")
    (tmp_path / "modules/7.1/kernel").mkdir(parents=True)
    odd(tmp_path / "modules/7.1/kernel", kind, "nvme.ko")
    with pytest.raises(InvalidInput, match=r"nvme\.ko: is a .*; only files belong there"):
        kernel(tmp_path, ImageKernel(path=str(tmp_path / "image"), modules=str(tmp_path / "modules")))


@pytest.mark.parametrize("kind", ["device", "socket", "link to a device"])
def test_the_command_line_reads_files_and_pipes(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(odd(tmp_path, kind))
    for read in (lambda: read_spec(path), lambda: judge_files(path, "-", WhatIf())):
        with pytest.raises(InvalidInput, match=r"is a (device|socket), not a file"):
            read()


def test_a_fifo_that_nobody_writes_to_is_an_empty_spec(tmp_path: Path) -> None:
    assert read_spec(str(odd(tmp_path, "fifo")))[0] == ""


def test_the_pipe_of_a_shell_is_read_to_its_end() -> None:
    # As <(…) of a shell gives it.
    reading, writing = os.pipe()
    text = "x" * 200_000

    def write() -> None:
        with open(writing, "wb") as pipe:
            pipe.write(text.encode())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert read_spec(f"/dev/fd/{reading}")[0] == text
    finally:
        writer.join()
        os.close(reading)


def test_a_pipe_without_end_is_too_large() -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        assert endless.stdout is not None
        with pytest.raises(InvalidInput, match=f"larger than {SPEC_MAX_BYTES} bytes"):
            read_spec(f"/dev/fd/{endless.stdout.fileno()}")
        endless.kill()


def test_files_are_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(InvalidInput, match="is larger than 4 bytes"):
        read_file(path, 4)
    # A sparse file says its size; one of the kernel's says none and has content.
    os.truncate(path, 1 << 40)
    with pytest.raises(InvalidInput, match="is larger than 1 MiB"):
        read_file(path, 1 << 20)
    assert read_file("/proc/self/status", 1 << 20).startswith(b"Name:")
    with pytest.raises(InvalidInput, match="is larger than 10 bytes"):
        read_file("/proc/self/status", 10)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(InvalidInput, match="link: is a link, not a file"):
        read_file(tmp_path / "link", 5, follow=False)
    with pytest.raises(InvalidInput, match="is larger than"):
        copy_file(path, tmp_path / "copy", 1 << 20)
    assert (tmp_path / "copy").stat().st_size <= 1 << 20


def test_what_says_that_it_is_empty_and_never_ends_is_held_once() -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return bytes(size or 0)

    most = 32 << 20
    tracemalloc.start()
    try:
        assert len(read_at_most(Endless(), most)) == most + 1
        assert tracemalloc.get_traced_memory()[1] < 1.5 * most
    finally:
        tracemalloc.stop()


def test_names_in_messages_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "red\x1b[31m\nline"
    path.mkdir()
    for act in (lambda: read_file(path, 1), lambda: write_file(path, ""), lambda: read_spec(str(path))):
        with pytest.raises(KernrollError, match="a directory") as caught:
            act()
        assert str(caught.value).isprintable()


def test_a_file_is_written_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_file(path, "one")
    assert path.stat().st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o22))
    path.chmod(0o640)
    write_file(path, b"two")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("two", 0o640)
    assert os.listdir(tmp_path) == ["report.md"]


@pytest.mark.parametrize("absolute", [True, False])
def test_through_a_link_the_file_behind_it_is_written(tmp_path: Path, absolute: bool) -> None:
    (tmp_path / "kept").mkdir()
    target = tmp_path / "kept/report.md"
    link = tmp_path / "report.md"
    link.symlink_to(target if absolute else "kept/report.md")
    # The first time there is nothing behind it yet.
    for text in ("one", "two"):
        write_file(link, text)
        assert link.is_symlink()
        assert target.read_text() == text


def test_a_link_that_waits_where_the_draft_goes_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    for name in ("report.md.partial", f".report.md.{os.getpid()}.partial"):
        (tmp_path / name).symlink_to("victim")
    write_file(tmp_path / "report.md", "new")
    assert (tmp_path / "victim").read_text() == "kept"


def test_devices_are_written_into_and_stay(tmp_path: Path) -> None:
    device = os.makedev(1, 3)
    for path in (Path("/dev/null"), tmp_path / "link"):
        if path.name == "link":
            path.symlink_to("/dev/null")
        write_file(path, "gone")
        status = path.stat()
        assert stat.S_ISCHR(status.st_mode)
        assert status.st_rdev == device
    with pytest.raises(Permanent, match="/dev/full: cannot be written: No space left"):
        write_file(Path("/dev/full"), "x")


def test_a_fifo_is_written_into_when_somebody_reads(tmp_path: Path) -> None:
    path = odd(tmp_path, "fifo")
    with pytest.raises(Permanent, match="nobody reads from this FIFO"):
        write_file(path, "lost")
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_file(path, "read")
    assert os.read(reading, 100) == b"read"
    os.close(reading)
    assert stat.S_ISFIFO(path.lstat().st_mode)


@pytest.mark.parametrize("form", ["pipe", "file"])
def test_what_is_open_already_is_written_into(tmp_path: Path, form: str) -> None:
    path = tmp_path / "out"
    path.write_text("before ")
    reading, writing = os.pipe() if form == "pipe" else (os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY))
    inode = os.fstat(writing).st_ino
    write_file(Path(f"/dev/fd/{writing}"), "report")
    assert os.read(reading, 100).endswith(b"report")
    assert os.fstat(writing).st_ino == inode
    assert form == "pipe" or path.stat().st_ino == inode
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("kind", ["socket", "directory", "nothing above", "circle"])
def test_what_cannot_be_written_is_told_and_stays(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "odd"
    match kind:
        case "socket":
            odd(tmp_path, kind)
        case "directory":
            path.mkdir()
        case "circle":
            path.symlink_to("odd")
        case _:
            path = tmp_path / "absent/odd"
    before = path.lstat().st_ino if kind != "nothing above" else 0
    with pytest.raises(Permanent, match="odd"):
        write_file(path, "x")
    assert kind == "nothing above" or path.lstat().st_ino == before


def test_a_plot_does_not_replace_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.svg").write_text("old")
    (tmp_path / "plot.svg").symlink_to("real.svg")
    view = ForestView(title="t", action="hold", verdict="PASS", sentence="s", strata=(), panels=(), remarks=())
    write_forest(view, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").is_symlink()
    assert "<svg" in (tmp_path / "real.svg").read_text()
