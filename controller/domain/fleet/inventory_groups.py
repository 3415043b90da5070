"""The groups of an Ansible inventory: which hosts are in them, through others too, and the variables they hand down."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from controller.domain.errors import InvalidInput
from controller.domain.printable import printable

# That a host may be in.
MOST_GROUPS: Final = 1000
# Every host is in these, or in nothing else.
_NO_GROUPS: Final = frozenset({"all", "ungrouped"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What a listing says of its groups."""

    # Host -> the groups that name it; group -> the groups that contain it.
    members: dict[str, set[str]] = field(default_factory=dict)
    parents: dict[str, set[str]] = field(default_factory=dict)
    # Group -> its own variables: a listing has them beside its groups when it was printed with --export.
    variables: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    # Computed when it is first asked for.
    _depths: dict[str, int] = field(default_factory=dict)

    def of(self, host: str) -> set[str]:
        """Return the groups that a host is in, without those that every host is in. Raises InvalidInput."""
        return self._closure(host) - _NO_GROUPS

    def handed_down(self, host: str) -> Mapping[str, Any]:
        """Return the variables that a host has of its groups; as with Ansible the one nearest to it goes first."""
        if not self.variables:
            return {}
        groups = (self._closure(host) | {"all"}) & set(self.variables)
        merged: dict[str, Any] = {}
        for group in sorted(groups, key=lambda name: (self._depth(name), self._priority(name), name)):
            merged |= self.variables[group]
        return merged

    def _closure(self, host: str) -> set[str]:
        found: set[str] = set()
        waiting = set(self.members.get(host, ()))
        while waiting:
            found |= waiting
            if len(found) > MOST_GROUPS:
                raise InvalidInput(f"is in more than {MOST_GROUPS} groups, the most that are read")
            waiting = {parent for group in waiting for parent in self.parents.get(group, ())} - found
        return found

    def _depth(self, group: str) -> int:
        """Return how many groups contain a group, one in the other, at most; groups in a circle end somewhere."""
        if not self._depths:
            self._depths.update(_depths(self.parents))
        return self._depths.get(group, 0)

    def _priority(self, group: str) -> int:
        said = self.variables[group].get("ansible_group_priority", 1)
        return said if isinstance(said, int) else 1


def groups_of(listing: Mapping[str, Any], source: str) -> Groups:
    """Return the groups of what `ansible-inventory --list` prints. Raises InvalidInput naming file and group."""
    groups = Groups()
    for group, said in listing.items():
        if group == "_meta":
            continue
        shown = f"{source}: group {printable(group, 253)}"
        # Programs may print a group as the list of its hosts.
        content = {"hosts": said} if isinstance(said, list) else said
        if not isinstance(content, Mapping):
            raise InvalidInput(f"{shown} must be a mapping with hosts and children")
        for word, within in (("children", groups.parents), ("hosts", groups.members)):
            for name in _names(content.get(word), f"{shown}: {word}"):
                within.setdefault(name, set()).add(group)
        own = content.get("vars") or {}
        if not isinstance(own, Mapping):
            raise InvalidInput(f"{shown}: vars must be a mapping of names to values")
        if own:
            groups.variables[group] = own
    return groups


def _names(named: Any, shown: str) -> Iterable[str]:
    named = named or ()
    # A mapping's keys are its names, as in the files that people write.
    is_list = isinstance(named, Sequence | Mapping) and not isinstance(named, str)
    if not is_list or not all(isinstance(name, str) for name in named):
        raise InvalidInput(f"{shown} must be a list of names")
    return tuple(named)


def _depths(parents: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the length of the longest way from the outermost group to each; what is in a circle has none."""
    children: dict[str, list[str]] = {}
    waits = {group: len(above) for group, above in parents.items()}
    for group, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(group)
    depths = dict.fromkeys((parent for parent in children if not waits.get(parent)), 0)
    ready = list(depths)
    while ready:
        parent = ready.pop()
        for child in children.get(parent, ()):
            depths[child] = max(depths.get(child, 0), depths[parent] + 1)
            waits[child] -= 1
            if not waits[child]:
                ready.append(child)
    return depths
