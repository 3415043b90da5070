"""Reading a boot's environment from the kernel and from the tools' own words."""

import gzip
import os
import platform
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from agent import __version__
from agent.adapters.host.host import boot_id, read_text
from agent.domain.host.counters import chosen, parse_sizes
from agent.domain.host.environment import Environment, KernelConfig, cpu_fields, parse_config
from agent.domain.host.facts import architecture_name
from agent.workloads.port import Tools

_VM = (
    "swappiness",
    "min_free_kbytes",
    "page-cluster",
    "watermark_scale_factor",
    "watermark_boost_factor",
    "overcommit_memory",
    "zone_reclaim_mode",
    "compaction_proactiveness",
    "vfs_cache_pressure",
    "dirty_ratio",
    "dirty_background_ratio",
)
# What measures, and what makes and carries swap.
TOOLS = ("mkswap", "swapon", "make", "gcc", "valkey-server", "redis-server", "valkey-benchmark", "stress-ng")
_LONGEST_VERSION = 120
_VERSION_TIMEOUT_S = 10.0
# Asks a tool for its version; returns what it printed, empty when it is not installed.
AskVersion = Callable[[str], Awaitable[str]]


async def environment_document(tools: Tools, *, proc: Path, sys: Path) -> str:
    """Read everything, the versions of the host's tools included, and return it as a document."""

    async def ask_version(tool: str) -> str:
        if not tools.has(tool):
            return ""
        completed = await tools.run((tool, "--version"), timeout_s=_VERSION_TIMEOUT_S)
        # Some tell it as a complaint about an option that they do not know.
        return completed.stdout or completed.complaint

    return (await read_environment(ask_version, proc=proc, sys=sys)).document()


async def read_environment(
    ask_version: AskVersion, *, proc: Path = Path("/proc"), sys: Path = Path("/sys"), boot: Path = Path("/boot")
) -> Environment:
    """Read everything that stays as it is until the next boot, and the tools' versions."""
    name = os.uname()
    return Environment(
        kernel_release=name.release,
        kernel_version=name.version,
        kernel_command_line=read_text(proc / "cmdline"),
        boot_id=boot_id(proc),
        architecture=architecture_name(platform.machine()),
        page_size_bytes=os.sysconf("SC_PAGE_SIZE"),
        memory_bytes=parse_sizes(read_text(proc / "meminfo")).get("MemTotal", 0),
        cpu_count=os.cpu_count() or 1,
        numa_nodes=sum(1 for _ in (sys / "devices/system/node").glob("node[0-9]*")) or 1,
        agent_version=__version__,
        config=_config(proc, boot, name.release),
        cpu={**cpu_fields(read_text(proc / "cpuinfo")), **_cpu_settings(sys)},
        huge_pages=_huge_pages(sys / "kernel/mm"),
        vm=_texts(proc / "sys/vm", _VM),
        zswap=_texts(sys / "module/zswap/parameters", _names(sys / "module/zswap/parameters")),
        tools=await _versions(ask_version),
    )


def _config(proc: Path, boot: Path, release: str) -> KernelConfig | None:
    try:
        return parse_config(gzip.decompress((proc / "config.gz").read_bytes()).decode("utf-8", "replace"))
    except (OSError, EOFError):
        return parse_config(read_text(boot / f"config-{release}"))


def _cpu_settings(sys: Path) -> dict[str, str]:
    cpufreq = sys / "devices/system/cpu/cpu0/cpufreq"
    found = {
        "frequency_governor": read_text(cpufreq / "scaling_governor"),
        "frequency_driver": read_text(cpufreq / "scaling_driver"),
        "smt": read_text(sys / "devices/system/cpu/smt/control"),
    }
    return {name: text for name, text in found.items() if text}


def _huge_pages(mm: Path) -> dict[str, str]:
    directory = mm / "transparent_hugepage"
    files = {name: directory / name for name in ("enabled", "defrag", "shmem_enabled")}
    files |= {f"{each.name} enabled": each / "enabled" for each in sorted(directory.glob("hugepages-*kB"))}
    files["lru_gen"] = mm / "lru_gen/enabled"
    return {name: chosen(text) for name, file in files.items() if (text := read_text(file))}


def _texts(directory: Path, names: Iterable[str]) -> dict[str, str]:
    return {name: text for name in names if (text := read_text(directory / name))}


def _names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir()) if directory.is_dir() else []


async def _versions(ask_version: AskVersion) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for tool in TOOLS:
        lines = (await ask_version(tool)).strip().splitlines()
        if lines:
            found[tool] = lines[0][:_LONGEST_VERSION]
    return found
