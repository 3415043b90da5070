"""What makes two reports the same fault: kind and place, without what differs from boot to boot and build to build."""

import re
from typing import Final

FRAMES_IN_SIGNATURE: Final = 3

FRAME: Final = re.compile(
    r"^\s*(?:RIP: [0-9a-f]{4}:|pc : |lr : |epc : |NIP \[[0-9a-f]+\] |\[[0-9a-f<>]+\] |#\d+ )?"
    r"(?P<guess>\? )?(?P<name>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+"
)
# It begins where a word does, so that a long word is read once and not once from each of its letters.
_FUNCTION: Final = re.compile(r"(?<![\w.])([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
# What stands behind these words is a bystander of the fault, or where in its data it was: a process by name, pages,
# entries of tables, disks and network cards. Each begins with the words themselves, so that they are found fast.
_BEHIND: Final = (
    re.compile(r"(in process )\S.{0,15}?(?=\s{1,4}p(?:fn|te):|,|$)"),
    re.compile(r"( comm )\S.{0,15}?(?=: |, |$)"),
    re.compile(r"(Comm:)\S.{0,15}?(?= Pid:|$)"),
    re.compile(r"(while atomic: )\S.{0,40}?(?=/\d+/0x)"),
    re.compile(r"(\] code: )\S.{0,40}?(?=/\d+$)"),
    re.compile(r"(CPU#)\d+, \S.{0,40}?/\d+(?![/\d])"),
    re.compile(r"(: )\S{1,16}(?: \S{1,16})?/\d+(?= still )"),
    re.compile(r"(lock or RCU: ).*"),
    re.compile(r"(owned by task ).*"),
    re.compile(r"(s! \[)[^\[\]]{1,40}(?=\])"),
    re.compile(r"(LOCKUP on cpu )\d+.*"),
    re.compile(r"(nodemask=).*"),
    re.compile(r"(jiffies!).*"),
    re.compile(r"(stalls on (?:CPUs/)?tasks:).*"),
    re.compile(r"(detected stall on CPU).*"),
    re.compile(r"(kworker/)u?\d+:\d+[HI]?(?::\d+)?"),
    re.compile(r"(kswapd)\d+"),
    re.compile(r"(p(?:fn|te|md):)[0-9a-f]+"),
    re.compile(r"(ad p(?:[gmu4]d|te) )\S+"),
    re.compile(r"(swap (?:file|offset) entry )[0-9a-f]+"),
    re.compile(r"(ra == )[0-9a-f]+"),
    re.compile(r"(cache entry \[)[0-9a-f]+(?=\])"),
    re.compile(r"(Oops: )[0-9a-f]+\b"),
    re.compile(r"(\{i=)[^{}]{1,200}(?=\})"),
    re.compile(r"(\(device )[^()]{1,64}(?=\))"),
    re.compile(r"((?:-fs|XFS|BD2|hfs|efs) \()[^()]{1,64}(?=\))"),
    re.compile(r"(waiting for )\S{1,20}(?= to become free)"),
    re.compile(r"(NETDEV WATCHDOG: )\S{1,20}(?= \()"),
)
# Who asked, at the beginning of a line that says so.
_WHO_ASKED: Final = re.compile(
    r".{1,80}?(?=: (?:page allocation|vmalloc))|\S{1,40}\(\d+\)(?=: Kernel )|XFS: \S{1,40}(?= possible memory)"
)
# The same fault on another host is on another disk, and on another card.
_DEVICES: Final = (
    r"(?:nvme\d+n\d+(?:p\d+)?|nvme\d+|(?:s|v|xv|h|das)d[a-z]{1,3}\d*|mmcblk\d+(?:p\d+)?"
    r"|(?:dm-|md|loop|zram|nbd|pmem|sr|drbd|rbd|bcache|nullb|ubiblock|ubi|mtdblock|mtd|ram)\d+(?:p\d+)?"
    r"|(?:eth|en[ops]|wlan|wlp|tap|tun|vnet|bond|team|virbr|docker)\d\w*|(?:veth|enx|cali|lxc)[0-9a-f]\w*)"
)
_CHANGING: Final = re.compile(
    r"\+0x[0-9a-f]+/0x[0-9a-f]+|0x[0-9a-f]+|\(_{1,8}ptrval_{1,8}\)|\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]\b"
    r"|\b(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{8,}|(?=[a-f]*\d)[0-9a-f]{7})\b"
    r"|(?:(?<=[:= ])-)?\b\d+(?:[-,]\d+)*(?:s|ms|us|kB|KiB|MB)?\b|(?<=\bCPU)\d+|(?<=\b(?:ata|ubi))\d+"
    rf"|\b{_DEVICES}\b"
)
# How die() ends its line: with what the kernel was built with.
_BUILT_WITH: Final = re.compile(r"(?<=\[#)(\d{1,5}\]).*")
_TAINT: Final = re.compile(r" \((?:Not tainted|Tainted: [^)]*)\)")
_SOURCE_PATH: Final = re.compile(r"(?<![^\s(])[^\s:()]+\.(?:c|h|S|rs)(?=:\d)")
_KILLED: Final = re.compile(r".{0,120}?Kill(?:ed)? process \d+,? ?\((?P<program>.{1,64}?)\)(?=[ ,.]|$)")
# The folders at the top of the kernel's source, and those of them in which no such name stands again.
_TOP: Final = frozenset(
    {
        *(
            "arch",
            "block",
            "certs",
            "crypto",
            "drivers",
            "fs",
            "include",
            "init",
            "io_uring",
            "ipc",
            "kernel",
            "lib",
            "mm",
        ),
        *("net", "rust", "samples", "scripts", "security", "sound", "tools", "usr", "virt"),
    }
)
_NEVER_ABOVE: Final = frozenset(("block", "certs", "init", "io_uring", "ipc", "kernel", "mm", "net", "usr"))
# A folder that holds a source tree.
_ROOT: Final = re.compile(
    r"(?:.*linux.*|.*\d\.\d.*|src|source|sources|builds?|BUILD|workspace|work|tmp|home|usr|jenkins|jobs|kernel-.*|common)"
)
# Frames that every report has, whatever broke: how it is printed, how the processor got there, and for the kinds that
# ask for something (memory, a lock, the processor) how it is asked for.
_PRINTING: Final = (
    r"dump_stack\w*|show_stack|show_regs|panic|v?panic|nmi_panic|warn\w*|report_bug|handle_bug|bug_handler|brk_handler|die\w*"
    r"|kasan_\w+|asan_\w+|hwasan_\w+|kfence_\w+|kcsan_\w+|ubsan_\w+|print_\w+|refcount_warn_saturate|oops_\w+|crash_\w+"
    r"|dump_backtrace|dump_header|oom_kill_process|out_of_memory|slab_err|slab_bug|object_err|slab_fix|check_object|slab_pad_check"
    r"|check_bytes_and_report|free_debug_processing|alloc_debug_processing|on_freelist|bad_page\w*|free_page_is_bad|ubsan_epilogue"
    r"|schedule_bug|might_\w+|list_(?:add|del)_valid\w*|list_del_entry_valid\w*|fortify_panic|usercopy_abort|lockdep_\w+"
    r"|sched_show_task|nmi_\w+|watchdog_\w+|rcu_(?:dump|check|sched)\w*|check_(?:cpu_stall|noncircular|prev_add\w*|flush)\w*"
)
_ENTERING: Final = (
    r"do_trap\w*|do_error_trap|exc_\w+|asm_\w+|el[01]\w*|ret_from_fork\w*|kthread|do_syscall_64|entry_SYSCALL\w*|x64_sys_call"
    r"|invoke_syscall|do_el0_svc|page_fault_oops|search_\w+|do_mem_abort|do_translation_fault|do_page_fault|do_kern_addr_fault"
    r"|sysvec_\w+|call_on_irq_stack|do_interrupt_handler|hrtimer_\w+|tick_\w+|update_process_times|end_repeat_nmi|default_do_nmi"
    r"|bad_area_nosemaphore\w*|no_context|notify_die|system_call\w*|ret_from_kernel_thread|do_softirq\w*|irq_exit\w*|run_timer\w*"
)
_WAITING: Final = (
    r"schedule\w*|io_schedule\w*|mutex_lock\w*|down_(?:read|write)\w*|rwsem_\w+|percpu_(?:down|rwsem)\w*|wait_for_comm\w*"
    r"|wait_for_completion\w*|bit_wait\w*|wait_on_bit\w*|out_of_line_wait\w*|folio_wait_bit\w*|wait_on_page_bit\w*|folio_lock\w*"
    r"|lock_page\w*|lock_acquire|lock_release|mark_lock\w*|validate_chain|raw_spin_\w+|spin_lock\w*|rt_mutex_\w+|preempt_schedule\w*"
    r"|cond_resched\w*|wait_event\w*|wait_woken|synchronize_\w+|queued_spin_\w+|native_queued_\w+|pv_queued_\w+|usleep_\w+|msleep\w*"
)
_ALLOCATING: Final = (
    r"alloc_pages\w*|alloc_frozen_pages\w*|folio_alloc(?:_mpol\w*|_noprof|_node\w*)?|vma_alloc\w*|get_free_pages|get_page_from_freelist"
    r"|kmalloc\w*|kvmalloc\w*|kzalloc\w*|kmem_cache_\w+|vmalloc\w*|vmap_\w+|slab_alloc\w*|slab_free\w*|new_slab\w*|allocate_slab"
    r"|slab_post_alloc\w*|kfree\w*|krealloc\w*|devm_k\w+|pcpu_alloc\w*|alloc_percpu\w*|try_charge\w*|mem_cgroup_(?:charge|out)\w*"
)
# Runs of underscores stand before many of these, and a compiler's suffix after.
_GENERIC: Final = re.compile(rf"_*(?:{_PRINTING}|{_ENTERING}|{_WAITING}|{_ALLOCATING})")


def frame_of(text: str) -> str:
    """Return the function that a line of a call trace names; empty for a guess, a generic one, and any other line."""
    frame = FRAME.match(text)
    if frame is None or frame["guess"]:
        return ""
    name = frame["name"].partition(".")[0]
    return "" if _GENERIC.fullmatch(name) else name


def source_path(path: str) -> str:
    """Return a file's path from the top of the kernel's source, wherever that was built."""
    outside = path.startswith(("/", ".."))
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    if not outside:
        return "/".join(parts)
    roots = [number for number, part in enumerate(parts[:-1]) if _ROOT.fullmatch(part)]
    # A folder of the source may be called like one that holds it: then the last that leaves something counts.
    starts = [number + 1 for number in reversed(roots)]
    for first in starts if starts and path.startswith("/") else [*starts, 0]:
        for number in range(first, len(parts) - 1):
            if parts[number] in _TOP and not (parts[number] in _NEVER_ABOVE and parts[number + 1] in _TOP):
                return "/".join(parts[number:])
    return "/".join(parts[-2:])


def place_of(text: str, place: str) -> str:
    """Return file and function of a WARNING; the line number moves with every patch, so it stays out."""
    function = _FUNCTION.search(text)
    path = source_path(place.rpartition(":")[0])
    return f"{path} {function[1].partition('.')[0]}" if function else path


def words_of(line: str) -> str:
    """Return what a line says without what changes: addresses, numbers, where the kernel was built, its taint.

    An out-of-memory kill is known by the program that was killed, whatever its size.
    """
    if program := killed_program(line):
        return program
    text = _SOURCE_PATH.sub(lambda found: source_path(found[0]), _TAINT.sub("", line))
    text = _BUILT_WITH.sub(r"\1", text)
    for behind in _BEHIND:
        text = behind.sub(r"\1#", text)
    if who := _WHO_ASKED.match(text):
        text = f"#{text[who.end() :]}"
    while text.startswith("Oops: "):
        text = text.removeprefix("Oops: ")
    return _CHANGING.sub("#", text)


def killed_program(line: str) -> str:
    """Return the program that an out-of-memory kill names; empty for any other line."""
    killed = _KILLED.match(line)
    return _CHANGING.sub("#", killed["program"]) if killed else ""


def named_function(text: str) -> str:
    """Return the first function with its offset that a line names; empty when it names none."""
    function = _FUNCTION.search(text)
    return function[1].partition(".")[0] if function else ""
