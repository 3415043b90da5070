"""Kernel logs of broken, limping and healthy kernels, x86_64 and arm64, are classified row by row."""

import pytest

from controller.gate.kernel_log import Severity, classify, clean, panic_line

PAGING_X86 = """\
[   41.900112] BUG: unable to handle page fault for address: ffffea0004c2d008
[   41.900841] #PF: supervisor read access in kernel mode
[   41.901338] #PF: error_code(0x0000) - not-present page
[   41.902044] Oops: Oops: 0000 [#1] SMP NOPTI
[   41.902651] CPU: 0 UID: 0 PID: 212 Comm: swapoff Not tainted 7.1.13+deb13-cloud-amd64 #1 PREEMPT(lazy)
[   41.903733] RIP: 0010:swap_put_entries_cluster+0x5c/0x1b0
[   41.905912] RAX: 0000000000000000 RBX: ffffea0004c2d000 RCX: 0000000000000000
[   41.907113] Call Trace:
[   41.907402]  <TASK>
[   41.907655]  ? __die_body.cold+0x19/0x27
[   41.908110]  ? exc_page_fault+0x7e/0x180
[   41.908566]  free_swap_and_cache_nr+0x16e/0x2b0
[   41.909111]  zap_pte_range+0x3aa/0xd20
[   41.909700]  do_syscall_64+0x82/0x190
[   41.910210]  </TASK>
[   41.912345] ---[ end trace 0000000000000000 ]---
[   41.913001] Kernel panic - not syncing: Fatal exception
[   41.913999] ---[ end Kernel panic - not syncing: Fatal exception ]---
"""
OOPS_ARM64 = """\
[   12.801313] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010
[   12.802001] Mem abort info:
[   12.802222]   ESR = 0x0000000096000004
[   12.803111] Internal error: Oops: 0000000096000004 [#1]  SMP
[   12.804222] CPU: 0 UID: 0 PID: 190 Comm: swapon Not tainted 7.1.13+deb13-cloud-arm64 #1 PREEMPT
[   12.805111] pc : setup_swap_map_and_extents+0x8c/0x2f0
[   12.805555] lr : __do_sys_swapon+0x5d4/0x12b0
[   12.806000] sp : ffff800081d3bc80
[   12.807000] Call trace:
[   12.807100]  setup_swap_map_and_extents+0x8c/0x2f0 (P)
[   12.807200]  __do_sys_swapon+0x5d4/0x12b0
[   12.807300]  __arm64_sys_swapon+0x1c/0x30
[   12.807400]  invoke_syscall.constprop.0+0x58/0xf0
[   12.807500]  el0_svc+0x30/0x120
[   12.809000] ---[ end trace 0000000000000000 ]---
"""
ROOT_PANIC = """\
[    1.834217] List of all bdev filesystems:
[    1.834611]  ext4
[    1.835002]
[    1.835201] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)
[    1.836114] CPU: 0 UID: 0 PID: 1 Comm: swapper/0 Not tainted 7.1.13+deb13-amd64 #1 PREEMPT(lazy)
[    1.838001] Call Trace:
[    1.838222]  <TASK>
[    1.838444]  dump_stack_lvl+0x5d/0x80
[    1.838666]  vpanic+0xdc/0x310
[    1.838888]  panic+0x5a/0x60
[    1.839111]  mount_root_generic+0x1c9/0x270
[    1.839333]  prepare_namespace+0x1d8/0x230
[    1.839555]  kernel_init_freeable+0x2a5/0x300
[    1.842001] Rebooting in 5 seconds..
"""
WARNING_OLD_FORM = """\
[   77.101010] ------------[ cut here ]------------
[   77.101515] WARNING: CPU: 1 PID: 33 at net/core/dev.c:1234 netif_rx_internal+0x1f/0x30
[   77.103030] Modules linked in: zram brd
[   77.104040] RIP: 0010:netif_rx_internal+0x1f/0x30
[   77.105050] ---[ end trace 0000000000000000 ]---
"""

FATAL, SERIOUS, COUNT = Severity.FATAL, Severity.SERIOUS, Severity.COUNT


