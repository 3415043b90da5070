"""Why a kernel would not start, or would not take the modules that this host runs; each with its remedy."""

import re
from collections.abc import Iterator
from typing import Final

from agent.boot.host import Host
from agent.boot.signatures import image, keys, modules, secure
from agent.boot.values import Entry, Refusal

_NO_KERNEL: Final = re.compile(r"/(?:initrd|initramfs)[^/]*$|\.(?:img|dtb|ucode)$")


def refusals(host: Host, release: str, entry: Entry | None) -> Iterator[Refusal]:
    """Yield them for a kernel that is installed; `entry` boots it, None where the loader offers none yet.

    Raises BrokenHost where a tool or the firmware's variables do not work.
    """
    yield from _image(host, release, entry)
    for one in modules.not_built(host, release):
        yield Refusal(
            code="module-not-built",
            cause=f"DKMS has {one} installed for {host.running_release} and not for {release}",
            remedy=f"see why: dkms install {one.replace(' ', '/')} -k {release}",
        )
    outside = modules.from_elsewhere(host)
    missing = [one for one in outside if not modules.exists(host, release, one)]
    for one in missing:
        yield Refusal(
            code="module-missing",
            cause=f"the module {one} is not part of the kernel, runs now, and does not exist for {release}",
            remedy="build it (dkms autoinstall) or install its package for this release",
        )
    if secure.signs_modules(host, entry):
        yield from _signatures(host, release, [one for one in outside if one not in missing])


def _image(host: Host, release: str, entry: Entry | None) -> Iterator[Refusal]:
    if not secure.is_secure_boot(host):
        return
    files = [one for one in (entry.files if entry else ()) if not _NO_KERNEL.search(one)]
    name = files[0] if files else f"/boot/vmlinuz-{release}"
    if not image.is_signed(host, name):
        yield Refusal(
            code="kernel-not-signed",
            cause=f"Secure Boot is on, and {name} carries no signature: it would not be started",
            remedy="take a signed package of this kernel, or sign it (sbsign) with a key that is enrolled",
        )


def _signatures(host: Host, release: str, names: list[str]) -> Iterator[Refusal]:
    counted = keys.signers(host) if names else None
    for one in names:
        signer = modules.signer(host, release, one)
        if not signer:
            yield Refusal(
                code="module-not-signed",
                cause=f"only signed modules are taken, and {one} of {release} is not signed",
                remedy="let DKMS sign it (mokutil --import /var/lib/dkms/mok.pub enrolls its key), and build it again",
            )
        elif counted is None:
            yield Refusal(
                code="signer-unknown",
                cause=f"{one} of {release} is signed by {signer}, and whose signatures count here cannot be told",
                remedy="install mokutil, and see what mokutil --list-enrolled says",
            )
        elif signer not in counted:
            yield Refusal(
                code="signer-not-enrolled",
                cause=f"{one} of {release} is signed by {signer}, whose key is not enrolled: it would not be loaded",
                remedy="enroll that key (mokutil --import FILE, and confirm it at the console), or sign with another",
            )
