"""What is written into each page, and what a page that holds something else says about the fault.

A page's content follows from seed, page number and generation. A sixteenth of the pages is zero, three sixteenths
repeat one word, half compresses well and the rest hardly at all, because each of these takes another path through the
zero map, ZRAM, ZSWAP and the device.
"""

import hashlib
import struct

from agent.domain.work.exercises import WrongPage

_MAGIC = b"kernroll"
# Magic, seed, generation, page.
_HEADER = struct.Struct("<8sIIQ")
_WORD = struct.Struct("<Q")
_NOISE_BYTES = 1 << 16
_CLASSES = 16
_ZERO = 0
_LAST_SAME_FILLED = 3
_LAST_COMPRESSIBLE = 11
_EXCERPT_BYTES = 16


class PagePatterns:
    """Makes and recognises the contents of pages."""

    def __init__(self, *, seed: int, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self._seed = seed & 0xFFFF_FFFF
        self._zero = bytes(page_bytes)
        noise = hashlib.shake_256(f"kernroll {seed}".encode()).digest(_NOISE_BYTES)
        self._noise = noise + noise[:page_bytes]

    def page(self, number: int, generation: int) -> bytes:
        """Return what this page holds in this generation."""
        kind = (number + generation) % _CLASSES
        if kind == _ZERO:
            return self._zero
        if kind <= _LAST_SAME_FILLED:
            return self._word(number, generation) * (self.page_bytes // _WORD.size)
        header = _HEADER.pack(_MAGIC, self._seed, generation, number)
        # Odd steps visit every offset of the noise before one comes again.
        start = (number * 4099 + generation * 257) % _NOISE_BYTES
        if kind <= _LAST_COMPRESSIBLE:
            strand = self._noise[start : start + 64]
            return (header + strand * (self.page_bytes // 64))[: self.page_bytes]
        return header + self._noise[start : start + self.page_bytes - _HEADER.size]

    def compare(
        self, found: bytes, *, number: int, generation: int, scenario: str, or_zero: bool = False
    ) -> WrongPage | None:
        """Compare one page; None when it is right. `or_zero`: the kernel was free to drop the page."""
        expected = self.page(number, generation)
        if found == expected or (or_zero and found == self._zero):
            return None
        wrong = [offset for offset, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b]
        first = wrong[0]
        return WrongPage(
            scenario=scenario,
            page=number,
            generation=generation,
            offset=first,
            wrong_bytes=len(wrong),
            expected=expected[first : first + _EXCERPT_BYTES].hex(),
            found=found[first : first + _EXCERPT_BYTES].hex(),
            looks_like=self.looks_like(found),
        )

    def looks_like(self, found: bytes) -> str:
        """Say whose content this is, as far as it can be told."""
        if found == self._zero:
            return "all zero"
        magic, seed, generation, number = _HEADER.unpack_from(found)
        if magic == _MAGIC:
            whose = f"page {number} of generation {generation}"
            if seed != self._seed:
                return f"{whose} of another run (seed {seed})"
            return whose if found == self.page(number, generation) else f"{whose}, damaged"
        word = found[: _WORD.size]
        if word * (self.page_bytes // _WORD.size) == found:
            (value,) = _WORD.unpack(word)
            number, generation = value >> 24, value >> 8 & 0xFFFF
            if self._word(number, generation) == word:
                return f"page {number} of generation {generation}"
            return f"the word {word.hex()} again and again"
        return "nothing that was written here"

    def _word(self, number: int, generation: int) -> bytes:
        return _WORD.pack((number & 0xFF_FFFF_FFFF) << 24 | (generation & 0xFFFF) << 8 | (self._seed & 0xFF) | 1)
