"""Debian packages of any suite and architecture, fetched and unpacked without touching the machine's own package state.

Nothing from a package is ever executed here, and nothing here needs root.
"""

from controller.adapters.kernels.debian.archives import Archive, first_member, unpack
from controller.adapters.kernels.debian.mirror import DEBIAN_ARCHITECTURES, find_mirror
from controller.adapters.kernels.debian.root import AptRoot, PackageVersion

__all__ = ["DEBIAN_ARCHITECTURES", "AptRoot", "Archive", "PackageVersion", "find_mirror", "first_member", "unpack"]
