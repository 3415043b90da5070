"""The same fault has one signature whoever built the kernel and wherever its log was cut; another fault has another."""

import pytest

from controller.gate.kernel_log import KnownLine, classify, read_on


def trace(*frames: str) -> list[str]:
    return ["Call Trace:", " <TASK>", *(f" {name}+0x4d5/0xc10" for name in frames), " </TASK>"]


def hung(program: str, *frames: str) -> list[str]:
    return [
        f"INFO: task {program}:811 blocked for more than 120 seconds.",
        "      Not tainted 7.1.13+deb13-amd64 #1",
        f"task:{program}         state:D stack:0     pid:811   tgid:811   ppid:700",
        *trace("__schedule", "schedule", *frames, "do_syscall_64"),
    ]


IN_SWAPOFF = hung("swapoff", "io_schedule", "folio_wait_bit_common", "try_to_unuse", "__do_sys_swapoff")
IN_NFS = hung("df", "io_schedule", "rpc_wait_bit_killable", "nfs4_proc_statfs")
ALLOCATING = ("dump_stack_lvl", "warn_alloc.cold", "__alloc_pages_slowpath.constprop.0", "__alloc_frozen_pages_noprof")


@pytest.mark.parametrize(
    ("lines", "signature"),
    [
        (IN_SWAPOFF, "hung_task: try_to_unuse < __do_sys_swapoff"),
        (IN_NFS, "hung_task: rpc_wait_bit_killable < nfs4_proc_statfs"),
        (
            hung("a", "schedule_preempt_disabled", "__mutex_lock.constprop.0", "__mutex_lock_slowpath", "swap_x"),
            "hung_task: swap_x",
        ),
        (hung("b", "rwsem_down_write_slowpath", "down_write", "vm_mmap_x"), "hung_task: vm_mmap_x"),
        (
            [
                "a: page allocation failure: order:4",
                *trace(*ALLOCATING, "___kmalloc_large_node", "__kmalloc_noprof", "sw_on"),
            ],
            "allocation_failure: sw_on",
        ),
        (
            [
                "BUG: sleeping function called from invalid context at mm/x.c:1",
                *trace("__might_resched", "mutex_lock", "in_x"),
            ],
            "atomic_sleep: in_x",
        ),
        (
            [
                "BUG: scheduling while atomic: a/1/0x2",
                *trace("__schedule_bug", "__schedule", "schedule_timeout", "in_y"),
            ],
            "atomic_sleep: in_y",
        ),
        (
            [
                "WARNING: possible circular locking dependency detected",
                *trace("print_circular_bug", "__lock_acquire", "in_z"),
            ],
            "lockdep: in_z",
        ),
        (
            [
                "BUG kmalloc-64 (Not tainted): Poison overwritten",
                *trace("print_trailer", "check_bytes_and_report", "in_s"),
            ],
            "slab: in_s",
        ),
        (
            ["watchdog: BUG: soft lockup - CPU#2 stuck for 22s! [a:1]", "RIP: 0010:in_l+0x1/0x2", *trace("in_m")],
            "lockup: in_l < in_m",
        ),
    ],
)
def test_frames_that_every_report_of_a_kind_has_say_nothing(lines: list[str], signature: str) -> None:
    (found,) = classify(lines)
    assert found.signature == signature


