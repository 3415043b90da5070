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
_CHANGING: Final = re.compile(
    r"\+0x[0-9a-f]+/0x[0-9a-f]+|0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\b\d+s?\b|(?<=\bCPU)\d+"
    # The same fault on another host is on another disk.
    r"|\b(?:nvme\d+n\d+(?:p\d+)?|(?:s|v|xv|h)d[a-z]{1,3}\d*|mmcblk\d+(?:p\d+)?|(?:dm-|md|loop|zram|nbd)\d+)\b"
)
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
    if killed := _KILLED.match(line):
        return _CHANGING.sub("#", killed["program"])
    text = _SOURCE_PATH.sub(lambda found: source_path(found[0]), _TAINT.sub("", line))
    while text.startswith("Oops: "):
        text = text.removeprefix("Oops: ")
    return _CHANGING.sub("#", text)


def named_function(text: str) -> str:
    """Return the first function with its offset that a line names; empty when it names none."""
    function = _FUNCTION.search(text)
    return function[1].partition(".")[0] if function else ""
