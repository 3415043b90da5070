"""From what Ansible says of its hosts to labels, and what an import of them changes.

Labels are the variables zone, rack, cluster and hypervisor (kernroll_zone and so on go first), every entry of the
mapping kernroll_labels, and group/NAME for every group that a host is in. kernroll_host names a host as it has enrolled
where the inventory calls it otherwise. A host of which something cannot be read is left out whole, with a
sentence: half of its labels would put it where it is not.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controller.domain.errors import InvalidInput
from controller.domain.fleet.decided import Fleet
from controller.domain.fleet.inventory_groups import Groups, groups_of
from controller.domain.hosts.host import check_host_name
from controller.domain.printable import is_plain, printable
from controller.words import are, names_text

PLACES: Final = ("zone", "rack", "cluster", "hypervisor")
MOST_HOSTS: Final = 100_000
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_./]{0,251}[A-Za-z0-9])?")
_LONGEST_VALUE: Final = 256
# Of one host, and of all.
_MOST_LABELS: Final = 1000
_MOST_LABELS_OF_ALL: Final = 5_000_000
# Variables that become labels, or name the host.
LABEL_VARIABLES: Final = (
    *(f"{prefix}{place}" for place in PLACES for prefix in ("", "kernroll_")),
    "kernroll_labels",
    "kernroll_host",
)
# What Ansible writes in the place of a value that is no template whatever it looks like, and of an encrypted one.
_LITERAL: Final = "__ansible_unsafe"
_ENCRYPTED: Final = "__ansible_vault"
# A comment is one as well: Ansible takes it out.
_TEMPLATE_SIGNS: Final = ("{{", "{%", "{#")

# An inventory that broke looks like one that is empty, and an import takes back what it does not name.
NO_HOSTS: Final = (
    "names no hosts, so that every label of it would be taken back: look at what `ansible-inventory --list` prints of "
    "it. To be rid of its labels, import a file in which its hosts have none"
)

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryLabels:
    """What an inventory says that can be used, and what not."""

    hosts: Mapping[str, Labels]
    # Name in the inventory -> a sentence with file, host, variable and the way out, for each host that is left out.
    refused: Mapping[str, str]
    # What those are called as enrolled, as far as that can be read: what is known of them is to stay.
    kept: tuple[str, ...]
    # Sentences about what gives no label although the hosts are taken.
    remarks: tuple[str, ...]


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
    if len(value) > _LONGEST_VALUE or not is_plain(value):
        raise InvalidInput(f"label {key}: a value is one line of at most {_LONGEST_VALUE} printable characters")


def is_template(value: Any) -> bool:
    """Return whether a variable's value, or one within it, is still to be filled in by Ansible."""
    if isinstance(value, str):
        return any(sign in value for sign in _TEMPLATE_SIGNS)
    if isinstance(value, Mapping):
        return _LITERAL not in value and any(map(is_template, value.values()))
    return isinstance(value, list) and any(map(is_template, value))


def inventory_labels(listing: Mapping[str, Any], source: str) -> InventoryLabels:
    """Return host -> labels from what `ansible-inventory --list` prints, and what cannot be used.

    Raises InvalidInput that names the file, and group or host and variable, when no host can be used.
    """
    meta = listing.get("_meta")
    if not isinstance(meta, Mapping) or not isinstance(meta.get("hostvars", {}), Mapping):
        raise InvalidInput(f"{source}: is not what `ansible-inventory --list` prints: it has no _meta.hostvars")
    variables: Mapping[str, Any] = meta.get("hostvars", {})
    groups = groups_of(listing, source)
    names = sorted(set(groups.members) | set(variables))
    if len(names) > MOST_HOSTS:
        raise InvalidInput(f"{source}: names {len(names)} hosts, at most {MOST_HOSTS} are read")
    found: dict[str, Labels] = {}
    named: dict[str, str] = {}
    refused: dict[str, str] = {}
    kept: set[str] = set()
    numbers: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    count = 0
    for name in names:
        host = name
        try:
            own = _own(name, variables.get(name), groups)
            host = name if own.get("kernroll_host") is None else _text("kernroll_host", own["kernroll_host"])
            if host in named:
                # Which of the two is meant nobody knows.
                found.pop(host, None)
                other = printable(named[host], 253)
                raise InvalidInput(f"{printable(host, 253)} is named twice, by {other} too: correct one kernroll_host")
            named[host] = name
            labels = _checked(host, dict(_labels(own)), groups.of(name))
            count += len(labels)
            if count > _MOST_LABELS_OF_ALL:
                raise InvalidInput(f"with it all hosts together have more than {_MOST_LABELS_OF_ALL} labels")
        except InvalidInput as error:
            refused[name] = f"{source}: host {printable(name, 253)}: {error}"
            kept.add(host)
            continue
        found[host] = labels
        for variable, value in _numbers(own):
            numbers[variable].append((name, value))
    if refused and not found:
        raise InvalidInput(next(iter(refused.values())))
    unlabelled = _unlabelled([name for name in names if name not in refused], groups, source)
    remarks = (*unlabelled, *_told_numbers(numbers, source))
    return InventoryLabels(hosts=found, refused=refused, kept=tuple(sorted(kept)), remarks=remarks)


