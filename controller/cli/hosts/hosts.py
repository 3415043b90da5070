"""`kernroll hosts`: the enrolled hosts, and what operators decide about them."""

import click

from controller.cli.hosts.enroll import enroll
from controller.cli.hosts.rehearse import rehearse
from controller.cli.hosts.verbs import VERBS
from controller.cli.session import HOST_NAME, Session, calls, examples


@click.group()
def hosts() -> None:
    """Enroll, rehearse, list, label, quarantine and forget hosts; deny them kernels."""


@hosts.command(
    "list",
    epilog=examples(
        """
kernroll hosts list
kernroll hosts list --where 'arch == "arm64" && swap_total >= TiB(1)'
kernroll hosts list --where 'labels.zone == "a" && "zram" in swap_backends'
kernroll hosts list --where 'compare_releases(kernel_release, "6.12.48") < 0'
kernroll hosts list --selector architecture=arm64,zone=a
kernroll hosts list --output json | jq -r '.hosts[].name'
"""
    ),
)
@click.option("--where", default="", metavar="EXPRESSION", help="Only hosts that match; see `kernroll hosts facts`.")
@click.option("-l", "--selector", default="", metavar="NAME=VALUE,…", help="Only hosts with these facts or labels.")
@calls
def list_hosts(session: Session, where: str, selector: str) -> None:
    """List enrolled hosts with kernel, connection and place in a rollout.

    An expression is written in the Common Expression Language (CEL). What a host does not tell it does not match on,
    and a note on standard error says so.
    """
    from controller.cli import output
    from controller.cli.hosts.tables import RIGHT, host_rows

    with session.client() as client:
        answer = client.find_hosts(selector, where)
    for note in (*answer.notes, *(f"attention: {host.attention}" for host in answer.hosts if host.attention)):
        click.echo(note, err=True)
    if session.output == "json":
        output.show_json(answer)
    elif answer.hosts:
        output.show_rows(*host_rows(answer.hosts, session.now(), output.console().width), right=RIGHT)
    else:
        said = (
            "No enrolled host matches."
            if where or selector
            else "No host is enrolled; see `kernroll controller token create`."
        )
        output.show(said)


@hosts.command(
    "show",
    epilog=examples(
        """
kernroll hosts show x86-a
kernroll hosts show x86-a --output json
"""
    ),
)
@click.argument("name", type=HOST_NAME)
@calls
def show_host(session: Session, name: str) -> None:
    """Show everything known of one host."""
    from controller.cli import output
    from controller.cli.hosts.boot_tables import boot_parts
    from controller.cli.hosts.tables import host_details

    with session.client() as client:
        host = client.get_host(name)
    if session.output == "json":
        output.show_json(host)
    else:
        output.show(host_details(host, session.now()), *boot_parts(host))


@hosts.command("facts", epilog=examples("kernroll hosts facts --output json"))
@calls
def facts(session: Session) -> None:
    """List what an expression may ask of a host, and the functions it may use."""
    from controller.cli import output
    from controller.cli.hosts.fact_tables import facts_parts, facts_view

    if session.output == "json":
        output.show_json(facts_view())
    else:
        output.show(*facts_parts())


for _verb in (*VERBS, enroll, rehearse):
    hosts.add_command(_verb)
