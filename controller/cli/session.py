"""What a command was called with, and how it reaches its controller."""

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from controller.domain.errors import InvalidInput, KernrollError

if TYPE_CHECKING:
    from controller.adapters.rpc.fleet_client import FleetClient

SPEC_MAX_BYTES = 1 << 20
# Nobody waits longer for the Tab key.
_COMPLETION_TIMEOUT_S = 2.0


def now_s() -> float:
    """Return seconds since the Unix epoch, for the countdowns on the terminal."""
    return time.time()  # noqa: TID251 - the command line is a process of its own, and this its only clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The options that all commands share."""

    # host:port of the controller.
    address: str
    # None: the first of the default places that exists.
    client_dir: Path | None
    insecure: bool
    # "text" or "json".
    output: str
    now: Callable[[], float]

    def client(self, timeout_s: float | None = None) -> "FleetClient":
        """Return a client for all calls; nothing is connected yet. `timeout_s` is that of a short call."""
        from controller.adapters.rpc.fleet_client import FleetClient
        from controller.adapters.rpc.operator_client import CALL_TIMEOUT_S

        client_dir = None if self.insecure else self.client_dir or default_client_dir()
        return FleetClient(self.address, client_dir=client_dir, timeout_s=timeout_s or CALL_TIMEOUT_S)


def default_client_dir() -> Path:
    """Return the operator's own directory, or the local controller's when only that one exists."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kernroll" / "client"
    local = default_state_dir() / "client"
    return local if not config.is_dir() and local.is_dir() else config


def default_state_dir() -> Path:
    """Return where a local controller keeps its state unless told otherwise."""
    given = os.environ.get("KERNROLL_STATE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "kernroll"


def calls(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of the root again, so that they may stand behind it, and pass the session first."""

    @wraps(command)
    def with_session(*arguments: Any, **options: Any) -> Any:
        session: Session = click.get_current_context().obj
        given = {name: value for name in _SHARED if (value := options.pop(name))}
        if "controller" in given:
            given["address"] = given.pop("controller")
        return command(replace(session, **given), *arguments, **options)

    decorated: Callable[..., Any] = with_session
    for option in reversed(_SHARED.values()):
        decorated = option(decorated)
    return decorated


_SHARED: dict[str, Callable[..., Any]] = {
    "controller": click.option("--controller", metavar="HOST:PORT", help="The controller to call."),
    "client_dir": click.option(
        "--client-dir", metavar="DIR", type=click.Path(path_type=Path), help="Directory with certificates."
    ),
    "insecure": click.option("--insecure", is_flag=True, help="Speak plain text; for a loopback address only."),
    "output": click.option("-o", "--output", type=click.Choice(["text", "json"]), help="[default: text]"),
}


def examples(text: str) -> str:
    """Return an epilog that click leaves as it is written."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in text.strip().splitlines())


def read_spec(path: str) -> tuple[str, str]:
    """Return a rollout file's text and its name for messages; "-" is standard input. Raises InvalidInput."""
    from controller.adapters.local.named_files import open_file, read_at_most, shown

    name = "stdin" if path == "-" else shown(path)
    try:
        # A pipe is what a shell's <(…) gives.
        with nullcontext(sys.stdin.buffer) if path == "-" else open_file(path, pipes=True) as file:
            data = read_at_most(file, SPEC_MAX_BYTES, expected=SPEC_MAX_BYTES)
    except OSError as error:
        raise InvalidInput(f"{name}: {(error.strerror or str(error)).lower()}") from error
    if len(data) > SPEC_MAX_BYTES:
        raise InvalidInput(f"{name}: larger than {SPEC_MAX_BYTES} bytes; is this a rollout file?")
    try:
        return data.decode("utf-8"), name
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name}: not UTF-8 text (byte {error.start}); is this a rollout file?") from error


class RolloutFile(click.ParamType[str]):
    """The path of a rollout file, or "-" for standard input; shells complete it as a file."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Leave it to the shell."""
        return [CompletionItem(incomplete, type="file")]


class Known(click.ParamType[str]):
    """A name that the controller knows; shells complete it while a controller answers."""

    name = "name"

    def __init__(self, names: "Callable[[FleetClient], Iterable[str]]") -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Ask the controller, briefly; complete nothing when it does not answer."""
        try:
            root = ctx.find_root().params
            session = Session(
                address=ctx.params.get("controller") or root["controller"],
                client_dir=ctx.params.get("client_dir") or root["client_dir"],
                insecure=ctx.params.get("insecure") or root["insecure"],
                output="text",
                now=now_s,
            )
            with session.client(timeout_s=_COMPLETION_TIMEOUT_S) as client:
                names = sorted(self._names(client))
        except KernrollError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


ROLLOUT_FILE = RolloutFile()
ROLLOUT_NAME = Known(lambda client: (rollout.name for rollout in client.list_rollouts()))
HOST_NAME = Known(lambda client: (host.name for host in client.list_hosts()))


class DurationType(click.ParamType[float]):
    """A duration such as "90s", "10m" or "24h"; the command gets seconds."""

    name = "duration"

    def __init__(self, *, most_s: float | None = None) -> None:
        """Take any duration, or one of more than nothing and at most `most_s`."""
        self._most_s = most_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        from controller.domain.spec.units import duration_s

        try:
            seconds = duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if self._most_s is not None and not 0 < seconds <= self._most_s:
            self.fail(f'must be more than "0s" and at most "{self._most_s / 86_400:.0f}d"', param, ctx)
        return seconds


DURATION = DurationType()