@pytest.mark.parametrize(
    ("line", "severity", "kind"),
    [
        ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", FATAL, "panic"),
        ("kernel BUG at mm/swapfile.c:1480!", FATAL, "kernel_bug"),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000008", FATAL, "null_or_paging"),
        ("Unable to handle kernel paging request at virtual address ffff80012345", FATAL, "null_or_paging"),
        ("general protection fault, probably for non-canonical address 0xdead", FATAL, "general_protection"),
        ("Oops: general protection fault, probably for non-canonical address 0x1: 0000", FATAL, "general_protection"),
        ("Oops: divide error: 0000 [#1] SMP", FATAL, "oops"),
        ("Internal error: BTI: 0000000034000003 [#1]  SMP", FATAL, "oops"),
        ("BUG: KASAN: slab-use-after-free in swap_cluster_alloc+0x1/0x2", FATAL, "memory_checker"),
        ("BUG: KFENCE: out-of-bounds read in swap_table_get+0x1/0x2", FATAL, "memory_checker"),
        ("BUG: Bad page state in process kswapd0  pfn:1a2b3", FATAL, "bad_page"),
        ("BUG: Bad page map in process valkey-server  pte:00000001 pmd:2", FATAL, "bad_page"),
        ("BUG: Bad rss-counter state mm:00000000f0a1 type:MM_SWAPENTS val:3 Comm:x Pid:9", FATAL, "bad_page"),
        ("refcount_t: underflow; use-after-free.", FATAL, "refcount"),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [kswapd0:41]", FATAL, "lockup"),
        ("watchdog: Watchdog detected hard LOCKUP on cpu 1", FATAL, "lockup"),
        ("get_swap_device: Bad swap file entry 3ffffffffffff", FATAL, "swap_entry"),
        ("_swap_info_get: Unused swap offset entry 0002a1f0", FATAL, "swap_entry"),
        ("swap_dup: Bad swap offset entry 2f", FATAL, "swap_entry"),
        ("list_add corruption. next->prev should be prev (ffff8), but was ffff9.", FATAL, "list_corruption"),
        ("WARNING: CPU: 0 PID: 12 at mm/swap_state.c:210 __delete_from_swap_cache+0x1c/0x20", FATAL, "warning_in_mm"),
        ("WARNING: mm/swapfile.c:1480 at swap_put_entry+0x33/0x90, CPU#0: swapoff/201", FATAL, "warning_in_mm"),
        ("WARNING: CPU: 1 PID: 33 at ./include/linux/cpumask.h:143 f+0x1/0x2", SERIOUS, "warning"),
        ("WARNING: drivers/block/zram/zram_drv.c:88 at zram_x+0x1/0x2, CPU#1: mkswap/7", SERIOUS, "warning"),
        ("WARNING: possible circular locking dependency detected", SERIOUS, "lockdep"),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", SERIOUS, "rcu_stall"),
        ("rcu: INFO: rcu_sched detected stalls on CPUs/tasks:", SERIOUS, "rcu_stall"),
        ("rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-...D }", SERIOUS, "rcu_stall"),
        ("INFO: task swapoff:201 blocked for more than 120 seconds.", SERIOUS, "hung_task"),
        ("BUG: sleeping function called from invalid context at mm/page_alloc.c:4", SERIOUS, "atomic_sleep"),
        ("BUG: scheduling while atomic: swapon/190/0x00000002", SERIOUS, "atomic_sleep"),
        ("UBSAN: array-index-out-of-bounds in mm/swapfile.c:33:7", SERIOUS, "undefined_behaviour"),
        ("swapon: page allocation failure: order:4, mode:0xcc0(GFP_KERNEL)", SERIOUS, "allocation_failure"),
        ("Read-error on swap-device (259:1:8)", SERIOUS, "swap_device_error"),
        ("Write-error on swap-device (253:0:4096)", SERIOUS, "swap_device_error"),
        ("BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!", SERIOUS, "bug"),
        ("Out of memory: Killed process 311 (cc1) total-vm:812kB", SERIOUS, "out_of_memory"),
        ("Memory cgroup out of memory: Killed process 310 (cc1) total-vm:812kB", COUNT, "memcg_oom"),
        ("Huh VM_FAULT_OOM leaked out to the #PF handler. Retrying PF", COUNT, "fault_oom"),
        ("CPU0: Core temperature above threshold, cpu clock throttled (total events = 1)", COUNT, "throttling"),
    ],
)
def test_every_row_of_the_table(line: str, severity: Severity, kind: str) -> None:
    for written in (line, f"[   12.345678] {line}", f"<4>[   12.345678][  T201] {line}\r"):
        (finding,) = classify([written])
        assert (finding.severity, finding.kind, finding.line) == (severity, kind, line)


