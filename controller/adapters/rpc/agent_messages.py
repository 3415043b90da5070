"""Between the agents' messages and domain values. What hosts say is cut to its bounds here."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, Final

from controller.adapters.rpc.workload_messages import workload_message
from controller.domain import bounds
from controller.domain.errors import InvalidInput
from controller.domain.hosts.host import Host, HostFacts, SwapDevice, check_host_name
from controller.domain.hosts.loader_document import boot_of
from controller.domain.printable import printable
from controller.domain.record.effects import AgentEffect, CancelCommand, RunWorkload
from controller.domain.record.events import CommandReported, CommandState, RunReported, RunState
from controller.services.agents.boot_requests import BootRequest
from controller.services.agents.sessions import Held, LogReported
from controller.views.models import LiveProgress
from controller.words import names_text
from protos.kernroll.v1 import agent_pb2, common_pb2

PLATFORMS: Mapping[int, str] = {
    common_pb2.PLATFORM_METAL: "metal",
    common_pb2.PLATFORM_VM: "vm",
    common_pb2.PLATFORM_EMULATED: "emulated",
}
_RUN_STATES: Mapping[int, RunState] = {
    common_pb2.RUN_STATUS_OK: RunState.OK,
    common_pb2.RUN_STATUS_FAILED: RunState.FAILED,
    common_pb2.RUN_STATUS_DIED: RunState.DIED,
    common_pb2.RUN_STATUS_CANCELLED: RunState.CANCELLED,
    common_pb2.RUN_STATUS_TIMED_OUT: RunState.TIMED_OUT,
}
_COMMAND_STATES: Mapping[int, CommandState] = {
    agent_pb2.CommandOutcome.STATUS_COMPLETED: CommandState.COMPLETED,
    agent_pb2.CommandOutcome.STATUS_FAILED: CommandState.FAILED,
    agent_pb2.CommandOutcome.STATUS_DIED: CommandState.DIED,
    agent_pb2.CommandOutcome.STATUS_CANCELLED: CommandState.CANCELLED,
    agent_pb2.CommandOutcome.STATUS_TIMED_OUT: CommandState.TIMED_OUT,
    agent_pb2.CommandOutcome.STATUS_UNSUPPORTED: CommandState.UNSUPPORTED,
    agent_pb2.CommandOutcome.STATUS_REFUSED: CommandState.REFUSED,
}
# Facts that are one text or one number: name -> type. The others are put together below.
_PLAIN_FACTS: Final[Mapping[str, type]] = {
    one.name: one.type for one in fields(HostFacts) if one.type in (str, int) and one.name != "platform"
}
# How a fact is cut: by its name, else as any text or number is.
_CUTS: Final[Mapping[str | type, Callable[[Any], Any]]] = {
    str: bounds.name,
    int: bounds.whole,
    "architecture": bounds.word,
    "kernel_version": bounds.sentence,
    "kernel_command_line": partial(printable, most=bounds.COMMAND_LINE_CHARACTERS),
}
# Without them no stratum and no journey can be told.
_NEEDED_FACTS = ("architecture", "boot_id", "kernel_release")


def host_of(name: str, facts: common_pb2.HostFacts, boot_status: str = "") -> Host:
    """Return the host a Hello describes; raises InvalidInput when it leaves out what strata are made of."""
    check_host_name(name)
    for field in _NEEDED_FACTS:
        if not bounds.name(getattr(facts, field)):
            raise InvalidInput(f"{name}: the Hello says nothing in facts.{field}")
    told = {name: getattr(facts, name) for name in _PLAIN_FACTS}
    return Host(
        **{name: _CUTS.get(name, _CUTS[kind])(told[name]) for name, kind in _PLAIN_FACTS.items()},
        name=name,
        platform=PLATFORMS.get(facts.platform, "unknown"),
        swap_devices=tuple(
            SwapDevice(
                path=printable(device.path, bounds.PATH_CHARACTERS),
                size_bytes=bounds.whole(device.size_bytes),
                used_bytes=bounds.whole(device.used_bytes),
                backend=bounds.name(device.backend),
            )
            for device in facts.swap_devices[: bounds.SWAP_DEVICES]
        ),
        labels=bounds.labels(facts.labels),
        boot=boot_of(name, boot_status),
    )


def report_of(
    report: agent_pb2.Report, now: float, *, cut: bool = False
) -> RunReported | CommandReported | LogReported | None:
    """Return what a report says; None for a kind this version does not know, which is acknowledged all the same.

    `cut` says that the message had more parts than are taken: the last of them are not in `report`.
    """
    at = bounds.moment(report.at.seconds + report.at.nanos / 1e9) if report.HasField("at") else None
    report_id = bounds.report_id(report.report_id)
    match report.WhichOneof("body"):
        case "run":
            return _run(report, report_id, now if at is None else at, cut=cut)
        case "outcome":
            return CommandReported(
                at=now,
                report_id=report_id,
                command_id=bounds.report_id(report.command_id),
                state=_COMMAND_STATES.get(report.outcome.status, CommandState.INFRASTRUCTURE),
                detail=bounds.sentence(report.outcome.detail),
            )
        case "kernel_log":
            return _log(report, report_id, cut=cut)
        case _:
            return None


def _log(report: agent_pb2.Report, report_id: str, *, cut: bool) -> LogReported:
    told = report.kernel_log
    # What is left out here is as lost as what the kernel has overwritten.
    left_out = max(0, len(told.records) - bounds.LOG_RECORDS, int(cut))
    return LogReported(
        report_id=report_id,
        boot_id=bounds.name(report.boot_id),
        lines=bounds.lines(record.text for record in told.records[: bounds.LOG_RECORDS]),
        lost=bounds.whole(told.lost_records) + left_out,
        unreadable=bounds.sentence(told.unreadable),
    )


def _run(report: agent_pb2.Report, report_id: str, at: float, *, cut: bool) -> RunReported:
    run = report.run
    state = _RUN_STATES.get(run.status, RunState.INFRASTRUCTURE)
    error = bounds.sentence(run.error)
    values: dict[str, float] = {}
    senseless: set[str] = set()
    for sample in run.samples[: bounds.SAMPLES]:
        metric, value = bounds.name(sample.metric), bounds.number(sample.value)
        if value is None:
            senseless.add(metric)
        else:
            values[metric] = value
    if senseless:
        # Not a number compares as false everywhere, and one without bounds spoils every mean: no verdict may be
        # reached through either.
        state, error = RunState.INFRASTRUCTURE, f"no number was measured for {names_text(sorted(senseless))}"
    if cut or len(run.samples) > bounds.SAMPLES:
        state, error = RunState.INFRASTRUCTURE, "the report has more parts than are taken; the last are left out"
    return RunReported(
        at=at,
        report_id=report_id,
        command_id=bounds.report_id(report.command_id),
        boot_id=bounds.name(report.boot_id),
        workload=bounds.name(run.workload),
        index=run.index,
        warmup=run.warmup,
        state=state,
        error=error,
        values=values,
        units={bounds.name(sample.metric): bounds.name(sample.unit) for sample in run.samples[: bounds.SAMPLES]},
        evidence=bounds.evidence(run.evidence),
        release=bounds.name(run.kernel_release),
        duration_s=bounds.seconds(run.duration_s),
    )


def held_of(heartbeat: agent_pb2.Heartbeat) -> Held:
    """Return what an agent says that it holds: reports not acknowledged, and the one command that it can be at."""
    return Held(
        boot_id=bounds.name(heartbeat.boot_id),
        command_ids=frozenset(bounds.report_id(one) for one in heartbeat.active_command_ids[: bounds.COMMANDS]),
        spooled_reports=heartbeat.spooled_reports,
    )


def progress_of(progress: agent_pb2.Progress) -> LiveProgress:
    """Return what an agent says of the work it is at; a fraction that is none is -1, as the contract has it."""
    fraction = progress.fraction if 0 <= progress.fraction <= 1 else -1.0
    return LiveProgress(bounds.name(progress.step), fraction)


def boot_request_message(request: BootRequest, epoch: int) -> agent_pb2.ControllerMessage:
    """Return what asks a host's kernroll-boot."""
    return agent_pb2.ControllerMessage(
        boot_request=agent_pb2.BootRequest(
            request_id=request.request_id, epoch=epoch, timeout_s=request.timeout_s, arguments=request.arguments
        )
    )


def command_message(effect: AgentEffect, epoch: int) -> agent_pb2.ControllerMessage:
    """Return the command an effect asks for."""
    command = agent_pb2.Command(command_id=effect.command_id, epoch=epoch)
    match effect:
        case RunWorkload():
            command.timeout_s = effect.timeout_s
            command.run_workload.CopyFrom(workload_message(effect.task))
        case CancelCommand():
            command.timeout_s = 60.0
            command.cancel.command_id = effect.target_command_id
    return agent_pb2.ControllerMessage(command=command)
