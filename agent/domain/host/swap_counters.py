"""What the kernel counts of swapping, as far as it decides whether a run is valid."""

from dataclasses import dataclass

from agent.domain.numbers import is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapCounters:
    """Pages since boot: to and from the swap device, and to and from zswap in front of it."""

    swapped_in: int = 0
    swapped_out: int = 0
    zswapped_in: int = 0
    zswapped_out: int = 0

    def since(self, earlier: "SwapCounters") -> "SwapCounters":
        """Return what was counted between two readings."""
        return SwapCounters(
            swapped_in=self.swapped_in - earlier.swapped_in,
            swapped_out=self.swapped_out - earlier.swapped_out,
            zswapped_in=self.zswapped_in - earlier.zswapped_in,
            zswapped_out=self.zswapped_out - earlier.zswapped_out,
        )

    @property
    def all_in(self) -> int:
        """Return the pages that came back, from wherever they were."""
        return self.swapped_in + self.zswapped_in

    @property
    def all_out(self) -> int:
        """Return the pages that left memory; one that zswap wrote back to the device counts twice."""
        return self.swapped_out + self.zswapped_out


def parse_swap_counters(vmstat: str) -> SwapCounters:
    """Parse /proc/vmstat. Raises ValueError when the kernel does not count swapping at all."""
    values = {}
    for line in vmstat.splitlines():
        name, _, value = line.partition(" ")
        if is_number(value):
            values[name] = int(value)
    if "pswpin" not in values or "pswpout" not in values:
        raise ValueError("/proc/vmstat has no pswpin and pswpout: this kernel was built without swap")
    return SwapCounters(
        swapped_in=values["pswpin"],
        swapped_out=values["pswpout"],
        zswapped_in=values.get("zswpin", 0),
        zswapped_out=values.get("zswpout", 0),
    )
