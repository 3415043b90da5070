"""From what Ansible says of its hosts to labels, and what an import of them changes.

Labels are the variables zone, rack, cluster and hypervisor (kernroll_zone and so on go first), every entry of the
mapping kernroll_labels, and group/NAME for every group that a host is in. kernroll_host names a host as it has enrolled
where the inventory calls it otherwise.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controller.domain.errors import InvalidInput
from controller.domain.fleet import Fleet
from controller.domain.printable import printable

PLACES: Final = ("zone", "rack", "cluster", "hypervisor")
MOST_HOSTS: Final = 100_000
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_./]{0,251}[A-Za-z0-9])?")
_LONGEST_VALUE: Final = 256
# Of one host, and of all.
_MOST_LABELS: Final = 1000
_MOST_LABELS_OF_ALL: Final = 5_000_000
# Every host is in these, or in nothing else.
_NO_GROUPS: Final = frozenset({"all", "ungrouped"})

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChange:
    """What an import changes for one host."""

    host: str
    # "added", "changed" or "removed".
    what: str
    # Labels that are set, and those that the inventory does not name any more.
    labels: Labels
    removed: tuple[str, ...]


def check_label(key: str, value: str) -> None:
    """Raise InvalidInput for what cannot be a label."""
    if not _LABEL_KEY.fullmatch(key):
        raise InvalidInput(
            f"label {printable(key, 253)!r}: a name has letters, digits and inner -, _, . or /, 253 at most"
        )
    if len(value) > _LONGEST_VALUE or not value.isprintable():
        raise InvalidInput(f"label {key}: a value is one line of at most {_LONGEST_VALUE} printable characters")


def inventory_labels(listing: Mapping[str, Any], source: str) -> dict[str, Labels]:
    """Return host -> labels from what `ansible-inventory --list` prints.

    Raises InvalidInput that names the file, the host and the variable.
    """
    meta = listing.get("_meta")
    if not isinstance(meta, Mapping) or not isinstance(meta.get("hostvars", {}), Mapping):
        raise InvalidInput(f"{source}: is not what `ansible-inventory --list` prints: it has no _meta.hostvars")
    variables: Mapping[str, Any] = meta.get("hostvars", {})
    members, parents = _groups(listing, source)
    names = sorted(set(members) | set(variables))
    if len(names) > MOST_HOSTS:
        raise InvalidInput(f"{source}: names {len(names)} hosts, at most {MOST_HOSTS} are read")
    found: dict[str, Labels] = {}
    count = 0
    for name in names:
        # A host without any variables is null in what some tools print.
        own = {} if variables.get(name) is None else variables[name]
        try:
            if not isinstance(own, Mapping):
                raise InvalidInput("its variables must be a mapping of names to values")
            host = str(own.get("kernroll_host", name))
            if host in found:
                raise InvalidInput(f"{printable(host, 253)} is named twice")
            labels = dict(_labels(own))
            groups = _closure(members.get(name, ()), parents)
            labels |= {f"group/{group}": "true" for group in sorted(groups) if _LABEL_KEY.fullmatch(group)}
            for key, value in labels.items():
                check_label(key, value)
            count += len(labels)
            if len(labels) > _MOST_LABELS or count > _MOST_LABELS_OF_ALL:
                most = f"{_MOST_LABELS} labels, or all hosts together more than {_MOST_LABELS_OF_ALL}"
                raise InvalidInput(f"has more than {most}: leave out variables and groups that no rollout asks for")
        except InvalidInput as error:
            raise InvalidInput(f"{source}: host {printable(name, 253)}: {error}") from error
        found[host] = dict(sorted(labels.items()))
    return found


def changes(fleet: Fleet, inventory: str, hosts: Mapping[str, Labels]) -> tuple[HostChange, ...]:
    """Return what an import would change, by host. Raises InvalidInput for a host of another inventory."""
    before = {host: one.labels for host, one in fleet.expected.items() if one.inventory == inventory}
    others = {host: one.inventory for host, one in fleet.expected.items() if one.inventory != inventory}
    if shared := sorted(set(others) & set(hosts)):
        raise InvalidInput(
            f"{inventory}: {shared[0]} is in the inventory {others[shared[0]]} already: take it out of one of them, "
            "or import the file under that inventory's name (--name)"
        )
    found = []
    for host in sorted(set(before) | set(hosts)):
        old, new = before.get(host), hosts.get(host)
        if new is None or old is None:
            what = "added" if new is not None else "removed"
            found.append(HostChange(host=host, what=what, labels=new or {}, removed=tuple(sorted(old or {}))))
        elif old != new:
            differing = {key: value for key, value in new.items() if old.get(key) != value}
            removed = tuple(sorted(set(old) - set(new)))
            found.append(HostChange(host=host, what="changed", labels=differing, removed=removed))
    return tuple(found)


def _labels(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for place in PLACES:
        name = f"kernroll_{place}" if f"kernroll_{place}" in variables else place
        if variables.get(name) is not None:
            yield place, _text(name, variables[name])
    more = variables.get("kernroll_labels", {})
    if not isinstance(more, Mapping):
        raise InvalidInput("kernroll_labels: must be a mapping of names to values")
    for key, value in more.items():
        if value is not None:
            yield str(key), _text(f"kernroll_labels.{printable(str(key), 253)}", value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise InvalidInput(f"{name}: must be one value, not a list or mapping")


def _groups(listing: Mapping[str, Any], source: str) -> tuple[Mapping[str, set[str]], Mapping[str, set[str]]]:
    """Return host -> the groups that name it, and group -> the groups that contain it."""
    parents: dict[str, set[str]] = {}
    members: dict[str, set[str]] = {}
    for group, content in listing.items():
        if group == "_meta":
            continue
        shown = f"{source}: group {printable(group, 253)}"
        if not isinstance(content, Mapping):
            raise InvalidInput(f"{shown} must be a mapping with hosts and children")
        for word, within in (("children", parents), ("hosts", members)):
            named = content.get(word) or ()
            # A mapping's keys are its names, as in the files that people write.
            is_list = isinstance(named, Sequence | Mapping) and not isinstance(named, str)
            if not is_list or not all(isinstance(name, str) for name in named):
                raise InvalidInput(f"{shown}: {word} must be a list of names")
            for name in named:
                within.setdefault(name, set()).add(group)
    return members, parents


def _closure(groups: Iterable[str], parents: Mapping[str, set[str]]) -> set[str]:
    """Return groups and those that contain them, without those that every host is in."""
    found: set[str] = set()
    waiting = set(groups)
    while waiting:
        found |= waiting
        if len(found) > _MOST_LABELS:
            raise InvalidInput(f"is in more than {_MOST_LABELS} groups, the most that are read")
        waiting = {parent for group in waiting for parent in parents.get(group, ())} - found
    return found - _NO_GROUPS
