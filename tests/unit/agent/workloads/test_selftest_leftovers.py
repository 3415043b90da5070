"""What the kernel's own tests leave changed when they are killed half-way: cgroups, and settings of the kernel."""

from pathlib import Path

import pytest
from fake_host import FakeProcess
from fake_kernel import FakeKernel

from agent.domain.errors import RigError
from agent.domain.work.leftovers import KernelSettings
from agent.workloads.rig.kernel_settings import read_settings, restore_settings
from agent.workloads.rig.selftest_cgroups import noted_cgroups
from agent.workloads.rig.undoing import sweep


async def test_cgroups_that_a_killed_test_left_are_removed_and_no_others(tmp_path: Path) -> None:
    process = FakeProcess(FakeKernel(tmp_path))
    host = process.host()
    root = host.sys / "fs/cgroup"
    (root / "memcg_of_somebody").mkdir(parents=True)
    host.leftovers.note(noted_cgroups(host))
    (root / "memcg_test_0/child_memcg").mkdir(parents=True)
    (root / "system.slice").mkdir()
    await sweep(FakeProcess(process.kernel).host())
    assert sorted(path.name for path in root.iterdir()) == ["memcg_of_somebody", "system.slice"]
    assert FakeProcess(process.kernel).noted() == ()


def test_a_setting_that_cannot_be_put_back_is_named(tmp_path: Path) -> None:
    process = FakeProcess(FakeKernel(tmp_path))
    pages = process.kernel.sys / "kernel/mm/transparent_hugepage"
    (pages / "hugepages-64kB").mkdir(parents=True)
    (pages / "enabled").write_text("always [madvise] never")
    (pages / "hugepages-64kB/enabled").write_text("always inherit madvise [never]")
    assert read_settings(process.host()) == {
        str(pages / "enabled"): "madvise",
        str(pages / "hugepages-64kB/enabled"): "never",
    }
    with pytest.raises(RigError, match="gone cannot be set back to 3: No such file"):
        restore_settings(process.host(), KernelSettings(values=f"{pages}/gone 3\n{pages}/enabled madvise"))
