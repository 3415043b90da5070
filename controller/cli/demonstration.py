"""`kernroll lab demo`: the whole story on a local fleet, in one command."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.cache import Cache
from controller.cli import output
from controller.cli.exit_codes import ExitCode
from controller.cli.lab_fleet import architectures, natural_channel, plan_fleet, start_fleet, wait_for_agents
from controller.cli.preparation import shown_progress
from controller.cli.session import Session, now_s
from controller.cli.watch import watch
from controller.domain.kernels import DebianKernel
from controller.lab.demo import BAD, GOOD, ControllerProcess, bad_spec, good_spec, parse_versions
from controller.lab.fleet import Connection, prepare, switch_off
from controller.views.quantities import duration_text

_TOKEN_VALID_S = 1800.0
_JOIN_TIMEOUT_S = 300.0
_ROLLOUT_TIMEOUT_S = 1800.0


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
    """Tell the story; return 0 when both rollouts ended as they should."""
    versions = parse_versions(options.kernels)
    plan = plan_fleet(options.x86_64, options.arm64, None)
    story = _Story(5)
    story.chapter("preparing", f"Fetching kernels {versions.old} and {versions.new}, QEMU and the guests' userland")
    output.show(plan.message)
    names = architectures(plan)
    controller = ControllerProcess(directory)
    controller.stop_leftover()
    switch_off(controller.fleet_dir, remove=True)
    shutil.rmtree(directory, ignore_errors=True)
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
            wait_for_agents(client, [guest.name for guest in plan.guests], _JOIN_TIMEOUT_S, output.show)
        story.chapter("the good kernel", f"Rolling {versions.new} out: measure, boot once, measure again, judge, go on")
        spec = good_spec(versions, names, repetitions=options.repetitions, ram_disk=ram_disk)
        promoted = _roll(session, directory, GOOD, spec, wanted="promoted")
        story.chapter("the bad kernel", "Rolling a kernel out that panics at boot: every host falls back by itself")
        reverted = _roll(session, directory, BAD, bad_spec(versions, names, ram_disk=ram_disk), wanted="reverted")
        story.chapter("the report", "What this machine measured")
        _conclude(session, directory)
        output.show("", story.end())
    finally:
        if not options.keep:
            switch_off(controller.fleet_dir, remove=True)
            controller.stop()
    _tell_where(directory, controller, keep=options.keep)
    return int(ExitCode.OK if promoted and reverted else ExitCode.UNSUCCESSFUL)


def _roll(session: Session, directory: Path, name: str, spec: str, *, wanted: str) -> bool:
    """Write the spec, start the rollout and follow it to its end; return whether it ended as wanted."""
    file = directory / f"{name}.yaml"
    file.write_text(spec, encoding="utf-8")
    output.show(f"$ kernroll rollout start {file.name} --watch")
    with session.client() as client:
        client.start_rollout(spec, str(file))
    code = watch(session, name, settled_is_enough=True, timeout_s=_ROLLOUT_TIMEOUT_S, wanted=wanted)
    return code == ExitCode.OK


def _conclude(session: Session, directory: Path) -> None:
    """Print the report of the good rollout and the explanation of the bad one; write all reports to files."""
    reports = directory / "reports"
    reports.mkdir(exist_ok=True)
    with session.client() as client:
        for name in (GOOD, BAD):
            made = client.report_rollout(name)
            for ending, text in (("txt", made.text), ("md", made.markdown), ("json", made.json)):
                (reports / f"{name}.{ending}").write_text(text, encoding="utf-8")
        output.show(client.report_rollout(GOOD).text)
        explained = client.explain_rollout(BAD)
    output.show(f"$ kernroll rollout explain {BAD}", explained.sentence)


def _tell_where(directory: Path, controller: ControllerProcess, *, keep: bool) -> None:
    output.show(f"Reports (text, Markdown, JSON), specs and the controller's log: {directory}")
    if keep:
        output.show(
            "Still running; look around with",
            f"  kernroll --controller {controller.address} --client-dir {controller.client_dir} rollout list",
            f"and end it with `kernroll lab down --remove --fleet-dir {controller.fleet_dir}`",
        )
