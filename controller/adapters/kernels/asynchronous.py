"""The Kernels port over the kernel store: its calls download and unpack, so they run beside the event loop."""

import asyncio

from controller.adapters.kernels.store import KernelStore
from controller.domain.kernels import Kernel, KernelSource


class StoredKernels:
    """The kernel store for a running controller."""

    def __init__(self, store: KernelStore) -> None:
        self._store = store

    async def resolve(self, source: KernelSource, architecture: str) -> Kernel:
        """See Kernels.resolve."""
        return await asyncio.to_thread(self._store.resolve, source, architecture)

    async def load(self, digest: str) -> Kernel:
        """See Kernels.load."""
        return await asyncio.to_thread(self._store.load, digest)
