"""What a kernel calls itself (`uname -r`), and which of two kernels is the older one.

A release is a plain word: folders and files are named after it. It begins with the upstream version, "7.1.13" or
"7.1.0-rc3"; what a distribution appends differs. Compared are the upstream version, then the release candidate (any is
older than the version itself), then the number that the distribution counts its builds with where both have one: "-18"
of 6.1.0-18-amd64, "-427.13.1" of 5.14.0-427.13.1.el9.

Such a count after ".0" hides the upstream version: Debian's 6.1.0-44-amd64 is 6.1.164. Which of it and 6.1.100 is the
older one only the version says that the distribution tells elsewhere, in `uname -v` or in the package's own.
"""

import re
from typing import Final

from controller.domain.errors import InvalidInput
from controller.domain.printable import printable

# Linux itself allows 64 characters.
_WORD: Final = re.compile(r"[0-9A-Za-z.+~_-]{1,64}")
_RELEASE: Final = re.compile(
    r"(?P<major>[0-9]{1,9})\.(?P<minor>[0-9]{1,9})(?:\.(?P<patch>[0-9]{1,9}))?"
    # As upstream, Debian's packages, Fedora and Ubuntu's builds of the main line write a release candidate.
    r"(?:(?:[-~]|-0\.|-[0-9]{6})rc(?P<candidate>[0-9]{1,9}))?"
    r"(?:-(?P<main_line>0[0-9]{5})(?=-[a-z])|-(?P<build>[0-9]{1,9}(?:\.[0-9]{1,9})*))?(?![0-9])(?P<tail>.*)"
)
# Arch and its like: "-arch1-2", "-zen1-1-zen".
_REBUILD: Final = re.compile(r"-(?P<family>[a-z]+)(?P<series>[0-9]{1,9})-(?P<build>[0-9]{1,9})(?:-(?P=family))?")
# Debian's backports: "6.1.0-0.deb11.21-amd64".
_BACKPORT: Final = re.compile(r"\.deb[0-9]{1,4}\.(?P<build>[0-9]{1,9})-.*")
# Debian counts the builds of all its flavours together.
_DEBIAN: Final = re.compile(r"(-(cloud|rt))?-(amd64|arm64|686|686-pae|armmp|armmp-lpae|16k|arm64-16k)(-unsigned)?")
# A version by itself in `uname -v` ("… Debian 6.1.164-1 (2026-02-01)") or in what names a package.
_ALONE: Final = re.compile(r"(?<!\S)([0-9]{1,9}\.[0-9]{1,9})(?:\.[0-9]{1,9})?(?:~rc[0-9]{1,9})?(?=[-+~\s]|$)")
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


def compared(one: str, other: str, told_of_one: str = "", told_of_other: str = "") -> int | None:
    """Return -1 when `one` is older than `other`, 1 when it is newer, 0 when nothing in them says so.

    None when one of them does not begin with a version, or hides its own and what is told of it does not say it either.
    """
    found = _compared(one, other)
    if found is not None:
        return found
    shown = upstream_version(one, told_of_one), upstream_version(other, told_of_other)
    return _compared(*shown) if all(shown) else None


def _compared(one: str, other: str) -> int | None:
    first, second = _RELEASE.fullmatch(one), _RELEASE.fullmatch(other)
    if first is None or second is None:
        return None
    versions = _version(first), _version(second)
    if versions[0][:2] == versions[1][:2] and first["candidate"] is None and second["candidate"] is None:
        hides = _hides(first), _hides(second)
        # What is hidden is no less than what is shown.
        if (hides[0] and versions[1][2]) or (hides[1] and versions[0][2]):
            return None
        if all(hides) and _family(first) != _family(second):
            return None
    if versions[0] != versions[1]:
        return -1 if versions[0] < versions[1] else 1
    builds = _build(first), _build(second)
    if not all(builds) or builds[0] == builds[1]:
        return 0
    return -1 if builds[0] < builds[1] else 1


def upstream_version(release: str, told: str) -> str:
    """Return the upstream version of a kernel, "6.1.164" or "7.1.0-rc3"; empty when its distribution hides it.

    `told` is what else is known of the kernel: `uname -v`, or the name and version of its package.
    """
    match = _RELEASE.fullmatch(release)
    if match is None:
        return ""
    if not _hides(match):
        candidate = "" if match["candidate"] is None else f"-rc{match['candidate']}"
        return f"{match['major']}.{match['minor']}.{match['patch'] or 0}{candidate}"
    line = f"{match['major']}.{match['minor']}"
    return next((found[0].replace("~", "-") for found in _ALONE.finditer(told) if found[1] == line), "")


def _version(release: re.Match[str]) -> tuple[int, ...]:
    candidate = _NO_CANDIDATE if release["candidate"] is None else int(release["candidate"])
    return int(release["major"]), int(release["minor"]), int(release["patch"] or 0), candidate


def _hides(release: re.Match[str]) -> bool:
    """Return whether a distribution counts its builds instead of naming the upstream version."""
    return release["patch"] == "0" and release["build"] is not None and release["candidate"] is None


def _family(release: re.Match[str]) -> str:
    """Return what tells apart those who count builds each for themselves."""
    tail = release["tail"]
    if _BACKPORT.fullmatch(tail):
        return "backports"
    return "debian" if _DEBIAN.fullmatch(tail) else re.sub(r"[.](x86_64|aarch64)\b|[0-9_]+", "", tail)


def _build(release: re.Match[str]) -> tuple[int, ...]:
    if rebuild := _REBUILD.fullmatch(release["tail"]):
        return int(rebuild["series"]), int(rebuild["build"])
    if backport := _BACKPORT.fullmatch(release["tail"]):
        return (int(backport["build"]),)
    return tuple(int(number) for number in (release["build"] or "").split(".") if number)
