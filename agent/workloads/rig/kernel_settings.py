"""Settings of the kernel that its own test programs change, and put back only where they come to their end."""

from collections.abc import Mapping
from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.work.leftovers import KernelSettings
from agent.workloads.port import Host

_HUGE_PAGES = "kernel/mm/transparent_hugepage"
_SYS = (
    (_HUGE_PAGES, ("enabled", "defrag", "shmem_enabled", "use_zero_page")),
    (
        f"{_HUGE_PAGES}/khugepaged",
        (
            *("defrag", "alloc_sleep_millisecs", "scan_sleep_millisecs", "pages_to_scan"),
            *("max_ptes_none", "max_ptes_swap", "max_ptes_shared"),
        ),
    ),
    ("kernel/mm/ksm", ("run", "pages_to_scan", "sleep_millisecs", "use_zero_pages")),
)
_OF_A_SIZE = ("enabled", "shmem_enabled")
_PROC = ("nr_hugepages", "overcommit_memory", "compact_unevictable_allowed", "unprivileged_userfaultfd")


def read_settings(host: Host) -> Mapping[str, str]:
    """Return path -> value of those that this kernel has."""
    sizes = [name for name in host.files.names(host.sys / _HUGE_PAGES) if name.startswith("hugepages-")]
    folders = (
        *((host.sys / folder, names) for folder, names in _SYS),
        *((host.sys / _HUGE_PAGES / size, _OF_A_SIZE) for size in sizes),
        (host.proc / "sys/vm", _PROC),
    )
    paths = [folder / name for folder, names in folders for name in host.files.names(folder) if name in names]
    return {str(path): _chosen(host.files.read(path)) for path in paths}


def noted(settings: Mapping[str, str]) -> KernelSettings:
    """Return the settings as what is to be put back."""
    return KernelSettings(values="\n".join(f"{path} {value}" for path, value in settings.items()))


def restore_settings(host: Host, before: KernelSettings) -> None:
    """Write back what differs by now. Raises RigError when the kernel refuses one, after having tried all."""
    refused = []
    for line in before.values.splitlines():
        name, _, value = line.partition(" ")
        path = Path(name)
        try:
            if _chosen(host.files.read(path)) != value:
                host.files.write(path, value)
        except OSError as error:
            refused.append(f"{name} cannot be set back to {value}: {error.strerror}")
    if refused:
        raise RigError("; ".join(refused))


def _chosen(text: str) -> str:
    """Return the value of a file that may show all its choices, as "always [madvise] never"."""
    _, bracket, rest = text.partition("[")
    return rest.partition("]")[0] if bracket else text