@pytest.mark.parametrize(
    "place",
    [
        "mm/swapfile.c",
        "./mm/swapfile.c",
        "../mm/swapfile.c",
        "../../../mm/swapfile.c",
        "/build/linux-hwe-a1B2c3/linux-hwe-6.8.0/mm/swapfile.c",
        "/usr/src/linux-6.12/mm/swapfile.c",
        "/home/me/kernel/linux/mm/swapfile.c",
        "/home/runner/work/kernel/kernel/mm/swapfile.c",
        "/var/lib/jenkins/workspace/net/mm/swapfile.c",
        "/builder/rpmbuild/BUILD/kernel-6.12.0/linux-6.12.0-55.el10.x86_64/mm/swapfile.c",
        "/builds/linux/mm/swapfile.c",
    ],
)
def test_a_place_counts_from_the_top_of_the_source(place: str) -> None:
    (told,) = classify([f"WARNING: [nr > swap_count(ci->map[at])] {place}:1480 at swap_free_nr+0x33/0x90, CPU#0: a/1"])
    assert told.signature == "warning_in_mm: mm/swapfile.c swap_free_nr"
    (old,) = classify([f"WARNING: CPU: 1 PID: 2001 at {place}:1233 swap_free_nr+0x51/0x60"])
    (new,) = classify([f"WARNING: {place}:1480 at swap_free_nr+0x33/0x90, CPU#0: swapoff/201"])
    assert old.signature == new.signature == "warning_in_mm: mm/swapfile.c swap_free_nr"


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/build/linux-6.8/include/linux/sched/mm.h", "include/linux/sched/mm.h"),
        ("/build/linux-6.8/arch/x86/mm/fault.c", "arch/x86/mm/fault.c"),
        ("/usr/src/linux/drivers/net/ethernet/lib/mm/x.c", "drivers/net/ethernet/lib/mm/x.c"),
        ("drivers/gpu/drm/nouveau/nvkm/mm/base.c", "drivers/gpu/drm/nouveau/nvkm/mm/base.c"),
        ("/var/lib/dkms/zfs/2.3.1/build/module/zfs/arc.c", "zfs/arc.c"),
    ],
)
def test_only_the_folder_at_the_top_is_memory_management(written: str, path: str) -> None:
    (found,) = classify([f"WARNING: CPU: 1 PID: 2001 at {written}:12 f+0x1/0x2"])
    assert found.signature == f"warning: {path} f"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "Out of memory: Killed process 311 (cc1) total-vm:412812kB, anon-rss:300100kB, UID:1000 pgtables:825kB",
            "Out of memory: Killed process 911 (cc1) total-vm:412900kB, anon-rss:9kB, UID:0 pgtables:8kB",
        ),
        (
            "Out of memory: Killed process 311 (cc1) total-vm:1kB",
            "Out of memory: Kill process 9 (cc1) score 9 or sacrifice child",
        ),
        (
            "Memory cgroup out of memory: Killed process 3 (tmux: server) total-vm:1kB",
            "Memory cgroup out of memory: Killed process 4 (tmux: server) total-vm:2kB",
        ),
        (
            "BUG kmalloc-512 (Not tainted): Poison overwritten",
            "BUG kmalloc-512 (Tainted: G    B  ): Poison overwritten",
        ),
        (
            "UBSAN: array-index-out-of-bounds in /build/linux-6.8/mm/swapfile.c:33:7",
            "UBSAN: array-index-out-of-bounds in mm/swapfile.c:39:7",
        ),
        ("divide error: 0000 [#1] PREEMPT SMP NOPTI", "Oops: divide error: 0000 [#1] PREEMPT SMP NOPTI"),
        (
            "INFO: task df:3311 blocked for more than 120 seconds.",
            "INFO: task df:11 blocked for more than 241 seconds.",
        ),
    ],
)
def test_what_differs_between_boots_and_builds_is_no_part_of_it(one: str, other: str) -> None:
    (first,), (second,) = classify([one]), classify([other])
    assert first.signature == second.signature


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Out of memory: Killed process 311 (cc1) total-vm:1kB", "Out of memory: Killed process 311 (ld) total-vm:1kB"),
        (
            "INFO: task df:1 blocked for more than 120 seconds.",
            "INFO: task swapoff:1 blocked for more than 120 seconds.",
        ),
    ],
)
def test_another_program_is_another_fault(one: str, other: str) -> None:
    (first,), (second,) = classify([one]), classify([other])
    assert first.signature != second.signature


CRASH = [
    "systemd[1]: started",
    "BUG: unable to handle page fault for address: ffffea0004c2d008",
    "#PF: supervisor read access in kernel mode",
    "Oops: 0000 [#1] PREEMPT SMP NOPTI",
    "RIP: 0010:swap_put_entries_cluster+0x5c/0x1b0",
    *trace("free_swap_and_cache_nr", "zap_pte_range", "unmap_x"),
    "---[ end trace 0000000000000000 ]---",
    *IN_SWAPOFF,
    "usb 1-1: new device",
    *IN_NFS,
]


@pytest.mark.parametrize("cut", range(len(CRASH) + 1))
def test_a_log_that_comes_in_two_parts_shows_what_it_shows_whole(cut: int) -> None:
    first = read_on(CRASH[:cut], None)
    second = read_on(CRASH[cut:], first.tail)
    found = list(first.findings)
    if second.replaced is not None:
        assert found[-1] == second.replaced
        del found[-1]
    assert (*found, *second.findings) == classify(CRASH)


def test_a_log_that_comes_line_by_line_shows_what_it_shows_whole() -> None:
    found, tail = [], None
    for line in CRASH:
        read = read_on([line], tail)
        if read.replaced is not None:
            assert found.pop() == read.replaced
        found += read.findings
        tail = read.tail
    assert tuple(found) == classify(CRASH)


@pytest.mark.parametrize(
    "known",
    [
        "WARNING: CPU: 0 PID: 21 at mm/page_alloc.c:4711 __alloc_pages+0x11/0x22",
        "[    4.100001] WARNING: CPU: 3 PID: 99 at mm/page_alloc.c:1 __alloc_pages+0x1/0x2",
        "mm/page_alloc.c:4711 __alloc_pages",
        "mm/page_alloc.c __alloc_pages",
        "warning_in_mm: mm/page_alloc.c",
    ],
)
def test_a_known_line_is_met_whatever_its_numbers(known: str) -> None:
    (found,) = classify(["WARNING: CPU: 0 PID: 21 at mm/page_alloc.c:4711 __alloc_pages+0x11/0x22"])
    (other,) = classify(["WARNING: CPU: 0 PID: 21 at mm/vmscan.c:4711 shrink+0x11/0x22"])
    assert KnownLine(line=known, reason="x").covers(found)
    assert not KnownLine(line=known, reason="x").covers(other)
