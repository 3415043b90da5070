"""Tools and decompressors that would go on for ever, or give more than anybody can hold."""

import bz2
import gzip
import hashlib
import lzma
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from growth import steps

from controller.adapters.kernels import KernelStore
from controller.adapters.kernels import image as image_module
from controller.adapters.kernels.image import decompress, has_direct_entry, read_image
from controller.adapters.kernels.initrd import build_initrd, modules_to_load
from controller.adapters.kernels.modules import find_modules, fingerprint, index_modules, require_modules
from controller.adapters.local import trees as trees_module
from controller.adapters.local.cache import Cache
from controller.adapters.local.tools import run_tool
from controller.adapters.local.trees import entries, locate
from controller.domain.errors import InvalidInput, KernrollError, NotFound, Permanent

MIB = 1 << 20


def by_tool(*command: str) -> Callable[[bytes], bytes]:
    return lambda data: subprocess.run(command, input=data, capture_output=True, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": by_tool("zstd", "-cq"),
    "lz4": lambda data: by_tool("lz4", "-lcq")(data) + bytes(4),
}


@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_is_not_unpacked(kind: str) -> None:
    packed = PACKERS[kind](bytes(8 * MIB))
    with pytest.raises(InvalidInput, match="the-file decompresses to more than 4 MiB, the most that is read"):
        decompress(packed, "the-file", 4 * MIB)
    assert decompress(packed, "the-file", 8 * MIB) == bytes(8 * MIB)


