"""What hosts say to the controller, in bytes, messages and whole sessions, and what operators are told of it."""

import asyncio
import contextlib
import itertools
import json
import math
from functools import cache

from drawing import Draw, all_printable, as_text
from engine_parts import Parts, walked
from google.protobuf.message import DecodeError
from promised import Target

from controller.adapters.rpc.agent_messages import host_of, progress_of, report_of
from controller.adapters.rpc.incoming import decoded
from controller.adapters.rpc.messages import from_message, to_message
from controller.domain import bounds
from controller.domain.caller import Caller
from controller.domain.deciding.verbs import Request
from controller.domain.errors import InvalidInput, KernrollError, NotFound
from controller.domain.hosts.host import Host
from controller.domain.record.control import Verb
from controller.domain.record.events import CommandReported, RunReported
from controller.domain.record.journey import Step
from controller.domain.state.environments import recorded
from controller.services.agents.sessions import AgentStream, LogReported
from controller.views.hosts.listing import host_view
from controller.views.json import view_data
from controller.views.models import RolloutView
from controller.views.report.conditions import conditions
from controller.views.report.free import parse_free
from protos.kernroll.v1 import agent_pb2, common_pb2, operator_pb2

_STEPS = (Step.BASELINE, Step.REBOOT, Step.VERIFY, Step.PROBATION, Step.BAKE)
_MOST_ROUNDS = 12
_WORDS = ("swap_mount.cost", "swap_mount", "environment", "free_before")


def _bounded(
    message: agent_pb2.AgentMessage, *, cut: bool
) -> Host | RunReported | CommandReported | LogReported | None:
    """Take a message as the service does, and look at what was made of it."""
    match message.WhichOneof("body"):
        case "hello":
            host = host_of(message.hello.host, message.hello.facts)
            all_printable(*(value for value in _texts(host)))
            json.dumps(view_data(host_view(host)), allow_nan=False)
            return host
        case "report":
            report = report_of(message.report, 1000.0, cut=cut)
            all_printable(*_texts(report))
            if isinstance(report, RunReported):
                assert all(map(math.isfinite, (report.at, report.duration_s, *report.values.values())))
                for name, text in report.evidence.items():
                    all_printable(name)
                    all_printable(text, lines=True)
                assert sum(map(len, report.evidence.values())) <= 2 * bounds.EVIDENCE_CHARACTERS
                recorded(report.evidence)
            return report
        case "progress":
            progress = progress_of(message.progress)
            all_printable(progress.step)
            assert -1 <= progress.fraction <= 1
        case _:
            pass
    return None


def _texts(made: object) -> list[str]:
    """Return the texts of a value, but evidence, which has lines."""
    found: list[str] = []
    for name in getattr(made, "__slots__", ()):
        value = getattr(made, name)
        if name == "evidence" or not isinstance(value, str | tuple | dict):
            continue
        parts = [value] if isinstance(value, str) else value
        found += [one for one in parts if isinstance(one, str)]
        if isinstance(value, dict):
            found += [one for one in value.values() if isinstance(one, str)]
    return found


def _wire(data: bytes) -> None:
    incoming = decoded(data)
    _bounded(incoming.message, cut=incoming.cut)


def _drawn(data: bytes) -> None:
    message = Draw(data).message(agent_pb2.AgentMessage)
    incoming = decoded(message.SerializeToString())
    _bounded(incoming.message, cut=incoming.cut)


def _evidence(data: bytes) -> None:
    """Raw texts of a run, in sections that begin with "@name"."""
    told: dict[str, str] = {}
    for part in as_text(data).split("\n@"):
        name, _, text = part.partition("\n")
        told[name.removeprefix("@")] = text
    kept = bounds.evidence(told)
    all_printable(*conditions(kept))
    all_printable(recorded(kept))
    for text in kept.values():
        free = parse_free(text)
        json.dumps(view_data(free), allow_nan=False)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _session(data: bytes) -> None:
    _loop().run_until_complete(_rehearsed(Draw(data)))


async def _rehearsed(draw: Draw) -> None:
    """Let one host say anything at any step; then everything that operators read can be told, and keeps its form."""
    parts = await walked(draw.of(_STEPS))
    # The host's own; a later one takes its place.
    streams = [parts.stream()]
    for _ in range(_MOST_ROUNDS):
        if not draw.left:
            break
        command_id, boot_id = parts.attempt().command_id or "u1/a/0", parts.attempt().boot_id
        draw.words = [command_id, f"{command_id}!", f"{command_id}#1", boot_id, "a", "x86_64", *_WORDS]
        # What is refused is refused, and the host goes on.
        with contextlib.suppress(KernrollError):
            await _happens(parts, draw, streams)
        await parts.engine.settle()
    # From the log, as after a restart.
    again = await Parts(parts.disk, parts.clock).start()
    await _told(again)
    for one in (parts, again):
        one.sessions._logs._threads.shutdown()


