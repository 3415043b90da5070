"""The root command: its groups, the options of all commands, and how errors become one line and an exit code."""

import contextlib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from controller.cli.exit_codes import ExitCode, exit_code_of, table_text
from controller.cli.session import Session, now_s
from controller.domain.errors import KernrollError
from controller.domain.printable import printable, printable_lines

# Group -> (module, attribute, what `kernroll --help` says), so that help imports none of them.
GROUPS: dict[str, tuple[str, str, str]] = {
    "rollout": ("controller.cli.rollouts.rollout", "rollout", "Plan, start, watch, end and report rollouts."),
    "hosts": ("controller.cli.hosts.hosts", "hosts", "List, label, quarantine and forget hosts; deny them kernels."),
    "fleet": ("controller.cli.hosts.fleet", "fleet", "Freeze and thaw the whole fleet; what holds for it."),
    "gate": ("controller.cli.gate.gate", "gate", "Judge measurements from anywhere; replay a rollout's judgement."),
    "sim": ("controller.cli.sim.sim", "sim", "Try a rollout on a simulated fleet, with faults."),
    "spec": ("controller.cli.rollouts.spec", "spec", "Check rollout files; print their JSON Schema."),
    "controller": (
        "controller.cli.controller",
        "controller",
        "Run a controller; make join tokens; renew.",
    ),
    "lab": ("controller.cli.lab.lab", "lab", "Run a local fleet of real virtual machines."),
    "completion": ("controller.cli.completion", "completion", "Print shell completion."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the groups in the order in which people need them."""
        return list(GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one group."""
        if cmd_name not in GROUPS:
            return None
        module, attribute, _ = GROUPS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click itself would end it with code 1 when the reader of the output goes away."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            ctx.exit(_reader_gone())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of groups without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, GROUPS[name][2]) for name in self.list_commands(ctx)])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples and the table of exit codes as they are."""
        formatter.write(f"\n{_EXAMPLES}\nExit codes:\n{table_text()}\n")


_EXAMPLES = """Examples:
  kernroll hosts list
  kernroll rollout plan rollout.yaml
  kernroll rollout start rollout.yaml --watch
  kernroll rollout explain swap-table-phase3
"""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--controller",
    metavar="HOST:PORT",
    envvar="KERNROLL_CONTROLLER",
    default="127.0.0.1:7443",
    show_default=True,
    help="The controller to call; KERNROLL_CONTROLLER sets it too.",
)
@click.option(
    "--client-dir",
    metavar="DIR",
    envvar="KERNROLL_CLIENT_DIR",
    type=click.Path(path_type=Path),
    help="Directory with ca.pem, operator.pem and operator-key.pem; KERNROLL_CLIENT_DIR sets it too. "
    "[default: ~/.config/kernroll/client, else the local controller's own]",
)
@click.option("--insecure", is_flag=True, help="Speak plain text; for a loopback address only.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.version_option(package_name="kernroll", prog_name="kernroll")
@click.pass_context
def root(ctx: click.Context, controller: str, client_dir: Path | None, insecure: bool, output: str) -> None:
    """Roll patched Linux kernels out across a fleet, on evidence."""
    ctx.obj = Session(address=controller, client_dir=client_dir, insecure=insecure, output=output, now=now_s)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with a code of the table."""
    # gRPC writes handshake failures to standard error by itself; they are reported in words instead.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for stream in (sys.stdout, sys.stderr):
        # A locale without UTF-8 gets "?" for a sign, and the word beside it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a failure is one message on standard error."""
    if sys.stdout is None:
        # Whatever is opened next would take its place, and be written to.
        click.echo("kernroll: standard output is closed: nothing was done; send it to a file or to /dev/null", err=True)
        return int(ExitCode.FAILURE)
    try:
        code = root.main(args=arguments, prog_name="kernroll", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except click.ClickException as error:
        error.show()
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return int(ExitCode.INTERRUPTED)
    except KernrollError as error:
        # Whoever's words it repeats, a terminal obeys none of them.
        click.echo(printable_lines(f"kernroll: {error}"), err=True)
        return int(exit_code_of(error))
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        return _refused_by_the_system(error)
    except Exception as error:
        if os.environ.get("KERNROLL_DEBUG"):
            traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
        click.echo(f"kernroll: a bug of ours: {said}; KERNROLL_DEBUG=1 shows where", err=True)
        return int(ExitCode.FAILURE)


def _refused_by_the_system(error: OSError) -> int:
    """Say which file the system does not let us use, or that the output takes no more."""
    why = error.strerror or str(error)
    if error.filename is None:
        _drop_output()
        click.echo(f"kernroll: the output cannot be written: {why}; what was asked for may have been done", err=True)
    else:
        click.echo(f"kernroll: {printable(str(error.filename))}: {why}; check who owns it, and its mode", err=True)
    return int(ExitCode.FAILURE)


def _reader_gone() -> int:
    _drop_output()
    return int(ExitCode.READER_GONE)


def _drop_output() -> None:
    """Let what is still buffered go nowhere: it would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
