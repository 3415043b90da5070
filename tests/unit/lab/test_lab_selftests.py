"""The kernel's selftests that guests are given: what of a source they are built from, how, and where they go."""

import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from agent.domain.work.selftests import PROGRAMS as OF_THE_AGENT
from agent.workloads.kinds.built.selftest_programs import INSTALLED
from controller.adapters.kernels.debian import AptRoot, PackageVersion
from controller.adapters.local.cache import Cache
from controller.domain.errors import Permanent
from controller.lab import kernel_source, selftests
from controller.lab.selftests import PROGRAMS, SELFTESTS_FOLDER, can_build, is_kept, prepare_selftests

MEMBERS = (
    "Makefile",
    "mm/gup_test.h",
    "mm/swapfile.c",
    "include/uapi/linux/userfaultfd.h",
    "include/linux/mm.h",
    "arch/arm64/boot/dts/board.dts",
    "tools/testing/selftests/mm/cow.c",
    "tools/testing/selftests/cgroup/test_memcontrol.c",
)
VERSION = PackageVersion(package="linux-source-7.3", version="7.3.4-1~bpo13+1")


def test_guests_have_what_the_agent_runs_where_it_looks() -> None:
    built = [f"{folder}/{name}" for folder, names in PROGRAMS.items() for name in names]
    assert built == list(OF_THE_AGENT)
    assert f"/{SELFTESTS_FOLDER}" == str(INSTALLED)


def test_what_building_them_reads_is_kept() -> None:
    kept = [each for each in MEMBERS if is_kept(each)]
    assert kept == [
        "Makefile",
        "mm/gup_test.h",
        "include/uapi/linux/userfaultfd.h",
        "tools/testing/selftests/mm/cow.c",
        "tools/testing/selftests/cgroup/test_memcontrol.c",
    ]


class Building:
    """A mirror with one source, and tools that do as told; what they were told is kept."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = Cache(root=root)
        self.packages = AptRoot(
            cache=self.cache, suites=("trixie",), architectures=("amd64",), mirror="http://m.invalid"
        )
        self.commands: list[list[str]] = []
        self.environments: list[Mapping[str, str]] = []
        self.builds = True
        monkeypatch.setattr(AptRoot, "versions", lambda *_: [VERSION])
        monkeypatch.setattr(AptRoot, "exact", lambda *_: [])
        monkeypatch.setattr(AptRoot, "closure", lambda *_, **__: [])
        monkeypatch.setattr(AptRoot, "fetch", lambda *_, label: [])
        monkeypatch.setattr(kernel_source, "unpack", self.unpack)
        monkeypatch.setattr(selftests, "unpack", lambda *_, label: None)
        monkeypatch.setattr(selftests, "run_tool", self.run)
        monkeypatch.setattr(selftests, "host_architecture", lambda: "x86_64")

    def unpack(self, archives: list[Path], tree: Path, progress: object, *, label: str) -> None:
        (tree / "usr/src").mkdir(parents=True)
        with tarfile.open(tree / "usr/src/linux-source-7.3.tar.xz", "w:xz") as archive:
            for name in MEMBERS:
                member = tarfile.TarInfo(f"linux-source-7.3/{name}")
                member.size = len(name)
                archive.addfile(member, io.BytesIO(name.encode()))

    def run(
        self, command: Sequence[str | Path], *, timeout_s: float, what: str, environment: Mapping[str, str]
    ) -> bytes:
        words = [os.fspath(word) for word in command]
        self.commands.append(words)
        self.environments.append(environment)
        if words[-1] != "headers" and self.builds:
            Path(words[-1]).write_text("a program")
        return b""

    def prepare(self, architecture: str) -> selftests.Selftests:
        return prepare_selftests(self.cache, architecture, self.packages, lambda *_: None)


def test_they_are_built_once_statically_and_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    building = Building(tmp_path, monkeypatch)
    built = building.prepare("x86_64")
    assert built == building.prepare("x86_64")
    headers, mm, cgroup = building.commands
    assert headers[-1] == "headers"
    assert "USERLDFLAGS=-static" in mm
    assert not any(word.startswith("CROSS_COMPILE") for word in mm)
    # Only what the source has is asked for.
    assert [Path(command[-1]).name for command in (mm, cgroup)] == ["cow", "test_memcontrol"]
    assert built.origin == "linux-source-7.3 7.3.4-1~bpo13+1"
    files = {str(path.relative_to(built.path)): path for path in built.path.rglob("*") if path.is_file()}
    assert set(files) == {"mm/cow", "cgroup/test_memcontrol"}
    assert all(path.stat().st_mode & 0o111 for path in files.values())


def test_the_other_architecture_is_built_by_a_compiler_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    building = Building(tmp_path, monkeypatch)
    building.prepare("arm64")
    (prefix,) = {word for command in building.commands for word in command if word.startswith("CROSS_COMPILE=")}
    assert prefix.startswith(f"CROSS_COMPILE={tmp_path}/compilers/arm64-")
    assert prefix.endswith("/usr/bin/aarch64-linux-gnu-")
    assert all(each["LD_LIBRARY_PATH"].startswith(str(tmp_path)) for each in building.environments)


def test_when_nothing_builds_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    building = Building(tmp_path, monkeypatch)
    building.builds = False
    with pytest.raises(Permanent, match="None of the selftests of linux-source"):
        building.prepare("x86_64")
    building.builds = True
    building.prepare("x86_64")


def test_a_machine_without_a_compiler_makes_images_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftests, "host_architecture", lambda: "x86_64")
    monkeypatch.setattr(selftests, "has_host_packages", lambda: False)
    monkeypatch.setattr("shutil.which", lambda tool: f"/usr/bin/{tool}")
    assert can_build("x86_64")
    # The cross compiler is this release's own.
    assert not can_build("arm64")
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "make" else f"/usr/bin/{tool}")
    assert not can_build("x86_64")
