"""What a run needs of this kernel and its file systems, asked before anything is touched: modules, algorithms, homes.

What cannot be known without loading something is not refused.
"""

from pathlib import Path

from agent.domain.host.mounts import parse_mounts, swap_file_problem
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.workloads.port import Host
from agent.workloads.rig.modules import is_loaded
from agent.workloads.rig.swap_files import swap_file_path
from agent.workloads.rig.zram import zram_is_there

# All that zram has ever had of its own; which of them a kernel was built with only its devices tell.
_ZRAM_ALGORITHMS: tuple[str, ...] = ("842", "deflate", "lz4", "lz4hc", "lzo", "lzo-rle", "zstd")
_MODULES = {SourceKind.BRD: "brd", SourceKind.ZRAM: "zram", SourceKind.LOOP: "loop"}
_WITH_FILE = (SourceKind.LOOP, SourceKind.FILE)
_OTHER_SWAP = "use another swap, or a kernel that has it"


def lacking(host: Host, swap: SwapSource, *, idle: bool) -> list[str]:
    """Return sentences about what is missing for this swap; `idle` when nothing will be swapped to it."""
    found = [_about_module(host, swap), _about_algorithm(host, swap), _about_compressor(host, swap)]
    sparse = swap.kind is SourceKind.LOOP
    if swap.kind in _WITH_FILE and not (sparse and idle):
        mounts = parse_mounts(_text(host.proc / "self/mountinfo"))
        found.append(swap_file_problem(str(swap_file_path(host, swap).parent), mounts, sparse=sparse))
    return [each for each in found if each]


def _about_module(host: Host, swap: SwapSource) -> str:
    module = _MODULES.get(swap.kind, "")
    if not module or is_loaded(host, module) or (module == "zram" and zram_is_there(host)):
        return ""
    if not host.tools.has("modprobe"):
        return f"{module} is to be loaded, and modprobe is not installed; install kmod"
    if _text(host.proc / "sys/kernel/modules_disabled").strip() == "1":
        return f"{module} is to be loaded, and this host loads no modules any more (kernel.modules_disabled)"
    folder = host.modules / host.kernel_release
    if module in _module_names(folder):
        return ""
    return f"this kernel has no module {module} (looked for it in {folder}); {_OTHER_SWAP}"


def _about_algorithm(host: Host, swap: SwapSource) -> str:
    if not swap.algorithm:
        return ""
    known = _ZRAM_ALGORITHMS
    for device in sorted((host.sys / "block").glob("zram*")):
        if told := _text(device / "comp_algorithm").replace("[", "").replace("]", "").split():
            known = tuple(told)
    if swap.algorithm in known:
        return ""
    return f"zram cannot compress with {swap.algorithm!r} here; it knows {' '.join(known)}"


def _about_compressor(host: Host, swap: SwapSource) -> str:
    """Ask what the kernel's own list of algorithms has, and which it could load."""
    wanted, listed = swap.zswap_compressor, _text(host.proc / "crypto")
    if not wanted or not listed:
        return ""
    names = {line.partition(":")[2].strip() for line in listed.splitlines() if line.startswith("name")}
    if wanted in names or wanted.replace("-", "_") in _module_names(host.modules / host.kernel_release):
        return ""
    return f"zswap cannot compress with {wanted!r}: this kernel has no such algorithm, loaded or as a module"


def _module_names(folder: Path) -> set[str]:
    """Return the modules that there are for a kernel, those that are built in included."""
    lines = (_text(folder / "modules.dep") + _text(folder / "modules.builtin")).splitlines()
    return {Path(line.partition(":")[0]).name.partition(".ko")[0].replace("-", "_") for line in lines}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
