"""Kernel packages that want more than to be unpacked: out of the tree, into the disk, onto the machine."""

import contextlib
import gzip
import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from crafted_packages import Member, file, link, other, tar, write_package
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.kernels import KernelStore
from controller.adapters.kernels import unpacking as unpacking_module
from controller.adapters.kernels.debian import unpack
from controller.adapters.local.cache import Cache, no_progress
from controller.domain.errors import InvalidInput, KernrollError, Permanent
from controller.domain.kernels import ImageKernel, KernelSource, PackageDirectoryKernel

RELEASE = "7.1.0-mine"
SECRET = b"-----BEGIN PRIVATE KEY-----"


def image(release: str = RELEASE) -> bytes:
    return bytes(0x38) + b"ARM\x64" + bytes(64) + b"Linux version " + release.encode() + b" (b@h) #1"


def module(name: str) -> str:
    return f"./lib/modules/{RELEASE}/kernel/{name}"


KERNEL = [file(f"./boot/vmlinuz-{RELEASE}", image()), file(f"./lib/modules/{RELEASE}/modules.order", b"")]
BUILTIN = file(f"./lib/modules/{RELEASE}/modules.builtin", b"")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A directory with a cache in it and a secret beside that."""
    (tmp_path / "secret.pem").write_bytes(SECRET)
    return tmp_path


def everything(world: Path, *without: str) -> dict[str, bytes]:
    """Return what is in the world, outside some of its folders."""
    return {
        str(path.relative_to(world)): path.read_bytes()
        for path in world.rglob("*")
        if path.is_file() and path.relative_to(world).parts[0] not in without
    }


def resolve(world: Path, source: KernelSource) -> dict[str, str]:
    return dict(KernelStore(Cache(root=world / "cache")).resolve(source, "arm64").files)


def package(world: Path, members: list[Member]) -> KernelSource:
    write_package(world / f"debs/linux-image-{RELEASE}_1_arm64.deb", tar(members))
    return PackageDirectoryKernel(path=str(world / "debs"))


@pytest.mark.parametrize(
    "release",
    [
        "../../../outside",
        "..",
        ".",
        "/etc/outside",
        "a/../../b",
        "7.1[/x]",
        "7.1\x1b[31m",
        "7.1\u202e",
        "a" * 65,
        "7.1;x",
    ],
)
@pytest.mark.parametrize("form", ["image", "package"])
def test_a_release_that_is_none_is_refused_and_nothing_is_written(world: Path, release: str, form: str) -> None:
    (world / "image").write_bytes(image(release))
    (world / "modules/lib/modules/7.1/kernel").mkdir(parents=True)
    source: KernelSource = ImageKernel(path=str(world / "image"), modules=str(world / "modules"))
    if form == "package":
        source = package(world, [file("./boot/vmlinuz-7.1", image(release)), file("./lib/modules/7.1/modules.order")])
    before = everything(world, "cache")
    with pytest.raises(InvalidInput, match="for a release, which must be") as caught:
        resolve(world, source)
    assert str(caught.value).isprintable()
    assert everything(world, "cache") == before
    assert not any((world / "cache/kernels").rglob("*"))


def test_a_package_of_the_usual_kind_is_unpacked_with_its_links(world: Path) -> None:
    members = [
        *KERNEL,
        BUILTIN,
        other("./usr", tarfile.DIRTYPE),
        file("./usr/bin/program", b"program", mode=0o4755),
        other("./usr/bin/same", tarfile.LNKTYPE, "./usr/bin/program"),
        link("./usr/bin/short", "program"),
        link("./var/run", "/run"),
        file(f"./usr/share/{'long' * 40}/{'name' * 40}", b"deep"),
    ]
    write_package(world / "a.deb", gzip.compress(tar(members)), name="data.tar.gz")
    unpack([world / "a.deb"], world / "tree", no_progress, label="a")
    unpack([world / "a.deb"], world / "tree", no_progress, label="a again")
    program = world / "tree/usr/bin/program"
    assert (program.read_bytes(), program.stat().st_mode & 0o7777) == (b"program", 0o755)
    assert program.samefile(world / "tree/usr/bin/same")
    assert os.readlink(world / "tree/usr/bin/short") == "program"
    assert os.readlink(world / "tree/var/run") == "/run"
    assert (world / f"tree/usr/share/{'long' * 40}/{'name' * 40}").read_bytes() == b"deep"


def test_extended_headers_are_understood(tmp_path: Path) -> None:
    name = "./" + "ü" * 90 + "/" + "n" * 200
    with tarfile.open(tmp_path / "tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(name))
    write_package(tmp_path / "a.deb", (tmp_path / "tar").read_bytes())
    unpack([tmp_path / "a.deb"], tmp_path / "tree", no_progress, label="a")
    assert (tmp_path / "tree" / name).is_file()


@pytest.mark.parametrize(
    "members",
    [
        [link("./out", "{world}"), file("./out/written", b"x")],
        [link("./out", "../.."), file("./out/written", b"x")],
        [link("./a", "{world}"), link("./b", "a"), other("./b/written", tarfile.DIRTYPE)],
        [link("./out", "{world}/secret.pem"), file("./out", b"x")],
        [file("../written", b"x")],
        [file("{world}/written", b"x")],
        [file("./a/../../written", b"x")],
        [other("./hard", tarfile.LNKTYPE, "{world}/secret.pem"), file("./hard", b"x")],
        [link("./out", "{world}/secret.pem"), other("./hard", tarfile.LNKTYPE, "./out")],
        [link("./out", "{world}"), other("./hard", tarfile.LNKTYPE, "./out/secret.pem")],
        [other("./device", tarfile.CHRTYPE)],
        [other("./device", tarfile.BLKTYPE)],
        [other("./fifo", tarfile.FIFOTYPE)],
        [other("./odd", b"V")],
        [link("./a", "b"), link("./b", "a"), file("./a/x", b"x")],
        [file("./" + "d/" * 100 + "x", b"x")],
    ],
    ids=lambda members: members[-1][0].name[:12],
)
def test_nothing_leads_out_of_the_tree(world: Path, members: list[Member]) -> None:
    for member, _ in members:
        member.name = member.name.replace("{world}", str(world))
        member.linkname = member.linkname.replace("{world}", str(world))
    write_package(world / "a.deb", tar(members))
    before = everything(world, "tree")
    try:
        unpack([world / "a.deb"], world / "tree", no_progress, label="a")
    except InvalidInput as error:
        assert "a.deb" in str(error) or str(world / "tree") in str(error)
    assert everything(world, "tree") == before
    secret = (world / "secret.pem").stat()
    assert secret.st_nlink == 1
    for path in (world / "tree").rglob("*"):
        assert path.is_symlink() or path.is_dir() or path.is_file(), path
        assert path.lstat().st_ino != secret.st_ino


@pytest.mark.parametrize(
    "target", ["{world}/secret.pem", "../../../../../../../../../../{world}/secret.pem", "/nowhere"]
)
@pytest.mark.parametrize("name", ["nvme.ko", "nvme.ko.xz", "../modules.order", "../modules.builtin"])
def test_no_file_of_the_machine_comes_into_a_guest_through_a_link(world: Path, name: str, target: str) -> None:
    path = os.path.normpath(module(name))
    members = [*KERNEL[:1], file(module("ext4.ko"), b"x"), link(f"./{path}", target.replace("{world}", str(world)))]
    with pytest.raises(InvalidInput, match="is a link that leads to no file of"):
        resolve(world, package(world, members))
    assert not any(SECRET in content for content in everything(world / "cache").values())


@pytest.mark.parametrize("folder", ["lib", "lib/modules", f"lib/modules/{RELEASE}", "boot"])
def test_no_folder_of_the_machine_is_taken_for_one_of_the_package(world: Path, folder: str) -> None:
    real = world / "outside" / folder.rpartition("/")[2]
    for path in (real / f"modules/{RELEASE}", real / RELEASE, real):
        (path / "kernel").mkdir(parents=True, exist_ok=True)
        (path / "kernel/nvme.ko").write_bytes(SECRET)
        (path / f"vmlinuz-{RELEASE}").write_bytes(image())
    members = [link(f"./{folder}", str(real)), file(f"./usr/lib/modules/{RELEASE}/vmlinuz", image())]
    resolve(world, package(world, members))
    assert not any(SECRET in content for content in everything(world / "cache").values())


def test_a_link_inside_the_modules_stands_for_its_file(world: Path) -> None:
    linked = [*KERNEL, BUILTIN, file(module("one.ko"), b"x"), link(module("two.ko"), "one.ko")]
    plain = [*KERNEL, BUILTIN, file(module("one.ko"), b"x"), file(module("two.ko"), b"x")]
    assert resolve(world, package(world, linked)) == resolve(world, package(world, plain))


def test_the_image_is_not_one_of_the_machine(world: Path) -> None:
    (world / "vmlinuz").write_bytes(image())
    with pytest.raises(InvalidInput, match="holds 0 kernel images"):
        resolve(world, package(world, [link(f"./boot/vmlinuz-{RELEASE}", str(world / "vmlinuz"))]))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([file("./a", bytes(3000))], "holds more than 2048 bytes, the most that is unpacked"),
        ([file(f"./{number}", bytes(600)) for number in range(4)], "holds more than 2048 bytes"),
        ([file(f"./{number}") for number in range(6)], "holds more than 5 files"),
    ],
)
def test_what_is_too_large_is_not_unpacked(
    world: Path, members: list[Member], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking_module, "MOST_BYTES", 2048)
    monkeypatch.setattr(unpacking_module, "MOST_FILES", 5)
    write_package(world / "a.deb", tar(members))
    with pytest.raises(InvalidInput, match=said):
        unpack([world / "a.deb"], world / "tree", no_progress, label="a")
    assert sum(path.stat().st_size for path in (world / "tree").iterdir()) <= 2048


def test_a_file_larger_than_the_disk_is_refused_by_what_it_says_of_itself(world: Path) -> None:
    member, _ = file("./a")
    member.size = 1 << 50
    write_package(world / "a.deb", member.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(InvalidInput, match=r"a\.deb holds more than \d+ MiB, the most that is unpacked"):
        unpack([world / "a.deb"], world / "tree", no_progress, label="a")
    assert not list((world / "tree").iterdir())


def header(kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo("././@Header")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header(tarfile.GNUTYPE_LONGNAME, 1 << 30) + bytes(4096), "a name or header of more than 65536 bytes"),
        (header(tarfile.GNUTYPE_LONGLINK, 1 << 30) + bytes(4096), "a name or header of more than 65536 bytes"),
        (header(tarfile.XHDTYPE, 1 << 30) + bytes(4096), "a name or header of more than 65536 bytes"),
        (header(tarfile.XHDTYPE, 512) + b"99999999999999999999999 a=b\n".ljust(512, b"\0"), "cannot be read"),
        (header(tarfile.XHDTYPE, 512) + b"x".ljust(512, b"\0"), "cannot be read"),
        (header(tarfile.XHDTYPE, 512) + b"25 GNU.sparse.major=1\n".ljust(512, b"\0"), "sparse"),
        (header(tarfile.GNUTYPE_SPARSE, 0) + bytes(1024), "sparse"),
        (tar([file("./a", b"x" * 600)])[:700], "cut off"),
        (tar([file("./a", b"x")])[:-1024].rstrip(b"\0") or b"", "cut off"),
        (tar([file("./a", b"x")])[:1024] + b"damage".ljust(512, b"!") + bytes(1024), "damaged"),
    ],
)
def test_damage_and_sly_headers_are_told(world: Path, data: bytes, said: str) -> None:
    write_package(world / "a.deb", data)
    with pytest.raises(InvalidInput, match=said):
        unpack([world / "a.deb"], world / "tree", no_progress, label="a")


def test_what_is_no_package_is_told_in_the_words_of_its_tool(world: Path) -> None:
    (world / "a.deb").write_bytes(b"no package at all" * 99)
    with pytest.raises(Permanent, match=r"^Unpacking a: dpkg-deb failed: .*not a Debian format archive"):
        unpack([world / "a.deb"], world / "tree", no_progress, label="a")
    write_package(world / "b.deb", gzip.compress(tar([file("./a", os.urandom(5000))]))[:3000], name="data.tar.gz")
    with pytest.raises(Permanent, match="dpkg-deb failed"):
        unpack([world / "b.deb"], world / "tree", no_progress, label="b")


def listing(tree: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(tree)): (os.readlink(path) if path.is_symlink() else "", path.lstat().st_mode)
        for path in tree.rglob("*")
    }


def test_what_dpkg_builds_is_unpacked_as_dpkg_unpacks_it(tmp_path: Path) -> None:
    tree = tmp_path / "built"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text("Package: a\nVersion: 1\nArchitecture: all\nMaintainer: t\nDescription: t\n")
    (tree / "etc/empty").mkdir(parents=True)
    (tree / "etc/a").write_bytes(os.urandom(200_000))
    (tree / "etc/b").symlink_to("a")
    (tree / "etc" / ("n" * 200)).write_text("long")
    os.utime(tree / "etc/a", (1e9, 1e9))
    for kind in ("none", "gzip", "xz", "zstd"):
        archive = tmp_path / f"{kind}.deb"
        subprocess.run(["dpkg-deb", f"-Z{kind}", "-b", tree, archive], check=True, capture_output=True)
        subprocess.run(["dpkg-deb", "-x", archive, tmp_path / f"{kind}-theirs"], check=True)
        unpack([archive], tmp_path / f"{kind}-ours", no_progress, label="a")
        ours, theirs = listing(tmp_path / f"{kind}-ours"), listing(tmp_path / f"{kind}-theirs")
        assert ours == theirs
        assert (tmp_path / f"{kind}-ours/etc/a").stat().st_mtime == 1e9


def test_every_refusal_can_be_shown(world: Path) -> None:
    for name in ("./\x1b[31mred", "./line\nbreak", "./\u202eback"):
        write_package(world / "a.deb", tar([other(name, tarfile.FIFOTYPE)]))
        with pytest.raises(KernrollError) as caught:
            unpack([world / "a.deb"], world / "tree", no_progress, label="a")
        assert str(caught.value).isprintable()


@given(
    damage=st.lists(st.tuples(st.integers(0, 5119), st.sampled_from(list(b"\0./7Lgx\x80\xff"))), max_size=6),
    length=st.integers(0, 10_240),
)
def test_damage_of_any_kind_is_told_and_leads_nowhere(damage: list[tuple[int, int]], length: int) -> None:
    members = [file("./a/" + "n" * 150, b"x" * 700), link("./l", "../out"), file("./l/x"), file("./b", b"y")]
    data = bytearray(tar([*members, other("./h", tarfile.LNKTYPE, "./b")]))
    for place, value in damage:
        data[place] = value
        header = place // 512 * 512
        if data[header + 257 : header + 262] == b"ustar":
            # A header whose checksum is right is looked at, whatever it says.
            data[header + 148 : header + 156] = b" " * 8
            data[header + 148 : header + 156] = b"%06o\0 " % sum(data[header : header + 512])
    with tempfile.TemporaryDirectory() as world:
        with contextlib.suppress(InvalidInput):
            unpacking_module.extract(io.BytesIO(bytes(data[:length])), Path(world, "tree"), "the-package")
        assert os.listdir(world) == ["tree"]
