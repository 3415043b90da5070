"""The kernel store: kernels from Debian, from package directories and from builds, ready for direct boot, by digest."""

from controller.adapters.kernels.store import KernelStore

__all__ = ["KernelStore"]
