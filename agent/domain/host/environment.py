"""What a host is like for as long as it is up: the conditions without which a number means nothing."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# What decides how a kernel swaps, reclaims and accounts, or slows all of it down.
_OPTION = re.compile(
    r"CONFIG_\w*(SWAP|ZRAM|ZSMALLOC|ZPOOL|ZBUD|Z3FOLD|HUGEPAGE|THP|MEMCG|LRU_GEN|\bPSI|KSM\b|COMPACTION|SLUB|SHMEM|"
    r"DEBUG_VM|DEBUG_LIST|KASAN|KFENCE|KMSAN|KCSAN|LOCKDEP|PROVE_LOCKING|PAGE_POISONING|INIT_ON_ALLOC|INIT_ON_FREE|"
    r"PREEMPT|PAGE_SIZE|PAGE_SHIFT|NR_CPUS|NUMA\b)\w*|CONFIG_(HZ|PSI|ARM64_\d+K_PAGES)\w*"
)
# What an architecture could do is no choice of this kernel's.
_POSSIBILITY = re.compile(r"CONFIG_(ARCH|HAVE|CC_HAS)_|CONFIG_\w+_SUPPORT$")
_SETTING = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelConfig:
    """A kernel's build configuration."""

    # Of the settings alone, sorted: comments and the compiler's banner do not count.
    sha256: str
    # Those that bear on swap; one that is not set is not there.
    options: Mapping[str, str]


def parse_config(text: str) -> KernelConfig | None:
    """Parse /boot/config-*; None when there is no setting in it."""
    settings = dict(_SETTING.findall(text))
    if not settings:
        return None
    lines = "\n".join(f"{name}={value}" for name, value in sorted(settings.items()))
    options = {
        name: value.strip('"')
        for name, value in sorted(settings.items())
        if _OPTION.fullmatch(name) and not _POSSIBILITY.match(name)
    }
    return KernelConfig(sha256=hashlib.sha256(lines.encode()).hexdigest(), options=options)


def cpu_fields(cpuinfo: str) -> dict[str, str]:
    """Return model and microcode from /proc/cpuinfo: by name on x86_64, by numbers on arm64."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    found = {}
    if "model name" in fields:
        found["cpu_model"] = fields["model name"]
    elif "CPU part" in fields:
        numbers = [
            f"{each} {fields[each]}" for each in ("CPU implementer", "CPU part", "CPU revision") if each in fields
        ]
        found["cpu_model"] = ", ".join(numbers)
    if "microcode" in fields:
        found["microcode"] = fields["microcode"]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One boot's conditions. What a kernel does not show is not there."""

    kernel_release: str
    kernel_version: str
    kernel_command_line: str
    boot_id: str
    architecture: str
    page_size_bytes: int
    memory_bytes: int
    cpu_count: int
    numa_nodes: int
    agent_version: str
    # None when neither /proc/config.gz nor /boot has one.
    config: KernelConfig | None = None
    # cpu_model, microcode, frequency_governor, frequency_driver, smt.
    cpu: Mapping[str, str] = field(default_factory=dict)
    # Files of transparent_hugepage and lru_gen, the chosen word of each.
    huge_pages: Mapping[str, str] = field(default_factory=dict)
    # Files of /proc/sys/vm.
    vm: Mapping[str, str] = field(default_factory=dict)
    # Parameters of zswap.
    zswap: Mapping[str, str] = field(default_factory=dict)
    # The first line with which a tool tells its version.
    tools: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> str:
        """Return it as JSON; names carry units, absent values are left out."""
        values: dict[str, object] = {
            "schema": 1,
            "kernel_release": self.kernel_release,
            "kernel_version": self.kernel_version,
            "kernel_command_line": self.kernel_command_line,
            "boot_id": self.boot_id,
            "architecture": self.architecture,
            "page_size_bytes": self.page_size_bytes,
            "memory_bytes": self.memory_bytes,
            "cpu_count": self.cpu_count,
            "numa_nodes": self.numa_nodes,
            "agent_version": self.agent_version,
            **self.cpu,
        }
        for name, mapping in (
            ("huge_pages", self.huge_pages),
            ("vm", self.vm),
            ("zswap", self.zswap),
            ("tools", self.tools),
        ):
            if mapping:
                values[name] = dict(mapping)
        if self.config is not None:
            values["kernel_config_sha256"] = self.config.sha256
            values["kernel_config"] = dict(self.config.options)
        return json.dumps(values, indent=1, sort_keys=True)
