"""Every byte of every page is known, so that one wrong byte is found and named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.work.page_patterns import PagePatterns

PAGE = 4096
PATTERNS = PagePatterns(seed=7, page_bytes=PAGE)


def compare(found: bytes, number: int, generation: int, *, or_zero: bool = False):  # type: ignore[no-untyped-def]  # the test's own shorthand
    return PATTERNS.compare(found, number=number, generation=generation, scenario="test", or_zero=or_zero)


@given(number=st.integers(0, 1 << 30), generation=st.integers(0, 1 << 15))
def test_a_page_is_a_page_and_right(number: int, generation: int) -> None:
    page = PATTERNS.page(number, generation)
    assert len(page) == PAGE
    assert compare(page, number, generation) is None


@given(
    number=st.integers(0, 1 << 30),
    generation=st.integers(0, 1 << 15),
    at=st.integers(0, PAGE - 1),
    flip=st.integers(1, 255),
)
def test_any_wrong_byte_is_found_at_its_offset(number: int, generation: int, at: int, flip: int) -> None:
    page = bytearray(PATTERNS.page(number, generation))
    page[at] ^= flip
    wrong = compare(bytes(page), number, generation)
    assert wrong is not None
    assert (wrong.page, wrong.generation, wrong.offset, wrong.wrong_bytes) == (number, generation, at, 1)
    assert wrong.found[:2] == f"{page[at]:02x}"
    assert wrong.expected != wrong.found


def test_pages_differ_unless_they_are_zero() -> None:
    contents = [PATTERNS.page(number, generation) for number in range(512) for generation in range(4)]
    kept = [content for content in contents if any(content)]
    assert len(set(kept)) == len(kept)
    assert len(contents) - len(kept) == len(contents) / 16


def test_the_four_kinds_are_there_in_their_shares() -> None:
    pages = [PATTERNS.page(number, 1) for number in range(1600)]
    same_filled = [page for page in pages if any(page) and page == page[:8] * (PAGE // 8)]
    assert len(same_filled) == 300
    strands = [page for page in pages if page not in same_filled and page[64:128] == page[128:192] != bytes(64)]
    assert len(strands) == 800


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (PATTERNS.page(6, 3), "page 6 of generation 3"),
        (PATTERNS.page(1, 1), "page 1 of generation 1"),
        (bytes(PAGE), "all zero"),
        (b"\x5a" * PAGE, "the word 5a5a5a5a5a5a5a5a again and again"),
        (b"text" * 512 + b"more" * 512, "nothing that was written here"),
        (PagePatterns(seed=8, page_bytes=PAGE).page(6, 1), "page 6 of generation 1 of another run (seed 8)"),
        (PATTERNS.page(6, 3)[:-1] + b"\xff", "page 6 of generation 3, damaged"),
    ],
)
def test_a_wrong_page_says_whose_it_looks_like(found: bytes, words: str) -> None:
    wrong = compare(found, 5, 1)
    assert wrong is not None
    assert wrong.looks_like == words


def test_a_page_that_the_kernel_may_drop_is_old_or_zero_and_nothing_else() -> None:
    assert compare(bytes(PAGE), 5, 1, or_zero=True) is None
    assert compare(PATTERNS.page(5, 1), 5, 1, or_zero=True) is None
    assert compare(PATTERNS.page(5, 2), 5, 1, or_zero=True) is not None


def test_larger_pages_are_filled_to_their_end() -> None:
    patterns = PagePatterns(seed=7, page_bytes=65536)
    for number in range(32):
        page = patterns.page(number, 0)
        assert len(page) == 65536
        assert not any(page) or any(page[-64:])
