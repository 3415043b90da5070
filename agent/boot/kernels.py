"""By which name the controller knows an installed kernel: a digest that staging wrote down, else that of its image."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BootError, BootState, BrokenHost

_FILE: Final = "/var/lib/kernroll-boot/kernels.json"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_MOST_NAMES: Final = 50
_BLOCK_BYTES: Final = 1 << 20


def named(host: Host) -> Mapping[str, str]:
    """Return the releases of the kernels that were given a name, by it; the newest last."""
    text = host.text(_FILE)
    if text is None:
        return {}
    try:
        return {str(name): str(release) for name, release in json.loads(text)["kernels"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BrokenHost(f"{_FILE} cannot be read ({error}): remove it and stage the kernels again") from error


def name(host: Host, kernel: str, release: str) -> None:
    """Write down under which digest the controller knows a kernel. Raises BootError for what can be none."""
    if not _NAME.fullmatch(kernel):
        raise BootError(f"{kernel[:80]!r} is no digest")
    known = {one: of for one, of in named(host).items() if one != kernel}
    newest = list({**known, kernel: release}.items())[-_MOST_NAMES:]
    host.write(_FILE, json.dumps({"kernels": dict(newest)}, indent=1) + "\n")


def forget(host: Host, release: str) -> None:
    """Let no name stand for a release any more."""
    host.write(
        _FILE,
        json.dumps({"kernels": {one: of for one, of in named(host).items() if of != release}}, indent=1) + "\n",
    )


def kernel_of(host: Host, release: str) -> str:
    """Return the name of an installed release: the one given last, else its image's digest; empty without an image."""
    given = [one for one, of in named(host).items() if of == release]
    return given[-1] if given else image_digest(host, release)


def image_digest(host: Host, release: str) -> str:
    """Return the sha256 of a release's image in hex; empty when it has none in /boot."""
    digest = hashlib.sha256()
    try:
        with host.path(f"/boot/vmlinuz-{release}").open("rb") as image:
            while block := image.read(_BLOCK_BYTES):
                digest.update(block)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BrokenHost(f"/boot/vmlinuz-{release} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def release_of(host: Host, kernel: str, state: BootState) -> str:
    """Return the release that a name or a release stands for. Raises BootError when there is no such kernel here."""
    releases = sorted({one.release for one in state.entries if one.release})
    found = named(host).get(kernel, "")
    if not found and _DIGEST.fullmatch(kernel):
        found = next((one for one in releases if image_digest(host, one) == kernel), "")
    elif not found and "." in kernel:
        # A release as a person gives it: the loader knows best which it offers.
        return kernel
    if found not in releases or not found:
        raise BootError(f"kernel {kernel[:12]} is not staged on this host: stage it first")
    return found
