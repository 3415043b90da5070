"""Lists of names as parts of sentences."""

from collections.abc import Sequence

# A sentence names this many hosts and counts the others.
NAMED_HOSTS = 5


def names_text(names: Sequence[str]) -> str:
    """Return names as part of a sentence: "a, b and c", or the first five and how many others there are."""
    if len(names) > NAMED_HOSTS:
        return f"{', '.join(names[:NAMED_HOSTS])} and {len(names) - NAMED_HOSTS} others"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def are(count: int) -> str:
    """Return the verb that goes with so many."""
    return "is" if count == 1 else "are"
