"""What a kernel says when it is broken, or when something under it is: one table of patterns."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How much one finding weighs."""

    FATAL = "fatal"  # reverts on first sight, unless the old kernel does it on as many hosts
    SERIOUS = "serious"  # reverts when the old kernel does not do it and a second host or boot confirms it
    COUNT = "count"  # only its rate says anything
    UNREAD = "unread"  # part of the log could not be read: what is left of it never counts as clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of line."""

    severity: Severity
    kind: str
    pattern: re.Pattern[str]
    # Whether the line says all there is: no call trace follows that belongs to it.
    alone: bool = False


def _row(severity: Severity, kind: str, pattern: str, *, alone: bool = False) -> Row:
    # Kernel messages may carry a subsystem or function ("watchdog: ", "get_swap_device: "); those of user space carry
    # a process number ("systemd[1]: ") and must not match.
    whole = re.compile(rf"(?:(?:NMI )?[\w./-]+: ){{0,3}}?{pattern}")
    return Row(severity=severity, kind=kind, pattern=whole, alone=alone)


FATAL, SERIOUS, COUNT = Severity.FATAL, Severity.SERIOUS, Severity.COUNT
# What speaks of the machine and not of its kernel, as the kind of a finding.
HARDWARE_KIND: Final = "hardware"
# Architecture, processor or task name before the words of some ports.
_CPU: Final = r"(?:CPU[ #]?\d+:? )?"

# The words of the block layer for what a device answered, beside "I/O error".
_BLOCK_ERRORS: Final = (
    r"(?:critical (?:target|medium|nexus|space allocation)|timeout|device offline|recoverable transport"
    r"|reservation conflict|protection|kernel resource|device resource)"
)

# What KASAN adds to a fault in memory that it watches.
_KASAN_RANGE: Final = r"KASAN: (?:null-ptr-deref|probably user-memory-access|maybe wild-memory-access) in range"

# What a panic over a machine that failed says: machine checks, error reports of firmware, and interrupts for parity.
_BROKEN_MACHINE: Final = (
    r"(?:(?:Fatal |Unrecoverable |Uncorrected )?(?:local )?[Mm]achine check|Fatal hardware error|Uncorrected "
    r"|Timeout: (?:Not all CPUs entered broad|Subject CPUs unable|Monarch CPU did not)"
    r"|Timeout synchronizing machine check|Unrecoverable HMI|Memory failure: "
    r"|UE .{1,80}error|EDAC |NMI: PCI system error|NMI IOCK error)"
)
# A program may be called like anything, and a device may call itself like anything.
_NO_PROGRAM: Final = r"(?![\w.@()-]{1,64}\[\d+\]: |usb \d|audit: |audit\()"
# What a file system says of itself in passing, with words that its errors have too.
_IN_PASSING: Final = (
    r"(?!.{1,80}(?:: mounted filesystem|: error count since last fsck|: (?:initial|last) error at time|: Mounting V\d"
    r"|: Volume was not properly unmounted))"
)