@pytest.mark.parametrize("kind", PACKERS)
def test_what_is_cut_off_or_followed_by_more_is_told_from_a_bomb(kind: str) -> None:
    data = os.urandom(100_000)
    packed = PACKERS[kind](data)
    with pytest.raises(InvalidInput, match="is damaged"):
        decompress(packed[: len(packed) // 2], "the-file", MIB)
    if kind != "lz4":
        # Another stream is what follows the first, and that is left out.
        assert decompress(packed + packed, "the-file", len(data)) == data


@pytest.mark.parametrize("start", [b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh", b"\x5d\0\0"])
def test_the_start_of_a_stream_alone_is_damage(start: bytes) -> None:
    with pytest.raises(InvalidInput, match="is damaged"):
        decompress(start, "the-file")


def test_a_bomb_in_an_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module.decompress, "__defaults__", (MIB,))
    packed = gzip.compress(bytes(2 * MIB))
    for data in (packed, b"MZ\0\0zimg" + struct.pack("<II", 64, len(packed)) + bytes(48) + packed):
        with pytest.raises(InvalidInput, match="decompresses to more than 1 MiB"):
            read_image(data, "vmlinuz")


def test_what_asks_for_more_memory_than_a_kernel_needs_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    packed = bytearray(lzma.compress(b"x" * 1000, filters=filters, check=lzma.CHECK_NONE))
    # The dictionary's size in the block's header, and the header's checksum after it.
    packed[12 + 4] = 40
    packed[20:24] = struct.pack("<I", zlib.crc32(bytes(packed[12:20])))
    with pytest.raises(InvalidInput, match="Memory usage limit"):
        decompress(bytes(packed), "the-file")


def test_an_image_of_many_long_notes_is_read_in_little_time() -> None:
    notes = struct.pack("<III", 4, 0, 5) * (4 * MIB // 12)
    header = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 0, 65535, 0, 0, 0)
    )
    program = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4)
    image = header + program + notes
    assert steps(lambda: has_direct_entry(image)) < 20_000_000
    assert not has_direct_entry(image)


def test_what_a_tool_prints_and_says_is_bounded() -> None:
    with pytest.raises(Permanent, match=r"^Trying: yes gave more than 1 MiB and was ended\.$"):
        run_tool(["yes"], timeout_s=60, what="Trying", most_bytes=MIB)
    script = "import sys\nsys.stderr.write('x' * 10_000_000 + '\\nthe \\x1b[31mcause\\n'); sys.exit(3)"
    with pytest.raises(Permanent) as caught:
        run_tool([sys.executable, "-c", script], timeout_s=60, what="Trying")
    assert str(caught.value).endswith(r"failed: the \x1b[31mcause")


def test_a_tool_ends_with_its_children_and_takes_any_input() -> None:
    with pytest.raises(Permanent, match=r"sh took longer than 0 s and was ended"):
        run_tool(["sh", "-c", "sleep infinity & sleep infinity"], timeout_s=0.2, what="Waiting")
    data = os.urandom(3 * MIB)
    assert run_tool(["cat"], timeout_s=60, what="Copying", stdin=data) == data
    assert run_tool(["true"], timeout_s=60, what="Copying", stdin=data) == b""


def tree(tmp_path: Path) -> Path:
    modules = tmp_path / "built/7.1"
    (modules / "kernel/drivers").mkdir(parents=True)
    (modules / "kernel/drivers/nvme.ko").write_bytes(b"x")
    (modules / "kernel/a.ko").write_bytes(b"a")
    (modules / "modules.order").write_text("kernel/a.ko\n")
    (modules / "modules.builtin").write_text("")
    (modules / "modules.dep").write_text("made by depmod")
    (modules / "build").symlink_to("/nowhere")
    (modules / "source").symlink_to("build")
    return modules


def test_the_fingerprint_of_a_usual_tree_stays_what_it_was(tmp_path: Path) -> None:
    expected = hashlib.sha256()
    for name, content in (
        ("modules.builtin", b""),
        ("modules.order", b"kernel/a.ko\n"),
        ("kernel/a.ko", b"a"),
        ("kernel/drivers/nvme.ko", b"x"),
    ):
        expected.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    assert fingerprint(tree(tmp_path)) == expected.hexdigest()


def test_trees_are_read_up_to_a_size_count_and_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tree(tmp_path)
    for name, most, said in (
        ("MOST_FILES", 3, "more than 3 files"),
        ("MOST_BYTES", 5, "holds more than 0 GiB"),
        ("MOST_DEPTH", 1, "more than 1 deep"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(trees_module, name, most)
            with pytest.raises(InvalidInput, match=said):
                list(entries(modules))


def test_a_link_means_what_it_means_inside_the_tree(tmp_path: Path) -> None:
    (tmp_path / "tree/usr/lib").mkdir(parents=True)
    for name, target in (("lib", "usr/lib"), ("abs", "/usr/lib"), ("up", "../../../usr/./lib"), ("chain", "up/../lib")):
        (tmp_path / "tree" / name).symlink_to(target)
        assert locate(tmp_path / "tree", f"{name}/x") == tmp_path / "tree/usr/lib/x"
    assert locate(tmp_path / "tree", "../../x/../y/./z") == tmp_path / "tree/y/z"
    (tmp_path / "tree/loop").symlink_to("loop")
    with pytest.raises(InvalidInput, match="go round in circles"):
        locate(tmp_path / "tree", "loop/x")


def test_modules_are_not_looked_for_outside(tmp_path: Path) -> None:
    outside = tree(tmp_path)
    (tmp_path / "tree/lib/modules").mkdir(parents=True)
    (tmp_path / "tree/lib/modules/7.1").symlink_to(outside)
    (tmp_path / "tree/lib/modules/\x1b[31m").mkdir()
    assert find_modules(tmp_path / "tree", "7.1") is None
    with pytest.raises(InvalidInput, match="has no modules of") as caught:
        require_modules(tmp_path / "tree", "7.1")
    assert str(caught.value).isprintable()
    with pytest.raises(InvalidInput, match="for a release"):
        index_modules(outside, "../x", tmp_path / "indexed")


def test_a_ram_disk_takes_no_link_and_no_name_that_its_tools_cannot_tell(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "nvme.ko").symlink_to(tmp_path / "secret")
    (tmp_path / "tree").mkdir()
    with pytest.raises(InvalidInput, match=r"nvme\.ko: is a link, not a file"):
        build_initrd([tmp_path / "nvme.ko"], tmp_path / "secret", tmp_path / "tree", tmp_path / "initrd")
    modules = tree(tmp_path)
    (modules / "kernel/of two words").mkdir()
    (modules / "kernel/drivers/nvme.ko").rename(modules / "kernel/of two words/nvme.ko")
    index_modules(modules, "7.1", tmp_path / "indexed")
    try:
        assert modules_to_load(tmp_path / "indexed", "7.1") == []
    except KernrollError as error:
        assert "nvme" in str(error)


@pytest.mark.parametrize(
    "change",
    [
        '"release": "../x"', '"release": 5', '"files": {"boot": "../../x"}', '"files": {"boot": "/etc/passwd"}',
        '"files": {"other": "boot"}', '"files": []', '"digest": "x"', '"source": null',
    ],
)  # fmt: skip
def test_a_stored_kernel_is_what_the_store_wrote(tmp_path: Path, change: str) -> None:
    digest = "0" * 64
    words = f'"digest": "{digest}", "release": "7.1", "architecture": "arm64", "source": "", "command_line": ""'
    kept = f'{words}, "files": {{"boot": "boot"}}'
    document = tmp_path / f"kernels/{digest}/kernel.json"
    document.parent.mkdir(parents=True)
    document.write_text(f"{{{kept}}}")
    store = KernelStore(Cache(root=tmp_path))
    assert store.load(digest).release == "7.1"
    document.write_text(f"{{{kept}, {change}}}")
    with pytest.raises(NotFound, match="is damaged"):
        store.load(digest)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ""])
def test_nothing_is_kept_outside_the_cache(tmp_path: Path, name: str) -> None:
    cache = Cache(root=tmp_path / "cache")
    with pytest.raises(InvalidInput, match="cannot be the name"):
        cache.publish(name, lambda directory: None)
    with pytest.raises(InvalidInput, match="cannot be the name"):
        cache.write_json(name, {})
    assert cache.read_json(name) is None
