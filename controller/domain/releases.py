"""What a kernel calls itself (`uname -r`), and which of two kernels is the older one.

A release is a plain word: folders and files are named after it. It begins with the upstream version, "7.1.13" or
"7.1.0-rc3"; what a distribution appends differs. Compared are the upstream version, then the release candidate (any is
older than the version itself), then the number that the distribution counts its builds with where both have one: "-18"
of 6.1.0-18-amd64, "-427.13.1" of 5.14.0-427.13.1.el9.
"""

import re
from typing import Final

from controller.domain.errors import InvalidInput
from controller.domain.printable import printable

# Linux itself allows 64 characters.
_WORD: Final = re.compile(r"[0-9A-Za-z.+~_-]{1,64}")
_RELEASE: Final = re.compile(
    r"([0-9]{1,9})\.([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:-rc([0-9]{1,9}))?(?:-([0-9]{1,9}(?:\.[0-9]{1,9})*))?(?![0-9])"
)
_NO_CANDIDATE: Final = 1_000_000


def is_release(text: str) -> bool:
    """Tell whether a text can be a kernel's release."""
    return _WORD.fullmatch(text) is not None and text not in (".", "..")


def checked_release(text: str, where: str) -> str:
    """Return a release as it is. Raises InvalidInput that begins with `where` for anything else."""
    if not is_release(text):
        raise InvalidInput(
            f'{where} has "{printable(text, 80)}" for a release, which must be 1 to 64 letters, digits and any of '
            "`. + ~ _ -`: it is no kernel, or was built with a wrong LOCALVERSION"
        )
    return text


def compared(one: str, other: str) -> int | None:
    """Return -1 when `one` is older than `other`, 1 when it is newer, 0 when nothing in them says so.

    None when one of them does not begin with a version.
    """
    first, second = _RELEASE.match(one), _RELEASE.match(other)
    if first is None or second is None:
        return None
    versions = _version(first), _version(second)
    if versions[0] != versions[1]:
        return -1 if versions[0] < versions[1] else 1
    builds = _build(first), _build(second)
    if not all(builds) or builds[0] == builds[1]:
        return 0
    return -1 if builds[0] < builds[1] else 1


def _version(release: re.Match[str]) -> tuple[int, ...]:
    candidate = _NO_CANDIDATE if release[4] is None else int(release[4])
    return int(release[1]), int(release[2]), int(release[3] or 0), candidate


def _build(release: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(number) for number in (release[5] or "").split(".") if number)
