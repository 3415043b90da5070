"""`kernroll hosts`: the enrolled hosts, and what operators decide about them."""

import click

from controller.cli.host_verbs import VERBS
from controller.cli.session import HOST_NAME, Session, calls, examples


@click.group()
def hosts() -> None:
    """List, label and quarantine hosts; deny them kernels."""


@hosts.command(
    "list",
    epilog=examples(
        """
kernroll hosts list
kernroll hosts list --where architecture=arm64,zone=a
kernroll hosts list --output json | jq -r '.hosts[].name'
"""
    ),
)
@click.option("--where", default="", metavar="NAME=VALUE,…", help="Only hosts with these facts or labels.")
@calls
def list_hosts(session: Session, where: str) -> None:
    """List enrolled hosts with kernel, connection and place in a rollout."""
    from controller.cli import output
    from controller.cli.host_tables import hosts_table

    with session.client() as client:
        found = client.list_hosts(where)
    if session.output == "json":
        output.show_json({"hosts": found})
    elif found:
        output.show(hosts_table(found, session.now(), output.console().width))
    else:
        said = "No enrolled host matches." if where else "No host is enrolled; see `kernroll controller token create`."
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
    from controller.cli.host_tables import host_details

    with session.client() as client:
        host = client.get_host(name)
    if session.output == "json":
        output.show_json(host)
    else:
        output.show(host_details(host, session.now()))


for _verb in VERBS:
    hosts.add_command(_verb)
