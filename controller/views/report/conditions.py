"""What a test ran under, in words: the swap, the limit, the source. Read from the raw evidence of a run."""

import re
from collections.abc import Iterator, Mapping

from controller.domain.bounds import digits
from controller.domain.printable import printable
from controller.words import number_text

_MIB = 2**20
# MAX_SWAPFILES of the kernel is smaller.
_MOST_AREAS = 32
_LIMITS = ("cgroup_memory_max", "cgroup_memory_limit_in_bytes")


def conditions(told: Mapping[str, str]) -> Iterator[str]:
    """Yield what the evidence says, one statement each; what it does not say is left out."""
    if swap := _swap(told):
        yield f"swap: {swap}"
    limits = (digits(told.get(name, "").strip()) for name in _LIMITS)
    limit = next((one for one in limits if one is not None), None)
    if limit is not None:
        yield f"memory limit: {_size(limit)}"
    for name in ("server_command", "command", "config", "built", "source", "compiler", "server"):
        if told.get(name):
            yield f"{name.replace('_', ' ')}: {printable(told[name])}"


def _swap(told: Mapping[str, str]) -> str:
    """Return the swap that was on, for example "ZSWAP (lzo) over /dev/nvme3n1 of 1 TiB"."""
    areas = [line.split() for line in told.get("proc_swaps", "").splitlines()[1 : _MOST_AREAS + 1]]
    texts = []
    for area in areas:
        size_kib = digits(area[2]) if len(area) >= 3 else None
        if size_kib is None:
            continue
        algorithm = re.search(r"\[([^][\s]+)\]", told.get("zram_comp_algorithm", ""))
        packed = f" ({algorithm[1]})" if algorithm and area[0].startswith("/dev/zram") else ""
        texts.append(f"{area[0]}{packed} of {_size(size_kib * 1024)}")
    zswap = dict(line.partition(" ")[::2] for line in told.get("zswap_parameters", "").splitlines())
    over = f"ZSWAP ({zswap.get('compressor', 'unknown')}) over " if texts and zswap.get("enabled") == "Y" else ""
    return over + " and ".join(texts)


def _size(size_bytes: int) -> str:
    """Return a size in the largest unit that keeps it at least one; a swap area lacks a page of its device."""
    for unit, unit_bytes in (("TiB", _MIB << 20), ("GiB", _MIB << 10)):
        if size_bytes >= unit_bytes - _MIB:
            return f"{number_text(size_bytes / unit_bytes, 2).rstrip('0').rstrip('.')} {unit}"
    return f"{number_text(size_bytes / _MIB, 0)} MiB"
