"""The Kernels port over the kernel store: its calls download and unpack, so they run beside the event loop."""

import asyncio
import threading
from collections.abc import Callable

from controller.adapters.kernels.store import KernelStore
from controller.domain.kernels import Kernel, KernelSource


class StoredKernels:
    """The kernel store for a running controller.

    Whatever a call waits for, a mirror or another process that builds the same kernel, it never keeps a controller from
    ending: what the store has begun is swept up by the next one.
    """

    def __init__(self, store: KernelStore) -> None:
        self._store = store

    async def resolve(self, source: KernelSource, architecture: str) -> Kernel:
        """See Kernels.resolve."""
        return await _beside(lambda: self._store.resolve(source, architecture))

    async def load(self, digest: str) -> Kernel:
        """See Kernels.load."""
        return await _beside(lambda: self._store.load(digest))


async def _beside(work: Callable[[], Kernel]) -> Kernel:
    """Return what `work` returns in a thread that ends with the process; the event loop's own threads outlive it."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Kernel] = loop.create_future()

    def told(kernel: Kernel | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if kernel is not None:
            answer.set_result(kernel)
        elif error is not None:
            answer.set_exception(error)

    def run() -> None:
        kernel, failure = None, None
        try:
            kernel = work()
        except BaseException as error:
            failure = error
        try:
            loop.call_soon_threadsafe(told, kernel, failure)
        except RuntimeError:
            # The loop has ended, and with it whoever asked.
            return

    threading.Thread(target=run, name="kernels", daemon=True).start()
    return await answer