@pytest.mark.parametrize(
    "line",
    [
        "Linux version 7.1.13+deb13-cloud-amd64 (gcc-14) #1 SMP PREEMPT_DYNAMIC",
        "Kernel command line: console=ttyS0 panic=5 mitigations=off",
        "Adding 1073741820k swap on /dev/nvme1n1.  Priority:-2 extents:1 across:1073741820k SS",
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible",
        "traps: valkey-server[311] general protection fault ip:7f12 sp:7ffc error:0 in libc.so.6",
        "systemd[1]: BUG: unit did something odd",
        "EXT4-fs (nvme0n1p1): mounted filesystem ro with ordered data mode",
        "NMI watchdog: Perf NMI watchdog permanently disabled",
        "refcount test passed",
        "",
    ],
)
def test_ordinary_lines_are_no_findings(line: str) -> None:
    assert classify([line, f"[    0.000000] {line}"]) == ()


def test_one_crash_is_one_finding_and_its_panic() -> None:
    fault, panic = classify(PAGING_X86.splitlines())
    assert fault.kind == "null_or_paging"
    assert fault.signature == "null_or_paging: swap_put_entries_cluster < free_swap_and_cache_nr < zap_pte_range"
    assert (panic.kind, panic.severity) == ("panic", FATAL)


def test_an_arm64_oops_is_one_finding() -> None:
    (fault,) = classify(OOPS_ARM64.splitlines())
    assert fault.signature == ("null_or_paging: setup_swap_map_and_extents < __do_sys_swapon < __arm64_sys_swapon")


def test_the_same_fault_at_other_addresses_has_the_same_signature() -> None:
    other = (
        PAGING_X86.replace("ffffea0004c2d008", "ffffea000aaaa008")
        .replace("41.9", "93.1")
        .replace("0x5c/0x1b0", "0x60/0x1c0")
        .replace("PID: 212", "PID: 4711")
    )
    assert [one.signature for one in classify(other.splitlines())] == [
        one.signature for one in classify(PAGING_X86.splitlines())
    ]


def test_a_warning_is_known_by_file_and_function_not_by_line_number() -> None:
    (first,) = classify(WARNING_OLD_FORM.splitlines())
    (second,) = classify(["WARNING: net/core/dev.c:1301 at netif_rx_internal+0x2f/0x40, CPU#0: ksoftirqd/0/14"])
    assert first.signature == second.signature == "warning: net/core/dev.c netif_rx_internal"


def test_findings_without_a_trace_are_known_by_their_text_without_numbers() -> None:
    (first,) = classify(["Read-error on swap-device (259:1:8)"])
    (second,) = classify(["Read-error on swap-device (259:1:90112)"])
    assert first.signature == second.signature == "swap_device_error: Read-error on swap-device (#:#:#)"


def test_the_panic_line_of_a_console() -> None:
    assert panic_line("\x1b[2J" + ROOT_PANIC.replace("\n", "\r\n")) == (
        "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
    )
    assert panic_line("[    0.1] Linux version 7.1.13\nkernroll-init: started\n") is None
    assert panic_line("") is None


def test_a_vague_panic_is_told_by_its_cause() -> None:
    assert panic_line(PAGING_X86) == "BUG: unable to handle page fault for address: ffffea0004c2d008"
    only_oops = "Oops: divide error: 0000 [#1]\nKernel panic - not syncing: Fatal exception in interrupt\n"
    assert panic_line(only_oops) == "Oops: divide error: 0000 [#1]"
    alone = "Kernel panic - not syncing: Fatal exception"
    assert panic_line(alone) == alone


def test_cleaning_a_line() -> None:
    assert clean("\x1b[0;31m<3>[    1.500000] \x1b[1mhello\x1b[0m\r") == "hello"
