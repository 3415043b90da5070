"""How long to wait before trying again."""


def pause_s(attempt: int, *, base_s: float, limit_s: float, jitter: float) -> float:
    """Return the pause after failure number `attempt`, counted from 0.

    It doubles up to the limit and is spread over its upper half by `jitter` in [0, 1).
    """
    ceiling: float = min(limit_s, base_s * 2 ** min(attempt, 30))
    return ceiling * (0.5 + 0.5 * jitter)
