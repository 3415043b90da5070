"""Whether the kernels that must stay would stay, whichever package manager the host has."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from agent.boot.host import Host
from agent.boot.packages import apt, dnf
from agent.boot.values import Refusal

_WANTED = "the mark of {} as wanted"
_LIMIT = "installonly_limit of dnf"


def kind(host: Host) -> str:
    """Return of which packages the host is made: "deb", "rpm", empty for others."""
    if apt.is_used(host):
        return "deb"
    return "rpm" if dnf.is_used(host) else ""


def _is_limited(host: Host) -> bool:
    return kind(host) == "rpm" and dnf.is_there(host)


def protect(host: Host, releases: Iterable[str]) -> None:
    """Hold the kernels' packages where that takes no more than a file."""
    if dnf.is_there(host):
        dnf.protect(host, releases)


def refusals(host: Host, releases: Iterable[str]) -> Iterator[Refusal]:
    """Yield which of the kernels a package manager would remove, were it to clean up now."""
    if _is_limited(host) and (limit := dnf.limit(host)) != "0":
        yield Refusal(
            code="kernels-limited",
            cause=f"dnf keeps {limit} kernels and removes the oldest of more, which may be one that must stay",
            remedy=f"set installonly_limit=0 in {dnf.SETTINGS}",
        )
    if not apt.is_there(host) or not (names := apt.owners(host, releases)):
        return
    if gone := apt.superfluous(host, names):
        yield Refusal(
            code="package-superfluous",
            cause=f"apt takes {', '.join(gone)} for superfluous, and would remove a kernel that must stay",
            remedy=f"apt-mark manual {' '.join(gone)}",
        )


def seal(host: Host, releases: Iterable[str]) -> Mapping[str, str]:
    """Return what holds the kernels, by its name; a value that is not the same later means that a hold was changed."""
    found = {}
    if apt.is_there(host) and (names := apt.owners(host, releases)):
        marked = apt.wanted(host, names)
        found = {_WANTED.format(one): "there" for one in names if one in marked}
    if _is_limited(host):
        found[_LIMIT] = dnf.limit(host)
    rules = {one: host.data(one) for one in (apt.RULES, dnf.RULES)}
    return {**found, **{name: hashlib.sha256(text).hexdigest() for name, text in rules.items() if text is not None}}
