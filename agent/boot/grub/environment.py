"""GRUB's environment block: 1024 bytes that GRUB can change in place. Source: grub.texi, "Environment block"."""

from collections.abc import Mapping
from typing import Final

from agent.boot.values import BootError

SIGNATURE: Final = b"# GRUB Environment Block\n"
BLOCK_BYTES: Final = 1024


def parse_environment(block: bytes, where: str) -> Mapping[str, str]:
    """Return the variables. Raises BootError for what GRUB itself would not read."""
    if not block.startswith(SIGNATURE):
        raise BootError(f"{where} is no GRUB environment block: create it anew with `grub-editenv {where} create`")
    if len(block) % BLOCK_BYTES:
        raise BootError(
            f"{where} has {len(block)} bytes, and GRUB takes blocks of {BLOCK_BYTES}: "
            f"create it anew with `grub-editenv {where} create`"
        )
    found = {}
    for line in _lines(block[len(SIGNATURE) :].decode(errors="replace")):
        name, is_set, value = line.partition("=")
        if is_set and not line.startswith("#"):
            found[name] = value
    return found


def _lines(text: str) -> list[str]:
    """Split at line breaks that no backslash stands before, and take one backslash from each pair."""
    lines, line, escaped = [], [], False
    for sign in text:
        if escaped or sign not in "\\\n":
            line.append(sign)
            escaped = False
        elif sign == "\\":
            escaped = True
        else:
            lines.append("".join(line))
            line = []
    return [*lines, "".join(line)]
