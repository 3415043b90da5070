"""`kernroll controller`: run a controller, and let hosts join it."""

from pathlib import Path
from typing import Any

import click

from controller.cli.session import DURATION, DurationType, Session, calls, default_state_dir, examples
from controller.domain.fleet.limits import LONGEST_TOKEN_S, MOST_TOKEN_USES


@click.group()
def controller() -> None:
    """Run a controller; make join tokens; renew the operator's certificate."""


@controller.command(
    "serve",
    epilog=examples(
        """
kernroll controller serve
kernroll controller serve --inventory /etc/kernroll/inventory.yaml
kernroll controller serve --state-dir /var/lib/kernroll --listen 0.0.0.0:7443 --enroll-listen 0.0.0.0:7444
"""
    ),
)
@click.option("--state-dir", metavar="DIR", type=click.Path(path_type=Path), help="Event log, certificates, tokens.")
@click.option("--listen", metavar="HOST:PORT", help="Where operators and agents call.")
@click.option("--enroll-listen", metavar="HOST:PORT", help="Where hosts enroll with a join token.")
@click.option("--fleet-dir", metavar="DIR", type=click.Path(path_type=Path), help="Virtual machines of the hypervisor.")
@click.option(
    "--inventory",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Ansible's inventory of hosts that start from their own disk.",
)
@click.option(
    "--plays",
    "most_plays",
    type=int,
    metavar="NUMBER",
    help="Playbooks that run at one time; others wait for their turn. [default: 8]",
)
@click.option("--cache-dir", metavar="DIR", type=click.Path(path_type=Path), help="Kernels and packages.")
@click.option("--insecure-plaintext", is_flag=True, help="No TLS; loopback addresses only.")
@click.option("--new-database", is_flag=True, help="Begin with an empty database beside a known authority.")
@click.option("--new-authority", is_flag=True, help="Begin with a new authority beside a database of enrolled hosts.")
@click.option("--heartbeat", "heartbeat_interval_s", type=DURATION, help="How often agents say that they live.")
def serve(state_dir: Path | None, **options: Any) -> None:
    """Run the controller until it is told to stop (Ctrl-C or SIGTERM). It continues where it left off."""
    from controller.main import run_controller
    from controller.settings import Settings

    given = {name: value for name, value in options.items() if value is not None}
    run_controller(Settings(state_dir=state_dir or default_state_dir(), **given))


@controller.command(
    "renew",
    epilog=examples(
        """
kernroll controller renew
kernroll controller renew --client-dir ~/.config/kernroll/client --output json | jq .not_after
"""
    ),
)
@calls
def renew(session: Session) -> None:
    """Renew the operator's certificate that this call is made with, while it is valid. Its key stays.

    The controller does so by itself for the operator of its own state directory. Elsewhere, let cron do it each week.
    """
    from controller.cli import output
    from controller.words import time_text

    with session.client() as client:
        made = client.renew_certificate()
    if session.output == "json":
        output.show_json(made)
    else:
        output.show(f"{made.file} is valid until {time_text(made.not_after)}.")


@controller.group("token")
def token() -> None:
    """Join tokens, with which hosts enroll."""


@token.command(
    "create",
    epilog=examples(
        """
kernroll controller token create --uses 3 --valid 24h
"""
    ),
)
@click.option(
    "--uses", type=click.IntRange(1, MOST_TOKEN_USES), default=1, show_default=True, help="Hosts it may enroll."
)
@click.option(
    "--valid",
    type=DurationType(most_s=LONGEST_TOKEN_S),
    default="1h",
    show_default=True,
    help="How long it may be used, at most 30d.",
)
@calls
def create_token(session: Session, uses: int, valid: float) -> None:
    """Make a join token and print it. It is a secret until it is used up or expires."""
    from controller.cli import output

    with session.client() as client:
        made = client.create_join_token(uses=uses, valid_s=valid)
    if session.output == "json":
        output.show_json(made)
    else:
        print(made.token)