async def _happens(parts: Parts, draw: Draw, streams: list[AgentStream]) -> None:
    match draw.below(8):
        case 0:
            await parts.sessions.disconnected(streams.pop())
            streams.append(parts.stream())
            hello = agent_pb2.Hello(host="a", facts=draw.message(common_pb2.HostFacts))
            host = _bounded(_sent(agent_pb2.AgentMessage(hello=hello)), cut=False)
            assert isinstance(host, Host)
            await parts.sessions.connected(streams[0], host)
        case 1 | 2 | 3 | 4:
            taken = _bounded(_sent(agent_pb2.AgentMessage(report=_report(draw))), cut=False)
            if taken is not None and not isinstance(taken, Host):
                await parts.sessions.reported("a", taken)
        case 5:
            parts.clock.at += draw.of((1.0, 60.0, 3600.0, 1e6))
        case 6:
            receipt = draw.message(agent_pb2.CommandReceipt)
            await parts.sessions.accepted("a", receipt.command_id, receipt.refused)
            await parts.sessions.progressed("a", progress_of(draw.message(agent_pb2.Progress)))
        case _:
            verb, hosts = draw.of(tuple(Verb)), draw.of(((), ("a",)))
            await parts.operations.control("trial", Request(verb=verb, by=Caller("op"), hosts=hosts))


def _sent(message: agent_pb2.AgentMessage) -> agent_pb2.AgentMessage:
    return decoded(message.SerializeToString()).message


def _report(draw: Draw) -> agent_pb2.Report:
    """Return a report of any kind; mostly of the command that the host is at."""
    report = draw.message(agent_pb2.Report)
    if draw.byte() % 4:
        report.command_id = draw.words[0]
        report.report_id = report.report_id or draw.text()
    match draw.below(4):
        case 0:
            report.run.status = draw.below(8)
            report.run.index = draw.below(4)
            report.run.samples.add(metric="swap_mount.cost", value=draw.real(), unit="MiB/TiB")
        case 1:
            report.outcome.status = draw.below(10)
        case 2:
            report.boot_id = draw.words[3]
            report.kernel_log.records.add(level=draw.below(8), text=draw.text())
        case _:
            pass
    return report


async def _told(parts: Parts) -> None:
    operations = parts.operations
    try:
        status = operations.rollout("trial")
    except NotFound:
        return
    for view in (status, operations.explain("trial"), operations.hosts(""), await operations.ledger()):
        json.dumps(view_data(view), allow_nan=False)
    assert from_message(to_message(status, operator_pb2.Rollout), RolloutView).name == "trial"
    report = await operations.report("trial")
    json.loads(report.json)
    for text in (report.text, report.markdown, report.letter):
        all_printable(text, lines=True)


def _hosts(data: bytes) -> None:
    """Many hosts that say anything of themselves are listed."""
    draw = Draw(data)
    found = []
    for number in itertools.count():
        if not draw.left or number == 20:
            break
        facts = draw.message(common_pb2.HostFacts)
        facts.architecture, facts.boot_id, facts.kernel_release = "x86_64", "b", facts.kernel_release or "7"
        found.append(host_view(host_of(f"h{number}", _sent_facts(facts))))
    json.dumps([view_data(view) for view in found], allow_nan=False)
    message = operator_pb2.ListHostsResponse(hosts=[to_message(view, operator_pb2.Host) for view in found])
    message.SerializeToString()


def _sent_facts(facts: common_pb2.HostFacts) -> common_pb2.HostFacts:
    return common_pb2.HostFacts.FromString(facts.SerializeToString())


TARGETS = (
    Target(
        name="agent-bytes",
        run=_wire,
        errors=(DecodeError, InvalidInput),
        stretched_bytes=1 << 18,
        words=("x86_64", "u1/a/0", "\x1b[2J", "\u202e", "swap_mount.cost", "free_before"),
    ),
    Target(name="agent-messages", run=_drawn, errors=(InvalidInput,)),
    Target(name="agent-hosts", run=_hosts, errors=(InvalidInput,)),
    Target(
        name="evidence",
        run=_evidence,
        words=(
            *("@proc_swaps\n", "Filename Type Size Used\n/dev/zram0 partition 1 0", "@zram_comp_algorithm\n", "[lzo]"),
            *("@zswap_parameters\n", "enabled Y\n", "@free_before\n", "total used free\nMem: 1 2 3", "@environment\n{"),
            *("@cgroup_memory_max\n", "²", "@command\n", "@config\n"),
        ),
    ),
    Target(name="agent-session", run=_session, most_bytes=512, stretched_bytes=1024),
)
