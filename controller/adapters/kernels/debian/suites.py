"""Which suites answer which question: guests run one release, the machine's own tools match its own release."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from controller.adapters.kernels.debian.mirror import DEBIAN_ARCHITECTURES
from controller.adapters.kernels.debian.root import AptRoot
from controller.adapters.local.cache import Cache
from controller.domain.errors import Permanent

GUEST_RELEASE = "trixie"
SUITES_SETTING = "KERNROLL_DEBIAN_SUITES"

# Suites to take this machine's own tools from, by its release: those must match its C library.
_HOST_SUITES = {"bookworm": ("bookworm", "bookworm-backports"), "trixie": ("trixie",)}
# What guests' packages depend on and guests never use: maintainer-script helpers and large data.
_ASSUMED = (
    "awk debconf dpkg init-system-helpers libdb5.3t64 libpam-modules libpam-runtime libsemanage-common "
    "media-types netbase openssl-provider-legacy perl-base readline-common tar tzdata"
)


def host_architecture() -> str:
    """Return this machine's architecture. Raises Permanent when it is neither x86_64 nor arm64."""
    machine = platform.machine()
    architecture = "arm64" if machine == "aarch64" else machine
    if architecture not in DEBIAN_ARCHITECTURES:
        raise Permanent(f"This machine is {machine}; kernroll runs on x86_64 and arm64.")
    return architecture


def host_release(os_release: Path = Path("/etc/os-release")) -> str:
    """Return the code name of this machine's Debian release, "" when it has none."""
    try:
        lines = os_release.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return values.get("VERSION_CODENAME", "").strip('"')


def guest_packages(cache: Cache, environment: Mapping[str, str] | None = None) -> AptRoot:
    """Return the apt root for kernels and guest images, for both architectures.

    KERNROLL_DEBIAN_SUITES, separated by spaces, replaces its suites: an unstable suite, say, for newer kernels.
    """
    values = os.environ if environment is None else environment
    chosen = values.get(SUITES_SETTING, "").split()
    return AptRoot(
        cache=cache,
        suites=tuple(chosen) or (GUEST_RELEASE, f"{GUEST_RELEASE}-backports"),
        architectures=("amd64", "arm64"),
        assumed=tuple(_ASSUMED.split()),
    )


def has_host_packages() -> bool:
    """Return whether `host_packages` knows this machine's release."""
    return host_release() in _HOST_SUITES


def host_packages(cache: Cache) -> AptRoot:
    """Return the apt root for tools that run on this machine. Raises Permanent on other releases."""
    release = host_release()
    if release not in _HOST_SUITES:
        raise Permanent(
            f"The lab's tools are made for Debian 12 and 13; this machine's release is {release or 'unknown'}. "
            "Install QEMU 10 or newer yourself and kernroll uses it."
        )
    return AptRoot(
        cache=cache,
        suites=_HOST_SUITES[release],
        architectures=(DEBIAN_ARCHITECTURES[host_architecture()],),
        status=Path("/var/lib/dpkg/status"),
    )
