"""What the first bytes of a device say: blank, a swap area of ours, or somebody's data that must not be touched."""

from dataclasses import dataclass
from enum import StrEnum

# mkswap writes the label here; the header begins after 1024 bytes that belong to boot loaders.
OUR_LABEL = "kernroll"
_HEADER_OFFSET = 1024
_LABEL_OFFSET = _HEADER_OFFSET + 12 + 16
_LABEL_SIZE = 16
_MAGIC = b"SWAPSPACE2"
_PAGE_SIZES = (4096, 16384, 65536)
# File systems, volume managers, RAID members and partition tables keep their marks within the first or the last MiB.
EDGE_BYTES = 1 << 20


class Content(StrEnum):
    """Whose device this is."""

    BLANK = "blank"  # all zero where marks are kept
    OURS = "ours"  # a swap area that this agent wrote and did not come to remove
    FOREIGN = "foreign"  # anything else, known or not


def content_of(head: bytes, tail: bytes) -> Content:
    """Judge a device by its first and last MiB."""
    label = head[_LABEL_OFFSET : _LABEL_OFFSET + _LABEL_SIZE].rstrip(b"\0")
    if label == OUR_LABEL.encode() and is_zero(head[:_HEADER_OFFSET]):
        for page_size in _PAGE_SIZES:
            if head[page_size - len(_MAGIC) : page_size] == _MAGIC:
                # Behind our own header lie pages that the kernel swapped out.
                return Content.OURS
    return Content.BLANK if is_zero(head) and is_zero(tail) else Content.FOREIGN


def first_mark(head: bytes) -> int | None:
    """Return the offset of the first byte that is not zero; None when there is none."""
    zeros = len(head) - len(head.lstrip(b"\0"))
    return zeros if zeros < len(head) else None


def is_zero(content: bytes) -> bool:
    """Return whether every byte is zero; fast also where the processor is emulated."""
    return content == bytes(len(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenArea:
    """Damage to a swap area of ours that every kernel must refuse; label and magic stay, so that it stays ours."""

    what: str
    offset: int
    content: bytes


# include/linux/swap.h: version, last_page and nr_badpages follow each other, as the machine's own words.
BROKEN_AREAS = (
    BrokenArea(what="an area of an unknown version", offset=_HEADER_OFFSET, content=b"\7\7\7\7"),
    BrokenArea(what="an area longer than its device", offset=_HEADER_OFFSET + 4, content=b"\xff\xff\xff\xff"),
    BrokenArea(what="an area with too many bad pages", offset=_HEADER_OFFSET + 8, content=b"\0\xff\xff\0"),
)
