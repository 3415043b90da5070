"""Between the agents' messages and domain values. Outside data is checked here and nowhere else."""

import math
from collections.abc import Mapping

from controller.adapters.rpc.workload_messages import workload_message
from controller.domain.effects import AgentEffect, CancelCommand, RunWorkload
from controller.domain.errors import InvalidInput
from controller.domain.events import CommandReported, CommandState, RunReported, RunState
from controller.domain.hosts import Host, SwapDevice
from controller.services.enrollment import check_host_name
from controller.services.sessions import LogReported
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
_LONGEST_FACT = 128
_NEEDED_FACTS = ("architecture", "boot_id", "kernel_release")
_MOST_LABELS = 256


def host_of(name: str, facts: common_pb2.HostFacts) -> Host:
    """Return the host a Hello describes; raises InvalidInput when it leaves out what strata are made of."""
    check_host_name(name)
    for field in (*_NEEDED_FACTS, "firmware", "boot_loader", "virtualization"):
        value = getattr(facts, field)
        if not value and field in _NEEDED_FACTS:
            raise InvalidInput(f"{name}: the Hello says nothing in facts.{field}")
        if len(value) > _LONGEST_FACT or not value.isprintable():
            raise InvalidInput(f"{name}: facts.{field} must be one line of at most {_LONGEST_FACT} characters")
    if len(facts.labels) > _MOST_LABELS:
        raise InvalidInput(f"{name}: a host has at most {_MOST_LABELS} labels, this Hello names {len(facts.labels)}")
    return Host(
        name=name,
        architecture=facts.architecture,
        platform=PLATFORMS.get(facts.platform, "unknown"),
        page_size_bytes=facts.page_size_bytes,
        memory_bytes=facts.memory_bytes,
        cpu_count=facts.cpu_count,
        kernel_release=facts.kernel_release,
        kernel_version=facts.kernel_version,
        boot_id=facts.boot_id,
        agent_version=facts.agent_version,
        kernel_command_line=facts.kernel_command_line,
        swap_devices=tuple(
            SwapDevice(
                path=device.path,
                size_bytes=device.size_bytes,
                used_bytes=device.used_bytes,
                backend=device.backend,
            )
            for device in facts.swap_devices
        ),
        labels=dict(facts.labels),
        firmware=facts.firmware,
        boot_loader=facts.boot_loader,
        virtualization=facts.virtualization,
    )


def report_of(report: agent_pb2.Report, now: float) -> RunReported | CommandReported | LogReported | None:
    """Return what a report says; None for a kind this version does not know, which is acknowledged all the same."""
    at = report.at.seconds + report.at.nanos / 1e9 if report.HasField("at") else now
    match report.WhichOneof("body"):
        case "run":
            return _run(report, at)
        case "outcome":
            return CommandReported(
                at=now,
                report_id=report.report_id,
                command_id=report.command_id,
                state=_COMMAND_STATES.get(report.outcome.status, CommandState.INFRASTRUCTURE),
                detail=report.outcome.detail,
            )
        case "kernel_log":
            lines = tuple(record.text for record in report.kernel_log.records)
            return LogReported(report_id=report.report_id, boot_id=report.boot_id, lines=lines)
        case _:
            return None


def _run(report: agent_pb2.Report, at: float) -> RunReported:
    run = report.run
    state = _RUN_STATES.get(run.status, RunState.INFRASTRUCTURE)
    error = run.error
    senseless = sorted({sample.metric for sample in run.samples if not math.isfinite(sample.value)})
    if senseless:
        # Not a number compares as false everywhere: no verdict may be reached through it.
        state, error = RunState.INFRASTRUCTURE, f"no number was measured for {', '.join(senseless)}"
    return RunReported(
        at=at,
        report_id=report.report_id,
        command_id=report.command_id,
        boot_id=report.boot_id,
        workload=run.workload,
        index=run.index,
        warmup=run.warmup,
        state=state,
        error=error,
        values={sample.metric: sample.value for sample in run.samples if math.isfinite(sample.value)},
        units={sample.metric: sample.unit for sample in run.samples},
        evidence=dict(run.evidence),
        release=run.kernel_release,
        duration_s=run.duration_s,
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
