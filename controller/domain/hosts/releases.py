"""What a kernel calls itself (`uname -r`), and which of two kernels is the older one.

A release is a plain word: folders and files are named after it. It begins with the upstream version, "7.1.13" or
"7.1.0-rc3"; what a distribution appends differs. Compared are the upstream version, then a fourth number after it, then
the release candidate (any is older than the version itself), then the number that whoever built it counts its builds
with: "-18" of 6.1.0-18-amd64, "-427.13.1" of 5.14.0-427.13.1.el9, "_2" of 6.6.44_2, "-r1" of 6.6.44-gentoo-r1. Numbers
that two count each for themselves say nothing of each other: of 6.12.9-1-pve and 6.12.9-2-own nobody knows.

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
    r"(?P<major>[0-9]{1,9})\.(?P<minor>[0-9]{1,9})(?:\.(?P<patch>[0-9]{1,9})"
    # Stable kernels had a fourth number long ago; Azure Linux and WSL have one.
    r"(?:\.(?P<fourth>[0-9]{1,9}))?)?"
    # As upstream, Debian's packages, Fedora and Ubuntu's builds of the main line write a release candidate.
    r"(?:(?:[-~]|-0\.|-[0-9]{6})rc(?P<candidate>[0-9]{1,9})"
    # Fedora counts on through all candidates, and names the day and the commit between two of them.
    r"(?:(?:\.(?P<day>[0-9]{8})git[0-9a-f]{4,40})?\.(?P<rebuild>[0-9]{1,9})(?=\.))?)?"
    r"(?:-(?P<main_line>0[0-9]{5})(?=-[a-z])|-(?P<build>[0-9]{1,9}(?:\.[0-9]{1,9})*))?(?![0-9])(?P<tail>.*)"
)
# Arch and its like: "-arch1-2", "-zen1-1-zen".
_REBUILD: Final = re.compile(r"-(?P<family>[a-z]+)(?P<series>[0-9]{1,9})-(?P<build>[0-9]{1,9})(?:-(?P=family))?")
# Debian's backports: "6.1.0-0.deb11.21-amd64".
_BACKPORT: Final = re.compile(r"\.deb[0-9]{1,4}\.(?P<build>[0-9]{1,9})-.*")
# Debian counts the builds of all its flavours together.
_DEBIAN: Final = re.compile(
    r"(?P<of>[+]deb[0-9]{1,4})?(-(cloud|rt))?-(amd64|arm64|686|686-pae|armmp|armmp-lpae|16k|arm64-16k)(-unsigned)?"
)
# Counts of those who build upstream's kernels by themselves: a name and a number, or upstream's own day of linux-next
# and number of its real-time patches; Void begins with "_1".
_COUNT: Final = re.compile(
    r"(?:-(?:arch|artix|build|cachyos|ck|hardened|lqx|next-|pf|tkg|xanmod|zen)|[-.]rt|^_)(?P<count>[0-9]{1,9})"
    r"(?![0-9a-z])"
)
# Gentoo's revisions, of which the first has none.
_REVISION: Final = re.compile(r"-r(?P<count>[0-9]{1,9})(?![0-9a-z])")
_ARCHITECTURE: Final = re.compile(r"[.](x86_64|aarch64)\b")
# What differs from build to build beside their number: the commit, or the distribution's minor release.
_COMMIT: Final = re.compile(r"-g[0-9a-f]{7,40}\b|[0-9_]+")
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
    """Return -1 when `one` is older than `other`, 1 when it is newer, 0 when they are builds of one source.

    None when one of them does not begin with a version, or hides its own and what is told of it does not say it either;
    and when they are of one version and nothing in their names orders them.
    """
    found = _compared(one, other)
    if found is not None:
        return found
    shown = upstream_version(one, told_of_one), upstream_version(other, told_of_other)
    # Two kernels of one version are not one kernel.
    return (_compared(*shown) or None) if all(shown) else None


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
    return _order(*versions) if versions[0] != versions[1] else _compared_builds(first, second)


def _compared_builds(first: re.Match[str], second: re.Match[str]) -> int | None:
    """Return the order of two builds of one version; None when nobody counts them together."""
    if _family(first) != _family(second):
        return None
    builds = _build(first), _build(second)
    if builds[0] != builds[1]:
        return _order(*builds) if all(builds) else None
    counts = _counts(first), _counts(second)
    if counts[0] != counts[1]:
        return _order(*counts)
    return 0 if _uncounted(first) == _uncounted(second) else None


def _order(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return -1 if one < other else 1


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
    numbers = (int(release[part] or 0) for part in ("major", "minor", "patch", "fourth"))
    return *numbers, candidate


def _hides(release: re.Match[str]) -> bool:
    """Return whether a distribution counts its builds instead of naming the upstream version."""
    return release["patch"] == "0" and release["build"] is not None and release["candidate"] is None


def _family(release: re.Match[str]) -> str:
    """Return what tells apart those who count builds each for themselves."""
    return "backports" if _BACKPORT.fullmatch(release["tail"]) else _COMMIT.sub("", _uncounted(release))


def _uncounted(release: re.Match[str]) -> str:
    """Return what is appended, without numbers of builds and what one source is built for."""
    tail = release["tail"]
    if debian := _DEBIAN.fullmatch(tail):
        return f"{debian['of'] or ''}-debian"
    return _ARCHITECTURE.sub("", _REVISION.sub("", _COUNT.sub(lambda found: found[0].rstrip("0123456789"), tail)))


def _counts(release: re.Match[str]) -> tuple[int, ...]:
    tail = release["tail"]
    revision = _REVISION.search(tail)
    counted = (int(found["count"]) for found in _COUNT.finditer(tail))
    return *counted, int(revision["count"]) if revision else 0, int(release["day"] or 0)


def _build(release: re.Match[str]) -> tuple[int, ...]:
    if rebuild := _REBUILD.fullmatch(release["tail"]):
        return int(rebuild["series"]), int(rebuild["build"])
    if backport := _BACKPORT.fullmatch(release["tail"]):
        return (int(backport["build"]),)
    return tuple(int(number) for number in (release["build"] or release["rebuild"] or "").split(".") if number)
