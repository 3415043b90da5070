"""Package files made by hand, so that there is in them what no tool would put there: ar around two tars."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"", *, mode: int = 0o644) -> Member:
    """Return a regular file of a package."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    return member, content


def other(name: str, kind: bytes, target: str = "") -> Member:
    """Return a link, folder, device or FIFO of a package."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, target, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return member, b""


def link(name: str, target: str) -> Member:
    """Return a symbolic link of a package."""
    return other(name, tarfile.SYMTYPE, target)


def tar(members: Iterable[Member]) -> bytes:
    """Return a tar with these members, as they are given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_package(path: Path, data: bytes, *, name: str = "data.tar") -> Path:
    """Write a package file around a tar that may be compressed already: `name` says how."""
    control = tar(
        [file("./control", b"Package: crafted\nVersion: 1\nArchitecture: all\nMaintainer: t\nDescription: t\n")]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as output:
        output.write(b"!<arch>\n")
        for part, content in (("debian-binary", b"2.0\n"), ("control.tar", control), (name, data)):
            output.write(f"{part:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            output.write(content + b"\n" * (len(content) % 2))
    return path
