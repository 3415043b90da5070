"""Clean-up that must come to its end whatever happens to the task that waits for it."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def run_to_end(work: Awaitable[_T]) -> _T:
    """Await clean-up that must not be abandoned; a cancellation that arrives meanwhile is delivered afterwards."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:
            break
    if cancelled and not task.exception():
        raise asyncio.CancelledError
    return task.result()
