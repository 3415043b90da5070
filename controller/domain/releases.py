"""Which of two kernels is the older one, by what `uname -r` says.

A release begins with the upstream version, "7.1.13" or "7.1.0-rc3"; what a distribution appends differs. Compared are
the upstream version, then the release candidate (any is older than the version itself), then the number that the
distribution counts its builds with where both have one: "-18" of 6.1.0-18-amd64, "-427.13.1" of 5.14.0-427.13.1.el9.
"""

import re
from typing import Final

_RELEASE: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:-rc(\d+))?(?:-(\d+(?:\.\d+)*))?(?![0-9])")
_NO_CANDIDATE: Final = 1_000_000


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
