"""The command line of `kernroll-agent`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from agent import __version__, exits
from agent.cli import local
from agent.cli.flags import add_flags, order_of, parse_count, parse_seconds
from agent.domain.errors import AgentError, ConfigError, EnrollmentError, InvalidOrder, RigError, Unreachable
from agent.domain.session.commands import RunWorkload
from agent.exits import Exit
from agent.resident.serve import serve
from agent.settings import load
from agent.workloads.registry import KINDS

_DEFAULT_CONFIG = "/etc/kernroll/agent.toml"
_EXAMPLES = """examples:
  kernroll-agent serve --config /etc/kernroll/agent.toml
  kernroll-agent facts --output json
  kernroll-agent run swap_mount --block-device /dev/nvme1n1 --repetitions 3
  kernroll-agent run swap_mount --brd-size 1T
  kernroll-agent sweep

exit codes:
"""

# In the order in which it is set up; the newest goes first.
_SWEPT = (
    "its swap, swap areas, devices (brd, zram, loop) and the modules loaded for them, zswap's settings, its files and "
    "directories, its processes and their cgroup"
)
_TIMEOUT_HELP = "for preparing and all runs together (default: 3600); one run may take twice its share, at least 60"


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    top = argparse.ArgumentParser(
        prog="kernroll-agent",
        description="Measures what a kernel does with swap on this host, on its own or for a kernroll controller.",
        epilog=_EXAMPLES + exits.table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"kernroll-agent {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (
        ("serve", "stay and serve a controller (enrolls first when there is no certificate yet)"),
        ("enroll", "exchange the join token for a client certificate"),
    ):
        verb = _verb(verbs, name, text)
        verb.add_argument("--config", type=Path, default=Path(_DEFAULT_CONFIG), metavar="FILE")
        if name == "enroll":
            verb.add_argument("--request", action="store_true", help="only write client.csr, for renewing")
    facts = _verb(verbs, "facts", "print what this host is, as a controller sees it")
    facts.add_argument("--config", type=Path, metavar="FILE", help="take labels and platform from this configuration")
    _output(facts)
    sweep = _verb(verbs, "sweep", f"take down what a killed agent left behind: {_SWEPT}")
    _state_dir(sweep)
    _output(sweep)
    run = _verb(verbs, "run", "run one workload here and print what it found")
    workloads = run.add_subparsers(dest="workload", required=True, metavar="WORKLOAD")
    for name, kind in KINDS.items():
        says = (kind.order.__doc__ or "").split("\n")[0].rstrip(".")
        workload = _verb(workloads, name, says[0].lower() + says[1:] if says[1:2].islower() else says)
        _runs(workload)
        add_flags(workload, name)
        workload.add_argument("--dry-run", action="store_true", help="print what would be touched, and touch nothing")
        _state_dir(workload)
        _output(workload)
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit with its code."""
    options = parser().parse_args(arguments)
    _log_to_stderr()
    try:
        code = _VERBS[options.verb](options)
    except (AgentError, OSError) as error:
        print(f"kernroll-agent: {error}", file=sys.stderr)
        code = _code_of(error)
    except KeyboardInterrupt:
        code = Exit.CANCELLED
    sys.exit(code)


def _code_of(error: Exception) -> Exit:
    match error:
        case ConfigError() | InvalidOrder():
            return Exit.USAGE
        case EnrollmentError():
            return Exit.ENROLLMENT
        case Unreachable():
            return Exit.UNREACHABLE
        case _:
            return Exit.RIG


def _serve(options: argparse.Namespace) -> Exit:
    asyncio.run(serve(load(options.config), options.config))
    return Exit.OK


def _enroll(options: argparse.Namespace) -> Exit:
    try:
        # Its libraries are large, need not be installed after enrollment, and must not weigh on the resident process.
        from agent.resident.enroll import enroll, make_request  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise RigError(f"enrolling needs the {error.name} package; install kernroll[agent,enroll]") from error
    settings = load(options.config)
    print(make_request(settings) if options.request else asyncio.run(enroll(settings)))
    return Exit.OK


def _facts(options: argparse.Namespace) -> Exit:
    print(local.facts(options.config, output=options.output))
    return Exit.OK


def _sweep(options: argparse.Namespace) -> Exit:
    print(asyncio.run(local.sweep(options.state_dir, output=options.output)))
    return Exit.OK


def _run(options: argparse.Namespace) -> Exit:
    workload = RunWorkload(repetitions=options.repetitions, warmups=options.warmups, order=order_of(options))
    if options.dry_run:
        code, text = local.inspect(workload.order, state_dir=options.state_dir, output=options.output)
        print(text)
        return code
    code, text = asyncio.run(
        local.run(workload, state_dir=options.state_dir, timeout_s=options.timeout, output=options.output)
    )
    print(text)
    return code


_VERBS: dict[str, Callable[[argparse.Namespace], Exit]] = {
    "serve": _serve,
    "enroll": _enroll,
    "facts": _facts,
    "sweep": _sweep,
    "run": _run,
}


def _verb(
    group: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    return group.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog="exit codes:\n" + exits.table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _output(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--output", choices=("text", "json"), default="text", help="how to print (default: text)")


def _state_dir(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--state-dir", type=Path, default=Path("/var/lib/kernroll"), metavar="DIR")


def _runs(workload: argparse.ArgumentParser) -> None:
    group = workload.add_argument_group("how often")
    group.add_argument(
        "--repetitions", "--runs", dest="repetitions", type=parse_count(1), default=1, metavar="N", help="measured runs"
    )
    group.add_argument("--warmups", type=parse_count(0), default=0, metavar="N", help="runs before them, not to judge")
    group.add_argument("--timeout", type=parse_seconds, default=3600.0, metavar="SECONDS", help=_TIMEOUT_HELP)


def _log_to_stderr() -> None:
    """Log one JSON object a line to standard error: journald and consoles keep the time."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=lambda value, **options: json.dumps(value, default=str)),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


if __name__ == "__main__":
    main()
