"""The swap of a rollout file's workloads, and what makes it whole: on its own, or over what a preset names.

The agents say no to the same (agent/domain/orders/swap_source.py), but only when a rollout is under way already; a
contract test holds both against each other.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from controller.domain.spec.fields import HostPath, Model, Text
from controller.domain.spec.units import Size

Percentage = Annotated[int, Field(ge=1, le=100)]


class Swap(Model):
    """What is mounted as swap for the runs, and taken down after them."""

    kind: Literal["block_device", "brd", "zram", "loop", "file", "existing"] | None = None
    # Of a block device: one that every host has, blank or with kernroll's own swap area.
    path: HostPath | None = None
    size_bytes: Size | None = Field(default=None, alias="size")
    # Where the file of loop and file is made; else the agent's state directory.
    directory: HostPath | None = None
    # How zram compresses, for example lzo-rle; else as the kernel has it.
    algorithm: Text | None = None
    # Compress pages in zswap on their way to the device.
    zswap: bool | None = None
    zswap_compressor: Text | None = None
    zswap_max_pool_percent: Percentage | None = None
    # Run although the hosts swap elsewhere too; the kernel then chooses between the devices.
    allow_active_swap: bool | None = None


# What each preset names of the swap, the same for all of its workloads: a file may be right only over that.
PRESET_SWAPS: Final[Mapping[str, Swap]] = {
    "small": Swap.model_construct(kind="zram", size_bytes=1),
    "series-x86-zswap": Swap.model_construct(zswap=True),
    "series-arm64-zram": Swap.model_construct(kind="zram", size_bytes=1),
}


def over_preset(swap: Swap | None, preset: str | None) -> Swap:
    """Return the swap with what the preset names and the file leaves out.

    Another kind of swap shares nothing with the kind that it replaces.
    """
    below = PRESET_SWAPS.get(preset or "", Swap())
    if swap is None:
        return below
    if swap.kind is not None and below.kind not in (None, swap.kind):
        return swap
    return below.model_copy(update={name: getattr(swap, name) for name in swap.model_fields_set})


def check_swap(swap: Swap) -> None:
    """Raise ValueError for a swap that no host can make: in words that follow the field's name."""
    kind = swap.kind
    if kind == "block_device" and swap.path is None:
        raise ValueError("of kind block_device needs its path")
    if swap.path is not None and kind not in (None, "block_device"):
        raise ValueError(f"of kind {kind} has no path; only block_device has one")
    if kind in ("brd", "zram", "loop", "file") and swap.size_bytes is None:
        raise ValueError(f"of kind {kind} needs its size")
    if swap.algorithm is not None and kind != "zram":
        raise ValueError(f"has an algorithm, which only zram takes, and is {_of(kind)}")
    if swap.directory is not None and kind not in ("loop", "file"):
        raise ValueError(f"has a directory, which only loop and file take, and is {_of(kind)}")
    if swap.zswap and kind == "zram":
        raise ValueError("of kind zram takes no zswap, which would compress everything twice; leave one of them out")
    if not swap.zswap and (swap.zswap_compressor is not None or swap.zswap_max_pool_percent is not None):
        raise ValueError("has settings of zswap, so it needs zswap: true")


def needs_own(swap: Swap, why: str) -> None:
    """Raise ValueError when the workload may not use the host's swap."""
    if swap.kind == "existing":
        raise ValueError(f"{why}, so its swap is of another kind than existing")


def needs_no_other(swap: Swap, why: str) -> None:
    """Raise ValueError when the workload may swap to anything but a device of its own."""
    needs_own(swap, why)
    if swap.allow_active_swap:
        raise ValueError(f"{why}, so its swap takes no allow_active_swap")


def _of(kind: str | None) -> str:
    return "of no kind" if kind is None else f"of kind {kind}"
