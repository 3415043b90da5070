"""Two boots that show one fault have one signature, for every row of the table; two faults have two."""

import pytest

from controller.gate.kernel_log import TABLE, classify

GFP = "mode:0x40cc0(GFP_KERNEL|__GFP_COMP)"
# Two boots each, in the order of the table. Whatever a boot makes up differs: numbers of processes and their names,
# processors, pages, addresses, disks and network cards, grace periods, and what the kernel was built with.
BOOTS = (
    ("Fatal Machine check", "Fatal Machine check"),
    ("Kernel panic - not syncing: Fatal machine check", "Kernel panic - not syncing: Fatal machine check"),
    (
        "Kernel panic - not syncing: Timeout: Not all CPUs entered broadcast exception handler",
        "Kernel panic - not syncing: Timeout: Not all CPUs entered broadcast exception handler",
    ),
    (
        "mce: [Hardware Error]: CPU 2: Machine Check Exception: 5 Bank 4: be00000000800400",
        "mce: [Hardware Error]: CPU 11: Machine Check Exception: 4 Bank 7: fe00000000801136",
    ),
    (
        "Memory failure: 0x3fc0: recovery action for dirty LRU page: Recovered",
        "Memory failure: 0xa1b2c3: recovery action for dirty LRU page: Recovered",
    ),
    (
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009",
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
    ),
    ("traps: PANIC: double fault, error_code: 0x0", "traps: PANIC: double fault, error_code: 0x1"),
    ("PANIC at zio.c:341:zio_data_buf_alloc()", "PANIC at zio.c:352:zio_data_buf_alloc()"),
    ("kernel BUG at mm/swapfile.c:1233!", "kernel BUG at ../mm/swapfile.c:1480!"),
    (
        "BUG: unable to handle page fault for address: ffffea0004c2d008",
        "BUG: unable to handle page fault for address: ffff88810adb5e08",
    ),
    (
        "CPU 0 Unable to handle kernel paging request at virtual address 000000000010, epc == 80123456, ra == 8012ab",
        "CPU 3 Unable to handle kernel paging request at virtual address dead00000108, epc == 8abcdef0, ra == 8012ff",
    ),
    (
        "Unhandled fault: imprecise external abort (0x1406) at 0x00000000",
        "Unhandled fault: imprecise external abort (0x1c06) at 0xbeefbeef",
    ),
    (
        "kernel tried to execute NX-protected page - exploit attempt? (uid: 0)",
        "kernel tried to execute NX-protected page - exploit attempt? (uid: 1000)",
    ),
    (
        "general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] SMP NOPTI",
        "Oops: general protection fault, probably for non-canonical address 0x5a5: 0000 [#2] PREEMPT SMP KASAN PTI",
    ),
    (
        "BUG: KASAN: use-after-free in swap_x+0x12/0x34 at addr ffff88810adb5e08",
        "BUG: KASAN: use-after-free in swap_x+0x92/0x134 at addr ffff8881000012ab",
    ),
    (
        "KASAN: null-ptr-deref in range [0x0000000000000010-0x0000000000000017]",
        "KASAN: null-ptr-deref in range [0x0000000000000000-0x0000000000000007]",
    ),
    (
        "usercopy: Kernel memory exposure attempt detected from SLUB object 'zswap_entry' (offset 0, size 9)!",
        "usercopy: Kernel memory exposure attempt detected from SLUB object 'zswap_entry' (offset 64, size 4096)!",
    ),
    ("BUG: Bad page state in process kswapd0  pfn:7d3a1", "BUG: Bad page state in process tmux: server  pfn:fade"),
    (
        "BUG: Bad page map in process cc1  pte:80000000deadb867 pmd:12a45067",
        "BUG: Bad page map in process valkey-server  pte:ab867 pmd:7f4",
    ),
    (
        "mm/pgtable-generic.c:50: bad pmd ffff88810adb5e08(8000000a12340067)",
        "mm/pgtable-generic.c:61: bad pmd 0000000012345678(80)",
    ),
    (
        "BUG: Bad rss-counter state mm:00000000f2a5b5a8 type:MM_SWAPENTS val:12",
        "BUG: Bad rss-counter state mm:(____ptrval____) type:MM_SWAPENTS val:-1",
    ),
    (
        "BUG: Bad rss-counter state mm:00000000f2a5b5a8 type:MM_SWAPENTS val:12 Comm:cc1 Pid:811",
        "BUG: Bad rss-counter state mm:00000000a1b2c3d4 type:MM_SWAPENTS val:-7 Comm:tmux: server Pid:9",
    ),
    ("BUG: non-zero pgtables_bytes on freeing mm: 4096", "BUG: non-zero pgtables_bytes on freeing mm: -8192"),
    ("refcount_t: underflow; use-after-free.", "refcount_t: underflow; use-after-free."),
    (
        "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [kworker/u8:3:1234]",
        "watchdog: BUG: soft lockup - CPU#13 stuck for 126s! [tmux: server:99]",
    ),
    (
        "watchdog: CPU 3 self-detected hard LOCKUP @ queued_spin_lock_slowpath+0x1/0x2",
        "watchdog: CPU 12 self-detected hard LOCKUP @ queued_spin_lock_slowpath+0x91/0x202",
    ),
    (
        "NMI watchdog: Watchdog detected hard LOCKUP on cpu 7Modules linked in: zram",
        "NMI watchdog: Watchdog detected hard LOCKUP on cpu 2",
    ),
    ("NMI watchdog: x: hard LOCKUP on cpu 2", "NMI watchdog: x: hard LOCKUP on cpu 11"),
    ("get_swap_device: Bad swap file entry 3ffc0f2a1", "get_swap_device: Bad swap file entry 7ab"),
    ("swap_free: Unused swap offset entry 0012ab", "swap_free: Unused swap offset entry fade"),
    (
        "zswap: Decompression error from zswap (1:4711 lz4 2044->4096)",
        "zswap: Decompression error from zswap (0:12 lz4 99->4096)",
    ),
    ("Decompression failed! err=-22, page=4711", "Decompression failed! err=5, page=1"),
    ("zsmalloc: zs_map_object: bad handle 0xffff88810adb5e08", "zsmalloc: zs_map_object: bad handle 0x10"),
    (
        "Buffer I/O error on dev zram0, logical block 3, async page read",
        "Buffer I/O error on dev zram11, logical block 99, async page read",
    ),
    (
        "list_del corruption. prev->next should be ffff888012345678, but was dead000000000122. (prev=ffff8881aa)",
        "list_del corruption. prev->next should be ffff888012345999, but was 0000000000000000. (prev=ffff8882bb)",
    ),
    (
        "BUG kmalloc-64 (Tainted: G    B   W  OE): Redzone overwritten",
        "BUG kmalloc-64 (Not tainted): Redzone overwritten",
    ),
    (
        "slab: double free detected in cache 'zs_handle', objp ffff88810adb5e08",
        "slab: double free detected in cache 'zs_handle', objp ffff888100001108",
    ),
    (
        "kmem_cache_destroy zspage-zram0: Slab cache still has objects when called from zs_x+0x1/0x2",
        "kmem_cache_destroy zspage-zram12: Slab cache still has objects when called from zs_x+0x9/0x92",
    ),
    (
        "BUG: stack guard page was hit at 00000000a1b2c3d4 (stack is 00000000aaaa0000..00000000aaaa3fff)",
        "BUG: stack guard page was hit at 00000000ffb2c3d4 (stack is 00000000bbbb0000..00000000bbbb3fff)",
    ),
    ("Kernel stack overflow in process 00000000, r1=1", "Kernel stack overflow in process c0001234, r1=4711"),
    (
        "Bad kernel stack pointer 00007fff12345678 at c000000000123456",
        "Bad kernel stack pointer 00007fffabcdef01 at c00000000012ab56",
    ),
    (
        "CFI failure at do_swap+0x10/0x20 (target: zram_x+0x0/0x80; expected type: 0x1a)",
        "CFI failure at do_swap+0x11/0x40 (target: zram_x+0x0/0x90; expected type: 0x2b)",
    ),
    ("Internal error: Oops: 0000000096000004 [#1] SMP", "Internal error: Oops: 80f [#3] PREEMPT SMP ARM"),
    (
        "Bad mode in Error handler detected on CPU2, code 0xbf000000 -- SError",
        "Bad mode in Error handler detected on CPU13, code 0xbf000002 -- SError",
    ),
    (
        "Unrecoverable FP Unavailable Exception 800 at c0000000",
        "Unrecoverable FP Unavailable Exception 800 at c000000000123456",
    ),
    ("invalid opcode: 0000 [#1] PREEMPT SMP NOPTI", "invalid opcode: 0000 [#12] SMP"),
    ("swapper/0(1): Kernel bad sw trap 5 [#1]", "cc1(4711): Kernel bad sw trap 5 [#2]"),
    ("WARNING: possible circular locking dependency detected",) * 2,
    ("WARNING: held lock freed!",) * 2,
    ("WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected",) * 2,
    ("WARNING: tmux: server/2710 still has locks held!", "WARNING: cc1/1 still has locks held!"),
    ("BUG: key ffff88810adb5e08 not in .data!", "BUG: key ffff8881000012ab not in .data!"),
    ("BUG: looking up invalid subclass: 9", "BUG: looking up invalid subclass: 12"),
    (
        "WARNING: CPU: 0 PID: 7 at /usr/src/linux-6.12/kernel/sched/core.c:12 f+0x1/0x2",
        "WARNING: kernel/sched/core.c:99 at f+0x3/0x12, CPU#3: cc1/811",
    ),
    (
        "WARNING: at swap_range_free+0x8/0x10, CPU#0: swapoff/201",
        "WARNING: at swap_range_free+0x18/0x20, CPU#5: cc1/12",
    ),
    (
        "INFO: rcu_preempt detected stalls on CPUs/tasks: { 1-...!: } 21004 jiffies s: 153 root: 0x2/.",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"[5:],
    ),
    (
        "rcu: INFO: rcu_sched self-detected stall on CPU { 3}  (t=15000 jiffies g=12 c=11 q=3)",
        "rcu: INFO: rcu_sched self-detected stall on CPU",
    ),
    (
        "rcu: rcu_preempt kthread starved for 15002 jiffies! g77 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=1",
        "rcu: rcu_preempt kthread starved for 21002 jiffies! g-812 f0x2 RCU_GP_DOING_FQS(6) ->state=0x402 ->cpu=0",
    ),
    (
        "INFO: task kworker/u8:2+flush-259:0:88 blocked for more than 120 seconds.",
        "INFO: task kworker/u16:11+flush-8:16:4711 blocked for more than 241 seconds.",
    ),
    (
        "INFO: task swapoff:2710 <writer> blocked on an rw-semaphore likely owned by task cc1:33 <reader>",
        "INFO: task swapoff:1 <writer> blocked on an rw-semaphore likely owned by task tmux: server:9 <writer>",
    ),
    (
        "BUG: scheduling while atomic: kswapd0/41/0x00000002",
        "BUG: scheduling while atomic: tmux: server/9/0x00000003",
    ),
    ("bad: scheduling from the idle thread!",) * 2,
    ("UBSAN: shift-out-of-bounds in mm/vmscan.c:123:4", "UBSAN: shift-out-of-bounds in mm/vmscan.c:9:41"),
    ("BUG: KCSAN: data-race in swap_x+0x1/0x2 / y+0x1/0x2", "BUG: KCSAN: data-race in swap_x+0x9/0x12 / y+0x2/0x4"),
    (
        f"cc1: page allocation failure: order:4, {GFP}, nodemask=(null),cpuset=/,mems_allowed=0",
        f"tmux: server: page allocation failure: order:2, {GFP}, nodemask=0,cpuset=a3f1,mems_allowed=0-1",
    ),
    ("cc1: page allocation stalls for 10000ms, order:0", "kworker/u8:3: page allocation stalls for 20001ms, order:1"),
    (
        f"swapon: vmalloc error: size 4294967296, page order 9, {GFP}, nodemask=(null),cpuset=/,mems_allowed=0",
        f"modprobe: vmalloc error: size 8192, page order 0, {GFP}, nodemask=(null),cpuset=x,mems_allowed=0-3",
    ),
    (
        "XFS: swapon(1234) possible memory allocation deadlock size 65552 in kmem_alloc (mode:0x2400240)",
        "XFS: cc1(1) possible memory allocation deadlock size 16 in kmem_alloc (mode:0x2400240)",
    ),
    ("percpu: allocation failed, size=8 align=8 atomic=0", "percpu: allocation failed, size=64 align=16 atomic=1"),
    ("Read-error on swap-device (254:0:1234)", "Read-error on swap-device (8:16:88)"),
    ("zram0: Compression failed! err=-5", "zram7: Compression failed! err=-22"),
    (
        "I/O error, dev sda, sector 12 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2",
        "I/O error, dev pmem0, sector 99 op 0x0:(READ) flags 0x0 phys_seg 4 prio class 0",
    ),
    ("critical medium error, dev sda, sector 12", "critical medium error, dev nvme3n1, sector 4711"),
    (
        "nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0x10",
        "nvme nvme4: controller is down; will reset: CSTS=0x3, PCI_STATUS=0xffff",
    ),
    (
        "ata1.00: exception Emask 0x0 SAct 0x0 SErr 0x0 action 0x6 frozen",
        "ata12.00: exception Emask 0x0 SAct 0x7fffffff SErr 0x0 action 0x6 frozen",
    ),
    (
        "device-mapper: verity: 253:0: data block 1 is corrupted",
        "device-mapper: verity: 254:3: data block 4711 is corrupted",
    ),
    (
        "EXT4-fs error (device vda1): ext4_lookup:1855: inode #12: comm ls: iget: checksum invalid",
        "EXT4-fs error (device dm-crypt-a): ext4_lookup:1859: inode #99: comm valkey-server: iget: checksum invalid",
    ),
    (
        "BTRFS error (device sda2): bdev /dev/sda2 errs: wr 1, rd 0, flush 0, corrupt 0, gen 0",
        "BTRFS error (device nvme0n1p3): bdev /dev/nvme0n1p3 errs: wr 7, rd 0, flush 0, corrupt 0, gen 0",
    ),
    (
        "XFS (sda1): Metadata corruption detected at xfs_agf_read_verify+0x1/0x2 [xfs], xfs_agf block 0x1",
        "XFS (vg-root): Metadata corruption detected at xfs_agf_read_verify+0x1/0x2 [xfs], xfs_agf block 0xa1",
    ),
    (
        "bcachefs (3f2ab1c4-1111-2222-3333-0123456789ab): fatal error - emergency read only",
        "bcachefs (vdb): fatal error - emergency read only",
    ),
    (
        "SQUASHFS error: Unable to read fragment cache entry [1a2b3c]",
        "SQUASHFS error: Unable to read fragment cache entry [9f0e1]",
    ),
    ("Aborting journal on device nvme0n1p2-8.", "Aborting journal on device dm-11-8."),
    (
        "UBIFS error (ubi0:0 pid 1): ubifs_read_node: bad node type",
        "UBIFS error (ubi3:1 pid 811): ubifs_read_node: bad node type",
    ),
    (
        "sysfs: cannot create duplicate filename '/class/bdi/8:0'",
        "sysfs: cannot create duplicate filename '/class/bdi/253:7'",
    ),
    (
        "VFS: Busy inodes after unmount of sda1. Self-destruct in 5 seconds.  Have a nice day...",
        "VFS: Busy inodes after unmount of dm-3. Self-destruct in 5 seconds.  Have a nice day...",
    ),
    (
        "NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out",
        "NETDEV WATCHDOG: enp3s0f1 (e1000e): transmit queue 7 timed out",
    ),
    (
        "e1000e 0000:00:1f.6 eno1: NETDEV WATCHDOG: CPU: 1: transmit queue 0 timed out 5120 ms",
        "e1000e 0000:03:00.0 enp3s0: NETDEV WATCHDOG: CPU: 13: transmit queue 3 timed out 10240 ms",
    ),
    (
        "unregister_netdevice: waiting for eth0 to become free. Usage count = 1",
        "unregister_netdevice: waiting for veth1a2b3c4 to become free. Usage count = 3",
    ),
    (
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "kmemleak: 12 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    ),
    (
        "BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 33s!",
        "BUG: workqueue lockup - pool cpus=0-3 node=1 flags=0x4 nice=0 stuck for 63s!",
    ),
    (
        "BUG: using smp_processor_id() in preemptible [00000000] code: swapon/811",
        "BUG: using smp_processor_id() in preemptible [00000001] code: tmux: server/9",
    ),
    ("BUG: spinlock bad magic on CPU#1, swapper/1/0", "BUG: spinlock bad magic on CPU#12, tmux: server/4711"),
    (
        "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[12]",
        "BUG: workqueue leaked atomic, lock or RCU: kworker/u8:3[4711]",
    ),
    (
        "BUG: Dentry 00000000a1b2c3d4{i=1,n=foo}  still in use (1) [unmount of ext4 sda1]",
        "BUG: Dentry 00000000ffb2c3d4{i=ab12,n=bar.txt}  still in use (2) [unmount of ext4 vdb]",
    ),
    (
        "Memory cgroup out of memory: Killed process 3 (tmux: server) total-vm:1kB",
        "Memory cgroup out of memory: Killed process 4 (tmux: server) total-vm:2kB",
    ),
    (
        "Out of memory: Killed process 311 (cc1) total-vm:412812kB, anon-rss:300100kB, UID:1000",
        "Out of memory: Killed process 911 (cc1) total-vm:412900kB, anon-rss:9kB, UID:0",
    ),
    ("Huh VM_FAULT_OOM leaked out to the #PF handler. Retrying PF",) * 2,
    (
        "mce: CPU1: Core temperature above threshold, cpu clock throttled (total events = 3)",
        "mce: CPU13: Core temperature above threshold, cpu clock throttled (total events = 4711)",
    ),
)


@pytest.mark.parametrize(("one", "other"), BOOTS)
def test_two_boots_show_one_fault(one: str, other: str) -> None:
    (first,), (second,) = classify([one]), classify([other])
    assert (first.severity, first.signature) == (second.severity, second.signature)


def test_every_row_is_tried_with_two_boots() -> None:
    deciding = {next(number for number, row in enumerate(TABLE) if row.pattern.match(one)) for one, _ in BOOTS}
    assert [(row.kind, row.pattern.pattern) for number, row in enumerate(TABLE) if number not in deciding] == []


def test_two_faults_keep_two_signatures() -> None:
    by_signature: dict[str, set[str]] = {}
    for one, _ in BOOTS:
        (found,) = classify([one])
        by_signature.setdefault(found.signature, set()).add(one)
    assert [lines for lines in by_signature.values() if len(lines) > 1] == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("BUG: Bad page state in process cc1  pfn:7d3a1", "BUG: Bad page map in process cc1  pte:7d3a1 pmd:12"),
        ("swap_free: Bad swap file entry 7ab", "get_swap_device: Bad swap file entry 7ab"),
        ("swap_free: Bad swap file entry 7ab", "swap_free: Bad swap offset entry 7ab"),
        ("Internal error: Oops: 96000004 [#1] SMP", "Internal error: Oops - BUG: f2000800 [#1] SMP"),
        ("Internal error: Oops: 96000004 [#1] SMP", "Internal error: synchronous external abort: 96000210 [#1] SMP"),
        ("divide error: 0000 [#1] SMP", "invalid opcode: 0000 [#1] SMP"),
        (
            "EXT4-fs error (device vda1): ext4_lookup:1855: inode #12: comm ls: iget: checksum invalid",
            "EXT4-fs error (device vda1): ext4_find_entry:1455: inode #12: comm ls: reading directory lblock 0",
        ),
        (
            "EXT4-fs error (device vda1): ext4_lookup:1855: inode #12: comm ls: iget: checksum invalid",
            "EXT4-fs error (device vda1): ext4_lookup:1855: inode #12: comm ls: deleted inode referenced: 13",
        ),
        (
            "cc1: page allocation failure: order:4, mode:0xcc0(GFP_KERNEL)",
            "cc1: page allocation failure: order:0, mode:0x820(GFP_ATOMIC)",
        ),
        ("cc1: page allocation failure: order:4", "cc1: vmalloc: allocation failure: 4096 bytes"),
        (
            "rcu: rcu_preempt kthread starved for 15002 jiffies! g77 f0x0",
            "rcu: rcu_preempt kthread timer wakeup didn't happen for 5249 jiffies! g77 f0x0",
        ),
        (
            "rcu: INFO: rcu_preempt self-detected stall on CPU",
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        ),
        (
            "BUG: Bad rss-counter state mm:00000000f2a5b5a8 type:MM_SWAPENTS val:12",
            "BUG: Bad rss-counter state mm:00000000f2a5b5a8 type:MM_ANONPAGES val:12",
        ),
        ("BUG: spinlock bad magic on CPU#1, cc1/12", "BUG: spinlock recursion on CPU#1, cc1/12"),
        (
            "NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out",
            "NETDEV WATCHDOG: eth0 (virtio_net): transmit queue 0 timed out",
        ),
        ("kernel BUG at mm/swapfile.c:1233!", "kernel BUG at mm/vmscan.c:1233!"),
        ("UBSAN: shift-out-of-bounds in mm/vmscan.c:1:2", "UBSAN: array-index-out-of-bounds in mm/vmscan.c:1:2"),
        (
            "zswap: Decompression error from zswap (1:4711 lz4 2044->4096)",
            "zram: Decompression failed! err=-22, page=4711",
        ),
        ("INFO: task cc1:1 blocked for more than 120 seconds.", "INFO: task ld:1 blocked for more than 120 seconds."),
    ],
)
def test_what_says_the_fault_stays(one: str, other: str) -> None:
    (first,), (second,) = classify([one]), classify([other])
    assert first.signature != second.signature