def _own(name: str, own: Any, groups: Groups) -> Mapping[str, Any]:
    """Return a host's variables, those of its groups under them. Raises InvalidInput."""
    # A host without any variables is null in what some tools print.
    own = {} if own is None else own
    if not isinstance(own, Mapping):
        raise InvalidInput("its variables must be a mapping of names to values")
    return {**groups.handed_down(name), **own}


def _checked(host: str, labels: dict[str, str], groups: set[str]) -> Labels:
    """Return a host's labels, its groups among them. Raises InvalidInput that names what is wrong and the way out."""
    labels |= {_group_label(group): "true" for group in groups if _gives_label(group)}
    for key, value in labels.items():
        check_label(key, value)
    if len(labels) > _MOST_LABELS:
        raise InvalidInput(
            f"has more than {_MOST_LABELS} labels: leave out variables and groups that no rollout asks for"
        )
    try:
        check_host_name(host)
    except InvalidInput as error:
        raise InvalidInput(f"{error}; set its kernroll_host to the name under which it enrols") from error
    return dict(sorted(labels.items()))


def _group_label(group: str) -> str:
    return f"group/{group}"


def _gives_label(group: str) -> bool:
    return _LABEL_KEY.fullmatch(_group_label(group)) is not None


def _unlabelled(names: list[str], groups: Groups, source: str) -> Iterator[str]:
    """Yield a sentence for each group whose name can be in no label."""
    hosts: dict[str, list[str]] = defaultdict(list)
    odd = {group for group in (*groups.parents, *set().union(*groups.members.values())) if not _gives_label(group)}
    for name in names if odd else ():
        for group in groups.of(name) & odd:
            hosts[group].append(name)
    for group, inside in sorted(hosts.items()):
        yield (
            f"{source}: group {printable(group, 253)}: {printable(names_text(inside))} {are(len(inside))} taken "
            "without a label for it: a label's name has only ASCII letters, digits and inner -, _, . or /. Rename the "
            "group, or set a label of another name in its kernroll_labels"
        )


def _numbers(variables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the variables of a host, among those that become labels, whose values are no text."""
    more = variables.get("kernroll_labels")
    labels = {f"kernroll_labels.{key}": value for key, value in more.items()} if isinstance(more, Mapping) else {}
    used = {name for place in PLACES for name in (_variable_of(place, variables), "kernroll_host")}
    for name, value in ({name: variables[name] for name in sorted(used & set(variables))} | labels).items():
        if isinstance(value, bool | int | float):
            yield name, value


def _told_numbers(numbers: Mapping[str, list[tuple[str, Any]]], source: str) -> Iterator[str]:
    """Yield a sentence for each variable that is no text: `1.10` has become 1.1, and `no` false."""
    for variable, found in sorted(numbers.items()):
        kind = "boolean" if all(isinstance(value, bool) for _, value in found) else "number"
        yield (
            f"{source}: {printable(variable, 253)} of {printable(names_text([name for name, _ in found]))} is a {kind} "
            f"to Ansible, taken as {_text(variable, found[0][1])}: quote it to keep it as written"
        )


def changes(fleet: Fleet, inventory: str, hosts: Mapping[str, Labels]) -> tuple[HostChange, ...]:
    """Return what an import would change, by host.

    Raises InvalidInput for a host of another inventory, and for nothing at all in the place of what is known.
    """
    before = {host: one.labels for host, one in fleet.expected.items() if one.inventory == inventory}
    if before and not hosts:
        raise InvalidInput(f"{inventory}: {NO_HOSTS}")
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
        name = _variable_of(place, variables)
        if variables.get(name) is not None:
            yield place, _text(name, variables[name])
    more = variables.get("kernroll_labels", {})
    if more is None:
        return
    if not isinstance(more, Mapping) or _ENCRYPTED in more or _LITERAL in more:
        raise InvalidInput(f"kernroll_labels: must be a mapping of names to values{_hint('kernroll_labels', more)}")
    for key, value in more.items():
        if value is not None:
            yield str(key), _text(f"kernroll_labels.{printable(str(key), 253)}", value)


def _variable_of(place: str, variables: Mapping[str, Any]) -> str:
    return f"kernroll_{place}" if f"kernroll_{place}" in variables else place


def _text(name: str, value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(literal := value.get(_LITERAL), str):
        return literal
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float) and not is_template(value):
        return str(value)
    raise InvalidInput(f"{name}: must be one value, not a {_kind(value)}{_hint(name, value)}")


def _kind(value: Any) -> str:
    if isinstance(value, Mapping) and _ENCRYPTED in value:
        return "value encrypted with Ansible Vault"
    return "template" if isinstance(value, str) else "list or mapping"


def _hint(name: str, value: Any) -> str:
    """Say why a value is none that can be used, and what to write instead."""
    why = ""
    if is_template(value):
        written = printable(str(value), 80)
        why = f" (what Ansible is to fill in, {written!r}, cannot be filled in from this file alone)"
    encrypted = isinstance(value, Mapping) and _ENCRYPTED in value
    plain = f"set kernroll_{name} to plain text beside it" if name in PLACES else "write it in plain text"
    return f"{why}; {plain}" if why or encrypted or name in PLACES else ""