# The first row that matches decides.
TABLE: Final[Sequence[Row]] = (
    # Hardware that failed is not the kernel's doing, whatever the kernel does about it.
    _row(COUNT, HARDWARE_KIND, r"(?:Fatal |Uncorrected )(?:local )?[Mm]achine check"),
    _row(COUNT, HARDWARE_KIND, rf"(?:---\[ end )?Kernel panic - not syncing: {_BROKEN_MACHINE}"),
    _row(COUNT, HARDWARE_KIND, r"(?:\{\d+\})?\[Hardware Error\]|Oops: Machine check", alone=True),
    _row(COUNT, HARDWARE_KIND, r"(?:Uncorrected hardware memory error|Memory failure: 0x)", alone=True),
    _row(FATAL, "panic", r"(?:---\[ end )?Kernel panic - not syncing"),
    _row(FATAL, "panic", r"PANIC: (?:double fault|early exception)"),
    # Modules beside the tree that stop for ever instead of a panic: OpenZFS and Lustre.
    _row(FATAL, "kernel_bug", r"(?:PANIC at \S{1,80}:\d{1,6}:\w|LustreError: .{0,120}\)\) (?:LBUG|ASSERTION\())"),
    _row(FATAL, "kernel_bug", r"[kK]ernel BUG (?:at|in) "),
    _row(FATAL, "null_or_paging", r"BUG: (?:[Uu]nable to handle|[kK]ernel NULL pointer dereference)"),
    _row(FATAL, "null_or_paging", rf"{_CPU}Unable to handle kernel "),
    _row(
        FATAL,
        "null_or_paging",
        r"(?:Unhandled (?:fault|prefetch abort)|Kernel (?:unaligned|ade) access|Kernel Fault): ",
    ),
    _row(FATAL, "null_or_paging", r"[kK]ernel (?:tried to|attempted to) (?:execute|read|write|access) "),
    _row(FATAL, "general_protection", r"general protection fault[,:] "),
    _row(FATAL, "memory_checker", r"BUG: K(?:ASAN|FENCE|MSAN): "),
    _row(FATAL, "memory_checker", _KASAN_RANGE),
    _row(FATAL, "memory_checker", r"(?:Kernel memory (?:exposure|overwrite) attempt|detected buffer overflow in )"),
    _row(
        FATAL,
        "bad_page",
        r"(?:BUG: )?(?:[\w./-]+:\d+: )?[Bb]ad (?:page (?:state|map|cache)|rss-counter|p[gmu4]d |pte )",
    ),
    _row(FATAL, "bad_page", r"BUG: non-zero pgtables_bytes"),
    _row(FATAL, "refcount", r"refcount_t: "),
    _row(
        FATAL,
        "lockup",
        rf"(?:BUG: soft ?lockup|{_CPU}(?:Watchdog |self-)?detected hard LOCKUP|Watchdog CPU:\d+ Hard LOC)",
    ),
    _row(FATAL, "lockup", r"NMI watchdog: .*hard LOCKUP"),
    _row(FATAL, "swap_entry", r"(?:Bad|Unused) swap (?:file|offset) entry [0-9a-f]+", alone=True),
    _row(
        FATAL,
        "swap_data",
        r"(?:zswap|zram\d*|zsmalloc|zcache|zbud|z3fold): .*[Dd]ecompress\w* (?:error|fail)",
        alone=True,
    ),
    _row(FATAL, "swap_data", r"(?:Decompression error from zswap|Decompression failed! err)", alone=True),
    _row(
        FATAL,
        "swap_data",
        r"(?:zswap|zram\d*|zsmalloc|zbud|z3fold): .*(?:[Cc]orrupt|[Ii]nvalid handle|bad handle)",
        alone=True,
    ),
    _row(FATAL, "swap_data", r"(?:Buffer )?I/O error(?: on)?,? dev(?:ice)? zram\d", alone=True),
    _row(FATAL, "list_corruption", r"list_(?:add|del)(?:_valid)? (?:corruption|double add)"),
    _row(
        FATAL,
        "slab",
        r"BUG (?!at |in )\S.{0,80}? ?(?:\((?:Not t|T)ainted|: (?:Redzone|Poison|Object|Freepointer|Freechain))",
    ),
    _row(FATAL, "slab", r"(?:double free detected in cache|slab error in |[Ss]lab cache .{0,80}still has objects)"),
    _row(FATAL, "slab", r"kmem_cache_destroy \S{1,80}: Slab cache still has objects"),
    _row(FATAL, "stack", r"(?:BUG: (?:\w+ )?stack guard page was hit|Insufficient stack space to handle exception)"),
    _row(
        FATAL,
        "stack",
        r"(?:BUG: )?(?:[kK]ernel stack overflow|task stack overflow|stack overflow detected)",
    ),
    _row(FATAL, "stack", r"Bad kernel stack pointer"),
    _row(FATAL, "control_flow", r"(?:CFI failure |Missing ENDBR: |UACCESS|Control protection: )"),
    _row(FATAL, "oops", r"(?:Internal error: |Oops(?::| - ))"),
    _row(
        FATAL,
        "oops",
        r"(?:Bad mode in .{1,60} handler detected|Unhandled .{1,30} exception on CPU|SError Interrupt on CPU)",
    ),
    _row(FATAL, "oops", r"Unrecoverable .{1,40} [Ee]xception "),
    # What die() of every architecture prints: a name, an error code, and how many there were.
    _row(FATAL, "oops", rf"{_NO_PROGRAM}[A-Za-z#][^\[\]]{{0,100}}\[#\d{{1,5}}\](?:$|:| (?:[A-Z]|$))"),
    _row(
        SERIOUS,
        "lockdep",
        r"(?:\[ )?(?:WARNING|INFO|BUG): (?:possible |inconsistent |suspicious |bad (?:unlock|contention) )",
    ),
    _row(
        SERIOUS,
        "lockdep",
        r"(?:\[ )?(?:WARNING|INFO|BUG): (?:held lock |lock held |[Nn]ested lock |Invalid wait context)",
    ),
    _row(
        SERIOUS,
        "lockdep",
        r"(?:\[ )?(?:WARNING|INFO|BUG): [\w-]{1,30}-(?:un)?safe -> [\w-]{1,30}-(?:un)?safe lock order",
    ),
    _row(SERIOUS, "lockdep", r"(?:\[ )?(?:WARNING|INFO|BUG): .{1,40}(?:still has locks held|still holding locks)"),
    _row(
        SERIOUS,
        "lockdep",
        r"(?:\[ )?(?:INFO|BUG): (?:MAX_LOCK|trying to register non-static key|key \S{1,20} (?:not|has not))",
    ),
    _row(
        SERIOUS,
        "lockdep",
        r"(?:possible (?:circular|recursive) locking|inconsistent lock state|BUG: looking up invalid sub)",
    ),
    _row(
        SERIOUS,
        "warning",
        r"WARNING: (?:at |.* at |\[.*\] )?(?P<place>[^\s:]+\.(?:c|h|S|rs):\d+)",
    ),
    _row(SERIOUS, "warning", r"WARNING: (?:CPU: \d+ PID: \d+ )?at (?=[\w.]+\+0x)"),
    _row(SERIOUS, "rcu_stall", r"(?:INFO: )?rcu_\w+ (?:self-)?detected (?:expedited )?stalls?"),
    _row(SERIOUS, "rcu_stall", r"rcu_\w+ kthread (?:starved for|timer wakeup didn't happen)"),
    _row(
        SERIOUS,
        "hung_task",
        r"INFO: task .{1,80}:\d+ (?:<\w{1,16}> )?(?:is )?blocked .*(?:for more than \d+ seconds|likely owned|on a )",
    ),
    _row(SERIOUS, "atomic_sleep", r"(?:\[ )?BUG: (?:sleeping function called|scheduling while atomic)"),
    _row(SERIOUS, "atomic_sleep", r"bad: scheduling from the idle thread"),
    _row(SERIOUS, "undefined_behaviour", r"UBSAN: "),
    _row(SERIOUS, "data_race", r"BUG: KCSAN: "),
    _row(SERIOUS, "allocation_failure", rf"{_NO_PROGRAM}\S.*: page allocation (?:failure[:.] order|stalls for)"),
    _row(SERIOUS, "allocation_failure", rf"{_NO_PROGRAM}\S.*: (?:vmalloc error: size|vmalloc: allocation failure)"),
    _row(SERIOUS, "allocation_failure", r"XFS: \S{1,40} possible memory allocation deadlock"),
    _row(
        SERIOUS,
        "allocation_failure",
        r"(?:vmap allocation for size \d+ failed|allocation failed, size=|SL[AU]B: Unable to al)",
    ),
    _row(
        SERIOUS, "swap_device_error", r"(?:Read|Write)[- ]error (?:-?\d+ )?on (?:swap-device|dio swapfile)", alone=True
    ),
    _row(
        SERIOUS,
        "swap_device_error",
        r"(?:zswap|zram\d*): .*(?:[Cc]ompress\w* (?:error|fail)|Error allocating)",
        alone=True,
    ),
    _row(
        SERIOUS, "io_error", r"(?:Buffer |critical \w{1,12} |blk_update_request: )?I/O error(?: on)?,? dev", alone=True
    ),
    _row(SERIOUS, "io_error", rf"{_BLOCK_ERRORS} error, dev ", alone=True),
    _row(
        SERIOUS,
        "io_error",
        r"nvme nvme\d+: (?:controller is down; will reset|I/O (?:tag )?\d+ .{0,80}timeout, (?:aborting|reset))",
        alone=True,
    ),
    _row(
        SERIOUS,
        "io_error",
        r"(?:ata\d+(?:\.\d+)?: (?:exception Emask|failed command: )|mmcblk\d+: error -\d+ "
        r"|md/raid\d+:\w{1,20}: Disk fail)",
        alone=True,
    ),
    _row(SERIOUS, "io_error", r"device-mapper: (?:verity|integrity|crypt): .{0,80}(?:is corrupted|[Cc]hecksum failed)"),
    # A disk that fails under one host says nothing of the kernel; the same on a second host does.
    _row(
        SERIOUS,
        "file_system",
        r"[A-Z0-9a-z]{2,10}(?:-fs)? ?(?:error|critical|warning)?:? ?\(device [^)]{1,64}\)[: ].*"
        r"(?:[Cc]orrupt|[Ee]rror(?!s=)|fail(?:ed|ure)|abort|shut ?down|read-?only)",
        alone=True,
    ),
    _row(
        SERIOUS,
        "file_system",
        rf"{_IN_PASSING}"
        r"(?:[A-Z0-9a-z]{2,10}-fs|XFS|bcachefs|JBD2|EROFS|BTRFS|ZFS|NILFS|OCFS2|gfs2) ?\([^)]{1,64}\): .*"
        r"(?:[Cc]orrupt|[Ee]rror(?!s=)|failed|[Aa]bort|shut ?down|[Rr]emounting filesystem read-only|inconsistent)",
        alone=True,
    ),
    _row(
        SERIOUS,
        "file_system",
        r"(?:EXT[234]-fs|BTRFS|F2FS-fs|FAT-fs|SQUASHFS|JBD2?|XFS|UDF-fs|bcachefs) ?(?:error|critical)",
        alone=True,
    ),
    _row(
        SERIOUS,
        "file_system",
        r"(?:Aborting journal on device|Detected IO errors while flushing|Transaction aborted|I/O error when upd)",
        alone=True,
    ),
    _row(
        SERIOUS,
        "file_system",
        r"(?:UBIFS error \(|ubi\d+ error: |OCFS2: ERROR \(|GFS2: fsid=\S{1,60}: fatal: )",
        alone=True,
    ),
    _row(
        SERIOUS,
        "driver",
        r"(?:sysfs: cannot create duplicate filename|kobject.{1,60}: tried to init an initialized object"
        r"|page_pool_release_retry\(\) stalled pool shutdown)",
        alone=True,
    ),
    _row(SERIOUS, "reference_leak", r"Busy inodes after unmount of ", alone=True),
    _row(SERIOUS, "driver", r"(?:irq \d+: nobody cared|(?:\S{1,20} \S{1,20} \S{1,20}: )?NETDEV WATCHDOG: .*timed out)"),
    _row(SERIOUS, "reference_leak", r"waiting for \S{1,20} to become free\. Usage count", alone=True),
    _row(SERIOUS, "memory_leak", r"\d+ new suspected memory leaks", alone=True),
    _row(SERIOUS, "bug", r"(?:\[ )?BUG: "),
    _row(COUNT, "memcg_oom", r"Memory cgroup out of memory: Kill", alone=True),
    _row(SERIOUS, "out_of_memory", r"Out of memory(?: \([^)]*\))?(?:: Kill| and no killable)", alone=True),
    _row(COUNT, "fault_oom", r"(?:Huh )?VM_FAULT_OOM leaked"),
    _row(COUNT, "throttling", r".*(?:temperature (?:is )?above threshold|clock (?:is )?throttled)"),
)
WARNING_IN_MM: Final = Row(severity=FATAL, kind="warning_in_mm", pattern=re.compile(r"WARNING: "))
# Kinds whose report goes on with an "Oops" line of its own.
GOES_ON: Final = frozenset(
    {"kernel_bug", "null_or_paging", "general_protection", "list_corruption", "stack", "control_flow", "oops"}
)
