"""The verbs of `kernroll hosts` that change what holds for a host: its labels, its quarantine, its kernels."""

from pathlib import Path

import click

from controller.cli.hosts.fleet import show_fleet
from controller.cli.session import DURATION, HOST_NAME, Known, Session, calls, examples
from controller.domain.errors import InvalidInput

DENIED_KERNEL = Known(lambda client: (one.kernel for one in client.get_fleet().denials))


@click.command(
    "label",
    short_help="Set labels of a host, or take them back.",
    epilog=examples(
        """
kernroll hosts label x86-a zone=a rack=r12
kernroll hosts label x86-a rack-
"""
    ),
)
@click.argument("name", type=HOST_NAME)
@click.argument("labels", metavar="KEY=VALUE|KEY-…", nargs=-1, required=True)
@calls
def label(session: Session, name: str, labels: tuple[str, ...]) -> None:
    """Set labels of a host by hand with KEY=VALUE; take one that was set by hand back with KEY-.

    What is set by hand stands over what an inventory says, and that over what the host's agent says of itself.
    """
    from controller.cli import output

    wanted, removed = _parsed(labels)
    with session.client() as client:
        found = client.label_host(name, wanted, removed)
    if session.output == "json":
        output.show_json(found)
    else:
        output.show(f"{found.host}: {', '.join(f'{key}={value}' for key, value in found.labels.items()) or 'no label'}")


@click.command(
    "quarantine",
    short_help="Leave a host out of rollouts.",
    epilog=examples("kernroll hosts quarantine x86-a --remark 'correctable memory errors'"),
)
@click.argument("name", type=HOST_NAME)
@click.option("--remark", required=True, help="Why; recorded with who asked.")
@calls
def quarantine(session: Session, name: str, remark: str) -> None:
    """Leave a host out of every rollout until it is released. One that is in flight finishes its journey."""
    with session.client() as client:
        show_fleet(session, client.quarantine_host(name, remark))


@click.command("release", epilog=examples("kernroll hosts release x86-a --remark 'DIMM replaced'"))
@click.argument("name", type=HOST_NAME)
@click.option("--remark", default="", help="Recorded with who asked.")
@calls
def release(session: Session, name: str, remark: str) -> None:
    """End a host's quarantine."""
    with session.client() as client:
        show_fleet(session, client.release_host(name, remark))


@click.command(
    "forget",
    short_help="Free a host's name: for a machine that is gone, or made anew.",
    epilog=examples(
        """
kernroll hosts forget x86-a --remark 'reinstalled, has a new key'
kernroll hosts forget x86-b --remark 'scrapped' --output json | jq .enrolled
"""
    ),
)
@click.argument("name", type=HOST_NAME)
@click.option("--remark", required=True, help="Why; recorded with who asked.")
@calls
def forget(session: Session, name: str, remark: str) -> None:
    """End what a host is known by. Its certificate is welcome no more, and its name may be enrolled with another key.

    A host whose certificate ran out needs none of this: with its old key it enrolls again. Labels that were set by hand
    and a quarantine stay, because they are about the name. While a rollout has the host in flight it is refused.
    """
    with session.client() as client:
        show_fleet(session, client.forget_host(name, remark))


@click.command(
    "deny",
    short_help="Keep a kernel from hosts.",
    epilog=examples(
        """
kernroll hosts deny 7.1.12 --remark 'corrupts XFS'
kernroll hosts deny '7.1.*' --where 'arch == "arm64" && page_size == 65536' --remark 'boot hangs with 64K pages'
kernroll hosts deny 3f9a0c6d21be --remark 'built without the fix'
"""
    ),
)
@click.argument("kernel")
@click.option("--where", default="", metavar="EXPRESSION", help="Only on hosts that match. [default: all hosts]")
@click.option("--remark", required=True, help="Why; recorded with who asked.")
@calls
def deny(session: Session, /, *, kernel: str, where: str, remark: str) -> None:
    """Keep a kernel from hosts: no plan gives it to them.

    KERNEL is a digest, at least 12 digits of one, a version (7.1.12), or a pattern over `uname -r` ('7.1.*').
    """
    with session.client() as client:
        show_fleet(session, client.deny_kernel(kernel, where=where, reason=remark))


