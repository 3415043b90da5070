"""Whole numbers in texts from outside: Python takes the digits of other scripts, and not thousands of digits."""

# More than any counter of 64 bits has.
_MOST_DIGITS = 20
# What a message and a database of 64 bits hold.
_HIGHEST = (1 << 63) - 1


def is_number(text: str) -> bool:
    """Return whether the text is a whole number of ASCII digits that `int` takes."""
    return len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit()


def kibibytes(text: str) -> int | None:
    """Return the bytes of a whole number of KiB, at most what 63 bits hold; None for what is no number."""
    return min(int(text) * 1024, _HIGHEST) if is_number(text) else None
