"""`kernroll lab demo`: the whole story on a local fleet, in one command."""

import fcntl
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click

from controller.adapters.local.cache import Cache
from controller.cli import output
from controller.cli.exit_codes import ExitCode
from controller.cli.lab.fleet import architectures, natural_channel, plan_fleet, start_fleet, wait_for_agents
from controller.cli.preparation import shown_progress
from controller.cli.rollouts.watch import follow
from controller.cli.session import Session, now_s
from controller.domain.errors import Conflict, Permanent
from controller.domain.kernels import DebianKernel
from controller.lab.demo import BAD, GOOD, ControllerProcess, Specs, Versions, first_part, parse_versions
from controller.lab.fleet import Connection, guest_directories, prepare, switch_off
from controller.lab.guests import GuestPlan
from controller.views.models import RolloutView
from controller.words import duration_text

_TOKEN_VALID_S = 1800.0
# A machine that shows nothing new for so long will not join.
_JOIN_QUIET_S = 300.0
_ROLLOUT_TIMEOUT_S = 1800.0
_REPORTS = "reports"
# Everything that a demonstration leaves in its directory.
_OWN_FILES = frozenset(
    {"controller", "fleet", _REPORTS, "controller.log", "controller.pid", f"{GOOD}.yaml", f"{BAD}.yaml"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What was asked of the demonstration."""

    kernels: str
    x86_64: int
    arm64: int
    repetitions: int
    keep: bool


class _Story:
    """Numbers the chapters and times them."""

    def __init__(self, chapters: int) -> None:
        self._chapters = chapters
        self._began = self._chapter_began = time.monotonic()
        self._times: list[tuple[str, float]] = []
        self._title = ""

    def chapter(self, title: str, text: str) -> None:
        """Begin a chapter."""
        self._close()
        self._title = title
        output.show("", f"[{len(self._times) + 1}/{self._chapters}] {text}")

    def end(self) -> str:
        """Return how long everything took."""
        self._close()
        parts = ", ".join(f"{title} {duration_text(took)}" for title, took in self._times)
        return f"Took {duration_text(time.monotonic() - self._began)}: {parts}."

    def _close(self) -> None:
        now = time.monotonic()
        if self._title:
            self._times.append((self._title, now - self._chapter_began))
        self._chapter_began, self._title = now, ""


def run(directory: Path, options: DemoOptions) -> int:
    """Tell the story; return 0 when both rollouts ended as they should. Raises Conflict when `directory` is in use."""
    versions = parse_versions(options.kernels)
    plan = plan_fleet(options.x86_64, options.arm64, None)
    with _alone(directory), _ended_in_order():
        return _tell(directory, options, versions, plan)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep a second demonstration out of the directory, which it would empty under the first one."""
    # Beside the directory, because the directory is removed at the beginning.
    lock = directory.with_name(f"{directory.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise Permanent(f"--dir {directory} cannot be used: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"a demonstration runs in {directory} already: let it end, or give --dir another") from error
        yield


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Take SIGTERM and a closed terminal as Ctrl-C, so that neither leaves machines behind."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(directory: Path, options: DemoOptions, versions: Versions, plan: GuestPlan) -> int:
    story = _Story(5)
    story.chapter("preparing", f"Fetching kernels {versions.old} and {versions.new}, QEMU and the guests' userland")
    output.show(plan.message)
    names = architectures(plan)
    controller = ControllerProcess(directory)
    _clear(directory, controller)
    cache = Cache.from_environment()
    new = DebianKernel(version=versions.new)
    with shown_progress() as progress:
        prepared = prepare(
            cache, names, lambda _: DebianKernel(version=versions.old), progress, tuple((new, name) for name in names)
        )
    ram_disk = natural_channel(prepared) == "network"
    try:
        story.chapter(
            "joining", "Starting a controller and the machines; each runs a real agent, joined over mutual TLS"
        )
        controller.start()
        session = Session(
            address=controller.address, client_dir=controller.client_dir, insecure=False, output="text", now=now_s
        )
        with session.client() as client:
            token = client.create_join_token(uses=len(plan.guests), valid_s=_TOKEN_VALID_S).token
            connection = Connection(
                agent_port=controller.port,
                enroll_port=controller.enroll_port,
                join_token=token,
                channel=natural_channel(prepared),
            )
            start_fleet(cache, controller.fleet_dir, plan, prepared, connection)
            wait_for_agents(client, guest_directories(controller.fleet_dir), _JOIN_QUIET_S, output.show)
        specs = Specs(versions=versions, architectures=names, repetitions=options.repetitions, ram_disk=ram_disk)
        went_right = _roll_both(story, session, directory, specs)
        output.show("", output.prose(story.end()))
    finally:
        if not options.keep:
            _take_down(controller)
        _tell_where(directory, controller, keep=options.keep)
    return int(ExitCode.OK if went_right else ExitCode.UNSUCCESSFUL)


def _roll_both(story: _Story, session: Session, directory: Path, specs: Specs) -> bool:
    """Roll the good and the bad kernel out and print what came of it; return whether both ended as they should."""
    new = specs.versions.new
    story.chapter("the good kernel", f"Rolling {new} out: measure, boot once, measure again, judge, go on")
    first = first_part(_roll(session, directory, GOOD, specs.good(), wanted="promoted"), specs.versions)
    if first.text:
        output.show("", output.prose(first.text))
    told = [GOOD]
    reverted = False
    if first.running:
        story.chapter("the bad kernel", "Rolling a kernel out that panics at boot: every host falls back by itself")
        spec = specs.bad(running=first.running)
        reverted = _roll(session, directory, BAD, spec, wanted="reverted").state == "reverted"
        told.append(BAD)
    story.chapter("the report", "What this machine measured")
    _conclude(session, directory, told, explained=told if first.text else [BAD])
    return first.went_right and reverted


def _clear(directory: Path, controller: ControllerProcess) -> None:
    """Remove what an earlier demonstration left. Raises Conflict when the directory holds anything else."""
    if directory.exists() and not directory.is_dir():
        raise Conflict(f"{directory} is a file: give --dir a new directory")
    if directory.is_dir() and (foreign := sorted({path.name for path in directory.iterdir()} - _OWN_FILES)):
        named = ", ".join(foreign[:3]) + (" and more" if len(foreign) > 3 else "")
        raise Conflict(f"{directory} holds files that are no demonstration's ({named}): give --dir a new directory")
    controller.stop_leftover()
    switch_off(controller.fleet_dir, remove=True)
    shutil.rmtree(directory, ignore_errors=True)


def _take_down(controller: ControllerProcess) -> None:
    """Stop machines and controller; an impatient second Ctrl-C must not leave them running."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    with suppress(OSError):  # whoever reads may be gone; the machines must go all the same
        click.echo("Stopping the machines and the controller", err=True)
    try:
        switch_off(controller.fleet_dir, remove=True)
        controller.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _roll(session: Session, directory: Path, name: str, spec: str, *, wanted: str) -> RolloutView:
    """Write the spec, start the rollout and follow it to its end; return how it stands then."""
    file = directory / f"{name}.yaml"
    file.write_text(spec, encoding="utf-8")
    output.show(f"$ kernroll rollout start {file.name} --watch")
    with session.client() as client:
        client.start_rollout(spec, str(file))
    follow(session, name, settled_is_enough=True, timeout_s=_ROLLOUT_TIMEOUT_S, wanted=wanted)
    with session.client() as client:
        return client.get_rollout(name)


def _conclude(session: Session, directory: Path, names: Sequence[str], *, explained: Sequence[str]) -> None:
    """Print the report of the good rollout and what is to be explained; write all reports to files."""
    reports = directory / _REPORTS
    reports.mkdir(exist_ok=True)
    with session.client() as client:
        for name in names:
            made = client.report_rollout(name)
            for ending, text in (("txt", made.text), ("md", made.markdown), ("json", made.json)):
                (reports / f"{name}.{ending}").write_text(text, encoding="utf-8")
        output.show(client.report_rollout(GOOD).text)
        sentences = {name: client.explain_rollout(name).sentence for name in explained}
    for name, sentence in sentences.items():
        output.show(f"$ kernroll rollout explain {name}", output.prose(sentence))


def _tell_where(directory: Path, controller: ControllerProcess, *, keep: bool) -> None:
    made = "Reports (text, Markdown, JSON), specs" if (directory / _REPORTS).is_dir() else "Specs"
    lines = [f"{made} and the controller's log: {directory}"]
    if keep:
        lines += [
            "Still running; look around with",
            f"  kernroll --controller {controller.address} --client-dir {controller.client_dir} rollout list",
            "and end it with",
            f"  kernroll lab down --remove --fleet-dir {controller.fleet_dir}; kill $(cat {controller.pid_file})",
        ]
    with suppress(OSError):
        output.show(*lines)
