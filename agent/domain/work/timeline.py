"""A time series of one run at about one point a second, as a CSV document of bounded length."""

from agent.domain.work.recording import Reading, counter

# A run of hours keeps every second, then every fourth point, and so on.
MOST_POINTS = 600
HEADER = (
    "elapsed_s,memory_available_bytes,swap_free_bytes,swap_cached_bytes,pswpin_pages,pswpout_pages,"
    "memory_some_us,memory_full_us,io_some_us,zram_memory_bytes,zswap_memory_bytes"
)


class Timeline:
    """Collects points; absent values are empty cells."""

    def __init__(self, begin: Reading) -> None:
        self._begin = begin
        self._lines: list[str] = []
        self._step = 1
        self._seen = 0

    def add(self, reading: Reading) -> None:
        """Take one more point."""
        if self._seen % self._step == 0:
            self._lines.append(self._line(reading))
        self._seen += 1
        if len(self._lines) >= MOST_POINTS:
            self._lines = self._lines[::2]
            self._step *= 2

    def csv(self) -> str:
        """Return the document; empty when there is no point."""
        return "\n".join((HEADER, *self._lines)) + "\n" if self._lines else ""

    def _line(self, reading: Reading) -> str:
        begin = self._begin
        cells: tuple[int | None, ...] = (
            reading.meminfo.get("MemAvailable"),
            reading.meminfo.get("SwapFree"),
            reading.meminfo.get("SwapCached"),
            _since(counter(begin.vmstat, "pswpin"), counter(reading.vmstat, "pswpin")),
            _since(counter(begin.vmstat, "pswpout"), counter(reading.vmstat, "pswpout")),
            _since(_some_us(begin, "memory"), _some_us(reading, "memory")),
            _since(_full_us(begin, "memory"), _full_us(reading, "memory")),
            _since(_some_us(begin, "io"), _some_us(reading, "io")),
            sum(each.get("memory_bytes", 0) for each in reading.zram.values()) if reading.zram else None,
            reading.meminfo.get("Zswap"),
        )
        elapsed_s = reading.at_s - begin.at_s
        return ",".join((f"{elapsed_s:.3f}", *("" if cell is None else str(cell) for cell in cells)))


def _some_us(reading: Reading, resource: str) -> int | None:
    stalled = reading.pressure.get(resource)
    return stalled.some_us if stalled else None


def _full_us(reading: Reading, resource: str) -> int | None:
    stalled = reading.pressure.get(resource)
    return stalled.full_us if stalled else None


def _since(first: int | None, last: int | None) -> int | None:
    return None if first is None or last is None else last - first