@click.command(
    "allow",
    short_help="Let a denied kernel be rolled out again.",
    epilog=examples("kernroll hosts allow 7.1.12 --remark 'fixed in our build'"),
)
@click.argument("kernel", type=DENIED_KERNEL)
@click.option(
    "--where", metavar="EXPRESSION", help="Only the rule with this expression. [default: all of the kernel's]"
)
@click.option("--remark", required=True, help="Why; recorded with who asked.")
@calls
def allow(session: Session, /, *, kernel: str, where: str | None, remark: str) -> None:
    """Take back what denies a kernel, an operator's rule or the memory of a rollout that reverted it."""
    with session.client() as client:
        show_fleet(session, client.allow_kernel(kernel, where=where, remark=remark))


@click.command("denied", epilog=examples("kernroll hosts denied --output json | jq -r '.denials[].kernel'"))
@calls
def denied(session: Session) -> None:
    """List the kernels that are denied, on which hosts, since when and why."""
    from controller.cli import output
    from controller.cli.hosts.fleet_tables import denials_table

    with session.client() as client:
        denials = client.get_fleet().denials
    if session.output == "json":
        output.show_json({"denials": denials})
    else:
        output.show(denials_table(denials) if denials else "No kernel is denied.")


@click.command(
    "import",
    short_help="Take zones, racks and other labels from an Ansible inventory.",
    epilog=examples(
        """
kernroll hosts import inventory.yaml --dry-run
kernroll hosts import inventories/berlin --name berlin
ansible-inventory -i inventory.ini --list > inventory.json && kernroll hosts import inventory.json
"""
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="What the inventory is called. [default: the name of the file]")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--timeout", type=DURATION, default="60s", show_default=True, help="For reading the inventory.")
@calls
def import_inventory(session: Session, /, *, file: Path, name: str | None, dry_run: bool, timeout: float) -> None:
    """Take zones, racks and other labels of hosts from an Ansible inventory; importing again replaces them.

    Labels are the variables zone, rack, cluster and hypervisor (kernroll_zone and so on go first), the entries of
    kernroll_labels, and group/NAME for every group. Hosts that have not enrolled are kept as expected.
    """
    from controller.adapters.imports.ansible_inventory import read_inventory
    from controller.cli import output
    from controller.cli.hosts.fleet_tables import diff_lines
    from controller.domain.fleet.inventory import NO_HOSTS, inventory_labels
    from controller.domain.printable import printable
    from controller.words import names_text

    listing = read_inventory(file, timeout_s=timeout)
    for warning in listing.warnings:
        click.echo(f"ansible-inventory: {warning}", err=True)
    read = inventory_labels(listing.content, str(file))
    for told in (*read.refused.values(), *read.remarks):
        click.echo(told, err=True)
    if not read.hosts:
        raise InvalidInput(f"{file}: {NO_HOSTS}")
    with session.client() as client:
        found = client.import_inventory(name or file.name, read.hosts, read.kept, dry_run=dry_run)
    if session.output == "json":
        output.show_json(found)
    else:
        click.echo("\n".join(diff_lines(found, dry_run=dry_run)))
    if read.refused:
        names = names_text([printable(host, 80) for host in read.refused])
        raise InvalidInput(
            f"{file}: {names} could not be read, as told above: what is known of them stays, the other hosts are taken"
        )


VERBS = (import_inventory, label, quarantine, release, forget, deny, allow, denied)


def _parsed(labels: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    wanted: dict[str, str] = {}
    removed: list[str] = []
    for part in labels:
        key, equals, value = part.partition("=")
        if equals:
            wanted[key] = value
        elif part.endswith("-"):
            removed.append(part[:-1])
        else:
            raise InvalidInput(f"{part!r} is neither KEY=VALUE nor KEY-")
    if both := sorted(set(wanted) & set(removed)):
        raise InvalidInput(f"{both[0]} is set and taken back at the same time")
    return wanted, tuple(removed)
