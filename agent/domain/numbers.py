"""Whole numbers in texts from outside: Python takes the digits of other scripts, and not thousands of digits."""

# More than any counter of 64 bits has.
_MOST_DIGITS = 20


def is_number(text: str) -> bool:
    """Return whether the text is a whole number of ASCII digits that `int` takes."""
    return len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit()
