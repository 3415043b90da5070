"""Which hosts of an inventory a command means: those of `--limit`, and those that are named."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from controller.domain.errors import InvalidInput

FORKS_HELP = "Hosts that Ansible serves at one time; each takes a process of about 100 MB."
# More are not named on a command line.
_MOST_NAMED = 50


def tell_end(total: int, left: Sequence[str], *, done: str, again: str) -> None:
    """Say how many hosts are done, and the command that goes on with those that are not."""
    click.echo(f"{total - len(left)} of {total} hosts {done}", err=True)
    if left:
        limit = f" --limit {','.join(left)}" if len(left) <= _MOST_NAMED and len(left) < total else ""
        click.echo(f"To go on with {'those' if limit else 'all'}: {again}{limit}", err=True)


def chosen_hosts(inventory: Path, *, limit: str | None, names: Sequence[str] = (), timeout_s: float) -> list[str]:
    """Return the hosts that are meant, and tell what of the inventory cannot be used.

    Raises InvalidInput when there are none, and for a name that is not among them.
    """
    from controller.adapters.imports.ansible_inventory import read_inventory
    from controller.domain.fleet.inventory import NO_HOSTS, inventory_labels

    listing = read_inventory(inventory, timeout_s=timeout_s)
    read = inventory_labels(listing.content, str(inventory))
    for told in (*listing.warnings, *read.refused.values()):
        click.echo(told, err=True)
    hosts = _limited(sorted(read.hosts), listing.content, limit)
    if not hosts:
        raise InvalidInput(f"{inventory}: {f'--limit {limit} names no host of it' if limit else NO_HOSTS}")
    if unknown := sorted(set(names) - set(hosts)):
        among = "among the hosts of --limit" if limit else "in it: add it there, or correct the name"
        raise InvalidInput(f"{inventory}: {unknown[0]} is not {among}")
    return [host for host in hosts if not names or host in names]


def _limited(hosts: Sequence[str], content: Mapping[str, Any], limit: str | None) -> list[str]:
    """Return the hosts that patterns name, by themselves or by a group that they are in."""
    if not limit:
        return list(hosts)
    patterns = [part for part in limit.split(",") if part]
    groups = [name for name in content if name != "_meta" and any(fnmatchcase(name, one) for one in patterns)]
    members: set[str] = set()
    seen: set[str] = set()
    while groups:
        name = groups.pop()
        group = content.get(name)
        if name not in seen and isinstance(group, Mapping):
            members.update(group.get("hosts", ()))
            groups.extend(group.get("children", ()))
        seen.add(name)
    return [host for host in hosts if host in members or any(fnmatchcase(host, one) for one in patterns)]
