"""Finds the Debian mirror that this machine's own apt is set up with, and the settings needed to reach it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent

MIRROR_SETTING = "KERNROLL_DEBIAN_MIRROR"
# kernroll's architecture names and Debian's.
DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)

_FORMAT = "$(CREATED_BY)|$(ORIGIN)|$(LABEL)|$(REPO_URI)"
# How to reach mirrors is the machine's business (proxies, retries, date checks); what apt does around it is not ours.
_KEPT = re.compile(
    r"^Acquire::(https?|ftp|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date|Proxy-Auto-Detect)\b", re.IGNORECASE
)


def find_mirror(environment: Mapping[str, str] | None = None) -> str:
    """Return the mirror's address. Raises Permanent when apt knows none and KERNROLL_DEBIAN_MIRROR is not set."""
    values = os.environ if environment is None else environment
    if chosen := values.get(MIRROR_SETTING):
        return chosen.rstrip("/")
    targets = run_tool(
        ["apt-get", "indextargets", "--format", _FORMAT], timeout_s=30, what="Looking for the machine's Debian mirror"
    )
    if mirror := choose_mirror(targets.decode(errors="replace")):
        return mirror
    raise Permanent(
        f"This machine's apt has no Debian mirror. Set {MIRROR_SETTING} to the address of one, up to /debian."
    )


def choose_mirror(targets: str) -> str | None:
    """Return the address of the main Debian archive among `apt-get indextargets` lines, or None."""
    rows = [line.split("|") for line in targets.splitlines() if line.count("|") == 3]
    known = [uri for kind, origin, label, uri in rows if kind == "Packages" and origin == label == "Debian"]
    # Before the first `apt-get update` apt does not know who runs a repository: go by the customary path.
    guessed = [
        uri for kind, origin, _, uri in rows if kind == "Packages" and not origin and re.search(r"/debian/?$", uri)
    ]
    for uri in known + guessed:
        return uri.rstrip("/")
    return None


def transport_settings() -> str:
    """Return the machine's apt settings for reaching mirrors, as lines of an apt.conf."""
    dump = run_tool(["apt-config", "dump"], timeout_s=30, what="Reading the machine's apt settings").decode()
    return "".join(f"{line}\n" for line in dump.splitlines() if _KEPT.match(line))


def find_keyring() -> Path:
    """Return the keyring that Debian's archives are checked with. Raises Permanent when it is not installed."""
    for keyring in KEYRINGS:
        if keyring.is_file():
            return keyring
    raise Permanent("The keys of the Debian archive are missing; install the Debian package debian-archive-keyring.")
