"""A kernel as the rollout knows it: identified by what it is (a digest), never by where it lies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

PACKAGE_ROLE: Final = "package/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One bootable kernel for one architecture, resolved and present in the kernel store."""

    # sha256 over image, modules, initial RAM disk and added command line, in hex: two kernels are the same only when
    # they boot the same.
    digest: str
    # uname -r that a host reports when this kernel runs, for example "7.1.13+deb13-cloud-amd64".
    release: str
    # "x86_64" or "arm64".
    architecture: str
    # Where it came from, for people: "Debian linux-binary-7.1.13+deb13-cloud-amd64 7.1.13-1~bpo13+1".
    source: str
    # Appended to the host's own command line when this kernel boots; part of the digest.
    command_line: str = ""
    # Files by role: "boot" (vmlinux or Image for direct boot); where there are modules, "modules" (an ext4 image with
    # lib/modules/RELEASE); where the disk's driver or its file system is one of them, "initrd".
    # What installs it on a host that starts from its own disk, when there is all of it: "package/NAME".
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def packages(self) -> tuple[str, ...]:
        """The package files that install it; empty when it can be booted directly only."""
        return tuple(file for role, file in sorted(self.files.items()) if role.startswith(PACKAGE_ROLE))

    @property
    def package_kind(self) -> str:
        """Of which kind they are: "deb" or "rpm"; empty where there are none."""
        return self.packages[0].rpartition(".")[2] if self.packages else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianKernel:
    """A kernel that Debian built: resolved from the mirror by version and flavour."""

    # Upstream version, for example "7.1.13"; what Debian adds ("+deb13") may be left out.
    version: str
    # "cloud", "rt", or "generic": the one without a name of its own, whose drivers are modules.
    flavour: str = "cloud"
    # Appended to the host's own command line.
    command_line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageDirectoryKernel:
    """A kernel in a directory of .deb or of .rpm files, as `make bindeb-pkg` and `make binrpm-pkg` leave them."""

    path: str
    command_line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKernel:
    """A kernel image as a build leaves it (bzImage, vmlinux, Image or vmlinuz), with or without its modules."""

    path: str
    # A directory with lib/modules/RELEASE or RELEASE in it; None when the kernel needs no modules.
    modules: str | None = None
    command_line: str = ""


KernelSource = DebianKernel | PackageDirectoryKernel | ImageKernel
