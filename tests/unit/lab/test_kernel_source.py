"""The part of a kernel's source that guests are given."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from crafted_packages import file, link, tar

from agent.workloads.kinds.built.kernel_source import is_partial
from controller.adapters.kernels.debian import AptRoot, PackageVersion
from controller.adapters.local.cache import Cache
from controller.domain.errors import Permanent
from controller.lab import kernel_source
from controller.lab.kernel_source import is_kept, newest, offered_sources, oldest, prepare_source

MEMBERS = (
    "Makefile",
    "MAINTAINERS",
    "Kconfig",
    "mm/memory.c",
    "drivers/net/Kconfig",
    "drivers/net/loopback.c",
    "fs/namei.c",
    "fs/ext4/inode.c",
    "arch/arm64/boot/dts/Makefile",
    "arch/arm64/boot/dts/board.dts",
    "include/linux/mm.h",
    "include/drm/drm.h",
)


def test_what_objects_of_the_core_need_is_kept_and_every_kconfig() -> None:
    assert [each for each in MEMBERS if is_kept(each)] == [
        "Makefile",
        "Kconfig",
        "mm/memory.c",
        "drivers/net/Kconfig",
        "fs/namei.c",
        "arch/arm64/boot/dts/Makefile",
        "include/linux/mm.h",
    ]


def test_the_newest_revision_of_the_releases_own_kernel_is_taken() -> None:
    offered = [
        PackageVersion(package="linux-source-7.3", version="7.3.4-1~bpo13+1"),
        PackageVersion(package="linux-source-6.12", version="6.12.95-1"),
        PackageVersion(package="linux-source-6.12", version="6.12.117-1"),
    ]
    assert oldest(offered) == offered[2]
    assert newest(offered) == offered[0]


def test_a_mirror_without_a_source_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AptRoot, "versions", lambda *_: [])
    packages = AptRoot(cache=Cache(root=tmp_path), suites=("trixie",), architectures=("amd64",))
    with pytest.raises(Permanent, match="KERNROLL_DEBIAN_SUITES"):
        offered_sources(packages, lambda *_: None)


def test_a_source_is_cut_down_once_and_the_agent_knows_it_for_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = PackageVersion(package="linux-source-6.12", version="6.12.117-1")
    monkeypatch.setattr(AptRoot, "versions", lambda *_: [version])
    monkeypatch.setattr(AptRoot, "exact", lambda *_: [])
    monkeypatch.setattr(AptRoot, "fetch", lambda *_, label: [])
    unpacked = []

    def unpack(archives: list[Path], tree: Path, progress: object, *, label: str) -> None:
        unpacked.append(label)
        (tree / "usr/src").mkdir(parents=True)
        with tarfile.open(tree / "usr/src/linux-source-6.12.tar.xz", "w:xz") as archive:
            for name in MEMBERS:
                member = tarfile.TarInfo(f"linux-source-6.12/{name}")
                member.size = len(name)
                archive.addfile(member, io.BytesIO(name.encode()))

    monkeypatch.setattr(kernel_source, "unpack", unpack)
    cache = Cache(root=tmp_path)
    packages = AptRoot(cache=cache, suites=("trixie",), architectures=("amd64",), mirror="http://mirror.invalid")
    source = prepare_source(cache, packages, lambda *_: None)
    again = prepare_source(cache, packages, lambda *_: None)
    assert source == again
    assert unpacked == ["linux-source-6.12 6.12.117-1"]
    assert is_partial(source.name)
    assert not is_partial("linux-source-6.12.tar.xz")
    files = {str(path.relative_to(source.path)) for path in source.path.rglob("*") if path.is_file()}
    assert files == {each for each in MEMBERS if is_kept(each)}
    assert (source.path / "mm/memory.c").read_text() == "mm/memory.c"


@pytest.mark.parametrize(
    ("ending", "pack"), [("xz", lzma.compress), ("gz", gzip.compress), ("bz2", bz2.compress), ("", bytes)]
)
def test_a_source_writes_only_below_its_folder(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    tarball = tmp_path / f"source.tar.{ending}"
    links = [link("top/mm", str(tmp_path / "outside")), link("top/kernel", "../../outside")]
    files = [file(name, b"x") for name in ("top/mm/memory.c", "top/kernel/fork.c", "top/Makefile")]
    tarball.write_bytes(pack(tar([*links, *files])))
    kernel_source.extract_kept(tarball, tmp_path / "tree", lambda _: True)
    assert (tmp_path / "tree/Makefile").read_text() == "x"
    assert not (tmp_path / "outside").exists()
    tarball.write_bytes(tarball.read_bytes()[: -20 if ending else 700])
    with pytest.raises(Permanent, match=r"source\.tar"):
        kernel_source.extract_kept(tarball, tmp_path / "again", lambda _: True)
