"""What the firmware and the kernel enforce."""

import re
from typing import Final

from agent.boot.host import Host
from agent.boot.values import Entry

_VARIABLES: Final = "/sys/firmware/efi/efivars"
_SECURE_BOOT: Final = f"{_VARIABLES}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Set where somebody told shim at the console to verify nothing.
_SHIM_TRUSTS_ALL: Final = f"{_VARIABLES}/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"
# Before a variable's data stand its attributes; one that outlives a reboot was not set by shim.
_ATTRIBUTE_BYTES, _NON_VOLATILE = 4, 1
_SELECTED: Final = re.compile(r"\[(\w+)\]")
_ASKS_FOR_SIGNATURES: Final = frozenset({"module.sig_enforce", "lockdown=integrity", "lockdown=confidentiality"})
_ON: Final = re.compile(r"module\.sig_enforce=(?:[1yY]|on)")


def is_secure_boot(host: Host) -> bool:
    """Whether nothing starts here that is not signed. Raises BrokenHost when the firmware's word cannot be read."""
    found, trusting = host.data(_SECURE_BOOT), host.data(_SHIM_TRUSTS_ALL)
    if found is None or found[_ATTRIBUTE_BYTES:] != b"\1":
        return False
    return not trusting or bool(trusting[0] & _NON_VOLATILE) or trusting[_ATTRIBUTE_BYTES:] != b"\1"


def signs_modules(host: Host, entry: Entry | None) -> bool:
    """Whether the running kernel, or the one that an entry boots, takes signed modules only."""
    if (host.text("/sys/module/module/parameters/sig_enforce") or "").strip() == "Y":
        return True
    chosen = _SELECTED.search(host.text("/sys/kernel/security/lockdown") or "")
    if chosen and chosen[1] != "none":
        return True
    arguments = entry.arguments if entry else ()
    asked = any(one in _ASKS_FOR_SIGNATURES or _ON.fullmatch(one) for one in arguments)
    # Kernels of distributions lock themselves down where the firmware verified them.
    return asked or is_secure_boot(host)
