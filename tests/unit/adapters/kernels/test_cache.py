"""The cache holds finished things only, built once, and says plainly when it cannot."""

import errno
import threading
from pathlib import Path

import pytest
from patience import PATIENCE_S

from controller.adapters.local.cache import Cache
from controller.domain.errors import Permanent, Temporary


def write_file(directory: Path) -> None:
    (directory / "file").write_text("content")


def test_the_environment_chooses_the_directory(tmp_path: Path) -> None:
    assert Cache.from_environment({"KERNROLL_CACHE_DIR": str(tmp_path)}).root == tmp_path
    assert Cache.from_environment({"XDG_CACHE_HOME": str(tmp_path)}).root == tmp_path / "kernroll"
    assert Cache.from_environment({}).root == Path.home() / ".cache/kernroll"


def test_a_thing_is_built_once(tmp_path: Path) -> None:
    cache, calls = Cache(root=tmp_path), []

    def build(directory: Path) -> None:
        calls.append(directory)
        write_file(directory)

    assert cache.publish("a/b", build) == cache.publish("a/b", build) == tmp_path / "a/b"
    assert len(calls) == 1
    assert (tmp_path / "a/b/file").read_text() == "content"


def test_two_at_a_time_build_it_once(tmp_path: Path) -> None:
    cache, calls, started = Cache(root=tmp_path), [], threading.Event()

    def build(directory: Path) -> None:
        calls.append(directory)
        started.set()
        write_file(directory)

    threads = [threading.Thread(target=cache.publish, args=("thing", build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    assert started.is_set()
    assert len(calls) == 1


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path)

    def fail(directory: Path) -> None:
        write_file(directory)
        raise Permanent("no")

    with pytest.raises(Permanent, match="no"):
        cache.publish("thing", fail)
    assert not (tmp_path / "thing").exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    cache.publish("thing", write_file)
    assert (tmp_path / "thing/file").exists()


def test_leftovers_of_a_killed_build_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / "tmp/thing"
    (leftover / "sub").mkdir(parents=True)
    (leftover / "sub").chmod(0o500)
    Cache(root=tmp_path).publish("thing", write_file)
    assert not (tmp_path / "thing/sub").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do(tmp_path: Path, code: int) -> None:
    def fill(directory: Path) -> None:
        raise OSError(code, "full", str(directory))

    with pytest.raises(Permanent, match=r"is full.*KERNROLL_CACHE_DIR"):
        Cache(root=tmp_path).publish("thing", fill)
    assert not (tmp_path / "thing").exists()


def test_too_little_room_is_known_before_the_work(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path)
    cache.require_room(1, "a byte")
    with pytest.raises(Permanent, match="a continent needs 1099511627776 MiB"):
        cache.require_room(2**60, "a continent")


def test_a_place_that_cannot_hold_a_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Permanent, match="Point KERNROLL_CACHE_DIR"):
        Cache(root=tmp_path / "file/cache").publish("thing", write_file)


def test_waiting_for_another_builder_ends(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path, lock_timeout_s=0.0)
    with cache.lock("thing"), pytest.raises(Temporary, match="thing"), cache.lock("thing"):
        raise AssertionError("the lock was taken twice")


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_damaged_index_counts_as_absent(tmp_path: Path, content: str) -> None:
    cache = Cache(root=tmp_path)
    cache.write_json("a/index.json", {"digest": "1"})
    assert cache.read_json("a/index.json") == {"digest": "1"}
    (tmp_path / "a/index.json").write_text(content)
    assert cache.read_json("a/index.json") is None
    assert cache.read_json("nowhere.json") is None
