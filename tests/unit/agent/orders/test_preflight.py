"""Whether a workload may run on a host: refused with whole sentences, before anything is touched."""

from dataclasses import replace

import pytest

from agent.domain.host.facts import SwapArea
from agent.domain.host.memory import MIB
from agent.domain.orders.preflight import HostView, Needs, refusals
from agent.domain.orders.swap_source import Pressure, SourceKind, SwapSource

LIMIT = Pressure(memory_limit_bytes=64 * MIB)
SOURCES = {
    "block device": SwapSource(kind=SourceKind.BLOCK_DEVICE, path="/dev/nvme1n1"),
    "brd": SwapSource(kind=SourceKind.BRD, size_bytes=256 * MIB),
    "zram": SwapSource(kind=SourceKind.ZRAM, size_bytes=256 * MIB),
    "loop": SwapSource(kind=SourceKind.LOOP, size_bytes=256 * MIB),
    "file": SwapSource(kind=SourceKind.FILE, size_bytes=256 * MIB),
}
VIEW = HostView(
    available_bytes=1024 * MIB,
    swaps=(),
    swap_directory="/var/swap",
    swap_directory_free_bytes=10_000 * MIB,
    scratch="/var/lib/kernroll/scratch",
    scratch_free_bytes=10_000 * MIB,
    no_limit="",
    running_as_root=True,
)
ACTIVE = (SwapArea(path="/dev/sda2", size_bytes=100 * MIB, used_bytes=0),)
EXISTING = SwapSource(kind=SourceKind.EXISTING)


@pytest.mark.parametrize(
    ("swap", "needs", "view", "words"),
    [
        (SOURCES["zram"], Needs(), replace(VIEW, running_as_root=False), "takes root"),
        (SOURCES["zram"], Needs(), replace(VIEW, no_limit="no memory cgroup is mounted"), "memory cannot be limited"),
        (SOURCES["zram"], Needs(), replace(VIEW, swaps=ACTIVE), "the host swaps to /dev/sda2 already"),
        (EXISTING, Needs(), VIEW, "none is switched on"),
        (EXISTING, Needs(), replace(VIEW, swaps=ACTIVE), "--allow-active-swap"),
        (SOURCES["loop"], Needs(), replace(VIEW, available_bytes=150 * MIB), "22 MiB are available"),
        (SOURCES["zram"], Needs(memory_bytes=200 * MIB), replace(VIEW, available_bytes=300 * MIB), "200 MiB of memory"),
        (SOURCES["zram"], Needs(memory_bytes=400 * MIB), VIEW, "does not fit into memory and 256 MiB of swap"),
        (SOURCES["file"], Needs(), replace(VIEW, swap_directory_free_bytes=700 * MIB), "/var/swap has 700 MiB free"),
        (SOURCES["zram"], Needs(disk_bytes=9_900 * MIB), VIEW, "scratch has 10000 MiB free and 9900 MiB are needed"),
    ],
)
def test_a_host_that_is_not_fit_is_refused_with_the_reason(
    swap: SwapSource, needs: Needs, view: HostView, words: str
) -> None:
    assert any(words in each for each in refusals(swap, LIMIT, needs, view)), refusals(swap, LIMIT, needs, view)


@pytest.mark.parametrize(
    ("swap", "needs", "view", "words"),
    [
        (
            SwapSource(kind=SourceKind.BRD, size_bytes=1 << 40),
            Needs(alone=False),
            replace(VIEW, available_bytes=900 * MIB),
            "the kernel 850 MiB to keep track of the swap, and 772 MiB are available",
        ),
        (
            SOURCES["block device"],
            Needs(),
            replace(VIEW, device_bytes=2 << 40, kernel_release="7.1.13"),
            "the kernel 1700 MiB",
        ),
        (SOURCES["zram"], Needs(incompressible_bytes=900 * MIB), VIEW, "it may take 900 MiB of memory"),
        (SOURCES["zram"], Needs(), replace(VIEW, guards=("earlyoom",)), "earlyoom would end other programs"),
        (
            SOURCES["file"],
            Needs(memory_bytes=950 * MIB),
            replace(VIEW, guards=("kubelet", "oomd")),
            "kubelet and oomd would end",
        ),
        (
            SOURCES["zram"],
            Needs(strictly_alone=True),
            replace(VIEW, swaps=ACTIVE, allows_active_swap=True),
            "switch it off",
        ),
    ],
)
def test_without_a_limit_a_host_is_refused_for_what_ending_the_workload_would_not_mend(
    swap: SwapSource, needs: Needs, view: HostView, words: str
) -> None:
    found = refusals(swap, Pressure(), needs, view)
    assert any(words in each for each in found), found


def test_a_recent_kernel_keeps_little_for_an_idle_device() -> None:
    swap, view = SwapSource(kind=SourceKind.BRD, size_bytes=1 << 40), replace(VIEW, available_bytes=300 * MIB)
    assert refusals(swap, Pressure(), Needs(alone=False), replace(view, kernel_release="7.2.13+deb14-amd64")) == ()
    assert refusals(swap, Pressure(), Needs(alone=False), replace(view, kernel_release="7.1.13")) != ()
    assert refusals(swap, Pressure(), Needs(alone=False), view) != (), "an unknown one is taken for an old one"


def test_data_that_zswap_cannot_make_small_enough_for_the_limit_is_refused() -> None:
    swap = SwapSource(kind=SourceKind.BLOCK_DEVICE, path="/dev/nvme1n1", zswap=True)
    needs, view = Needs(memory_bytes=128 * MIB, incompressible_bytes=64 * MIB), replace(VIEW, zswap_is_charged=True)
    (refusal,) = refusals(swap, LIMIT, needs, view)
    assert "zswap holds counts within the limit of 64 MiB, and 64 MiB of the data cannot be made smaller" in refusal
    assert refusals(swap, LIMIT, needs, replace(view, zswap_is_charged=False)) == ()
    assert refusals(replace(swap, zswap=False), LIMIT, needs, view) == ()
    assert refusals(swap, LIMIT, replace(needs, incompressible_bytes=40 * MIB), view) == ()


def test_guards_do_not_matter_where_memory_of_the_host_does_not_run_short() -> None:
    view = replace(VIEW, guards=("systemd-oomd",))
    assert refusals(SOURCES["zram"], LIMIT, Needs(), view) == ()
    assert refusals(SOURCES["zram"], Pressure(), Needs(memory_bytes=100 * MIB), view) == ()


def test_a_fit_host_is_not_refused() -> None:
    for swap in SOURCES.values():
        assert refusals(swap, LIMIT, Needs(memory_bytes=200 * MIB), VIEW) == ()
    allowed = replace(EXISTING, allow_active_swap=True)
    assert refusals(allowed, LIMIT, Needs(), replace(VIEW, swaps=ACTIVE)) == ()
    idle = Needs(alone=False)
    assert refusals(SOURCES["brd"], Pressure(), idle, replace(VIEW, swaps=ACTIVE)) == ()
