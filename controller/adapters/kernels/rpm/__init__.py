"""Kernels in rpm packages, read with rpm's own programs and unpacked without touching any rpm database.

Nothing from a package is ever executed here, and nothing here needs root.
"""

from controller.adapters.kernels.rpm.choosing import RPM_ARCHITECTURES, RpmKernel, kernel_of

__all__ = ["RPM_ARCHITECTURES", "RpmKernel", "kernel_of"]
