"""Fills swap with pages that each repeat one non-zero byte, to see what keeping track of them costs the kernel.

Such a page takes a slot and is stored as one word by ZRAM; a page of zeros would only be a bit in the zero map.
"""

import os
from pathlib import Path

from agent.domain.host.process_memory import parse_status
from agent.domain.work.exercises import Advanced, FillOptions, FillUp, Ready, Shrink, Usage
from agent.exercisers.process import Orders, emit, run_exerciser
from agent.exercisers.region import PAGE_BYTES, Region

_BLOCK_BYTES = 4 << 20
# Chunks in a row that hardly went to swap before the kernel is taken to refuse more.
_REFUSALS = 4
# How many chunks pass between two signs of life.
_CHUNKS_PER_SIGN = 8


def main() -> None:
    """Be the program."""
    run_exerciser(FillOptions, fill)


def fill(options: FillOptions, orders: Orders) -> None:
    """Obey orders until told to end; every order is answered by the usage after it."""
    regions: list[Region] = []
    emit(Ready(pid=os.getpid()))
    for order in orders:
        match order:
            case FillUp(swapped_bytes=target_bytes):
                _fill_up(regions, target_bytes, options)
            case Shrink(swapped_bytes=target_bytes):
                _shrink(regions, target_bytes)
            case _:
                pass
        emit(_usage(regions))


def _fill_up(regions: list[Region], target_bytes: int, options: FillOptions) -> None:
    block = bytes([1 + options.seed % 255]) * _BLOCK_BYTES
    refusals = 0
    swapped = _swapped_bytes()
    while swapped < target_bytes:
        # No smaller than a block: the kernel's own count of swapped pages is some hundred pages late.
        missing = max(_BLOCK_BYTES, min(options.chunk_bytes, target_bytes - swapped) // PAGE_BYTES * PAGE_BYTES)
        region = Region(missing)
        regions.append(region)
        for offset in range(0, missing, _BLOCK_BYTES):
            region.write(offset, block[: missing - offset])
        region.page_out()
        before, swapped = swapped, _swapped_bytes()
        refusals = refusals + 1 if swapped - before < missing // 2 else 0
        if refusals:
            # What could not go at the first try.
            for each in regions[-_REFUSALS:]:
                each.page_out()
            swapped = _swapped_bytes()
        if refusals >= _REFUSALS:
            raise OSError(f"the kernel swaps no more out: {swapped >> 20} of {target_bytes >> 20} MiB are in swap")
        if len(regions) % _CHUNKS_PER_SIGN == 0:
            emit(Advanced(step=f"{swapped >> 20} of {target_bytes >> 20} MiB in swap"))


def _shrink(regions: list[Region], target_bytes: int) -> None:
    while regions and (surplus := _swapped_bytes() - target_bytes) > 0:
        last = regions[-1]
        kept = (last.size_bytes - surplus) // PAGE_BYTES * PAGE_BYTES
        if kept > 0:
            last.shorten(kept)
            # What is left over may be resident pages; another round looks again.
            if _swapped_bytes() > target_bytes:
                continue
            return
        regions.pop().close()


def _swapped_bytes() -> int:
    return parse_status(Path("/proc/self/status").read_text()).swapped_bytes


def _usage(regions: list[Region]) -> Usage:
    memory = parse_status(Path("/proc/self/status").read_text())
    return Usage(
        mapped_bytes=sum(region.size_bytes for region in regions),
        resident_bytes=memory.resident_bytes,
        swapped_bytes=memory.swapped_bytes,
        page_table_bytes=memory.page_table_bytes,
    )


if __name__ == "__main__":
    main()
