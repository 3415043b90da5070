"""Between the contract's messages and the agent's own values."""

from dataclasses import fields
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from agent.adapters.wire.order_messages import order_of
from agent.domain import results
from agent.domain.errors import InvalidOrder
from agent.domain.host import facts
from agent.domain.host.machine import backend_of
from agent.domain.session import commands, session
from agent.domain.session.report_size import LEFT_OUT, MOST_SENTENCE_BYTES, cut, short
from protos.kernroll.v1 import agent_pb2, common_pb2

_PLATFORMS = {
    facts.Platform.UNKNOWN: common_pb2.PLATFORM_UNSPECIFIED,
    facts.Platform.METAL: common_pb2.PLATFORM_METAL,
    facts.Platform.VM: common_pb2.PLATFORM_VM,
    facts.Platform.EMULATED: common_pb2.PLATFORM_EMULATED,
}
_RUN_STATUSES = {
    results.RunStatus.OK: common_pb2.RUN_STATUS_OK,
    results.RunStatus.FAILED: common_pb2.RUN_STATUS_FAILED,
    results.RunStatus.DIED: common_pb2.RUN_STATUS_DIED,
    results.RunStatus.CANCELLED: common_pb2.RUN_STATUS_CANCELLED,
    results.RunStatus.TIMED_OUT: common_pb2.RUN_STATUS_TIMED_OUT,
    results.RunStatus.INFRASTRUCTURE: common_pb2.RUN_STATUS_INFRASTRUCTURE,
}
_OUTCOMES = {
    results.OutcomeStatus.COMPLETED: agent_pb2.CommandOutcome.STATUS_COMPLETED,
    results.OutcomeStatus.FAILED: agent_pb2.CommandOutcome.STATUS_FAILED,
    results.OutcomeStatus.DIED: agent_pb2.CommandOutcome.STATUS_DIED,
    results.OutcomeStatus.CANCELLED: agent_pb2.CommandOutcome.STATUS_CANCELLED,
    results.OutcomeStatus.TIMED_OUT: agent_pb2.CommandOutcome.STATUS_TIMED_OUT,
    results.OutcomeStatus.UNSUPPORTED: agent_pb2.CommandOutcome.STATUS_UNSUPPORTED,
    results.OutcomeStatus.REFUSED: agent_pb2.CommandOutcome.STATUS_REFUSED,
    results.OutcomeStatus.INFRASTRUCTURE: agent_pb2.CommandOutcome.STATUS_INFRASTRUCTURE,
}
# A command without these would run for ever or settle never; the contract's zero means "the agent's default".
_DEFAULT_TIMEOUT_S = 3600.0
_MOST_RUNS = 10_000
_MOST_TIMEOUT_S = 90 * 86_400.0
# A request to kernroll-boot.
_MOST_BOOT_TIMEOUT_S = 600.0
_MOST_BOOT_WORDS = 32
# In a Hello.
_MOST_LABELS, _MOST_AREAS, _LONGEST_LABEL, _LONGEST_PATH, _LONGEST_LINE = 64, 64, 253, 256, 4096
_LONGEST_REASON_BYTES = 2048
# Facts that are one text or one number, by the names of their fields, and texts that may be longer than names.
_PLAIN_FACTS = tuple(one.name for one in fields(facts.HostFacts) if one.type in (str, int))
_LONGER = {"kernel_version": (_LONGEST_LINE,), "kernel_command_line": (_LONGEST_LINE,)}


def incoming(message: agent_pb2.ControllerMessage) -> session.Incoming:
    """Parse what the controller said."""
    match message.WhichOneof("body"):
        case "welcome":
            return session.Welcome(
                protocol_version=message.welcome.protocol_version,
                epoch=message.welcome.epoch,
                heartbeat_interval_s=message.welcome.heartbeat_interval_s,
            )
        case "command":
            return session.CommandReceived(command=command(message.command))
        case "boot_request":
            return _boot_request(message.boot_request)
        case "acknowledgement":
            return session.Acknowledged(report_ids=frozenset(message.acknowledgement.report_ids))
        case "goodbye":
            return session.Goodbye(reason=message.goodbye.reason, retry_after_s=message.goodbye.retry_after_s)
        case _:
            return session.UnknownMessage()


def command(message: agent_pb2.Command) -> commands.Command:
    """Parse a command; one that this agent does not know, or that contradicts itself, becomes Unsupported."""
    body: commands.RunWorkload | commands.Cancel | commands.Unsupported
    match message.WhichOneof("body"):
        case "run_workload":
            body = _run_workload(message.run_workload)
        case "cancel":
            body = commands.Cancel(command_id=message.cancel.command_id)
        case _:
            body = commands.Unsupported(why="this agent does not know the command; install a newer agent")
    return commands.Command(
        command_id=message.command_id,
        epoch=message.epoch,
        # Not a number compares as false.
        timeout_s=min(message.timeout_s, _MOST_TIMEOUT_S) if message.timeout_s > 0 else _DEFAULT_TIMEOUT_S,
        body=body,
    )


def _boot_request(message: agent_pb2.BootRequest) -> session.BootRequest:
    return session.BootRequest(
        request_id=message.request_id,
        epoch=message.epoch,
        timeout_s=min(message.timeout_s, _MOST_BOOT_TIMEOUT_S) if message.timeout_s > 0 else _MOST_BOOT_TIMEOUT_S,
        # One more than that program takes is refused by it.
        arguments=tuple(message.arguments[:_MOST_BOOT_WORDS]),
    )


def _run_workload(message: agent_pb2.RunWorkload) -> commands.RunWorkload | commands.Unsupported:
    try:
        order = order_of(message)
    except InvalidOrder as error:
        return commands.Unsupported(why=cut(str(error), _LONGEST_REASON_BYTES))
    if not 1 <= message.repetitions <= _MOST_RUNS or message.warmups > _MOST_RUNS:
        return commands.Unsupported(why=f"repetitions must be 1 to {_MOST_RUNS}, warm-ups at most as many")
    return commands.RunWorkload(repetitions=message.repetitions, warmups=message.warmups, order=order)


def facts_to_message(host: facts.HostFacts) -> common_pb2.HostFacts:
    """Convert facts, cut to what a controller takes."""
    return common_pb2.HostFacts(
        **{name: _plain(name, getattr(host, name)) for name in _PLAIN_FACTS},
        platform=_PLATFORMS[host.platform],
        swap_devices=[
            common_pb2.SwapDevice(
                path=short(area.path, _LONGEST_PATH),
                size_bytes=area.size_bytes,
                used_bytes=area.used_bytes,
                backend=short(backend_of(area.path, area.kind)),
            )
            for area in host.swap_areas[:_MOST_AREAS]
        ],
        labels={
            short(key, _LONGEST_LABEL): short(value, _LONGEST_LABEL)
            for key, value in sorted(host.labels.items())[:_MOST_LABELS]
        },
    )


def _plain(name: str, value: Any) -> Any:
    return short(value, *_LONGER.get(name, ())) if isinstance(value, str) else value


def hello(
    host: str,
    host_facts: facts.HostFacts,
    *,
    active_command_ids: tuple[str, ...],
    highest_epoch: int,
    boot_status: str = "",
    takes_boot_requests: bool = False,
) -> agent_pb2.AgentMessage:
    """Return the session's first message."""
    return agent_pb2.AgentMessage(
        hello=agent_pb2.Hello(
            protocol_version=session.PROTOCOL_VERSION,
            host=host,
            facts=facts_to_message(host_facts),
            active_command_ids=active_command_ids,
            highest_epoch=highest_epoch,
            boot_status=boot_status,
            takes_boot_requests=takes_boot_requests,
        )
    )


def report_to_bytes(report: results.Report) -> bytes:
    """Serialise a report for spool and wire."""
    message = agent_pb2.Report(
        report_id=report.report_id,
        command_id=report.command_id,
        boot_id=report.boot_id,
        at=Timestamp(seconds=int(report.at), nanos=int(report.at % 1 * 1e9)),
    )
    match report.body:
        case results.WorkloadRun() as run:
            message.run.CopyFrom(_run(run))
        case results.CommandOutcome(status=status, detail=detail):
            message.outcome.CopyFrom(agent_pb2.CommandOutcome(status=_OUTCOMES[status], detail=detail))
        case results.KernelLog(records=records, lost_records=lost_records, unreadable=unreadable):
            message.kernel_log.lost_records = lost_records
            message.kernel_log.unreadable = unreadable
            for record in records:
                message.kernel_log.records.add(
                    sequence=record.sequence,
                    monotonic_us=record.monotonic_us,
                    level=record.level,
                    text=record.text,
                )
    return message.SerializeToString()


def report_from_bytes(content: bytes) -> agent_pb2.Report | None:
    """Parse a spooled report; None when the bytes are not one."""
    report = agent_pb2.Report()
    try:
        report.ParseFromString(content)
    except DecodeError:
        return None
    return report if report.report_id else None


def reduced(content: bytes, step: int, why: str) -> bytes | None:
    """Return a spooled report with less in it and a remark that says so; None when nothing is left to leave out.

    First the texts go, then what was measured: a run without its numbers then counts as one that the rig has spoiled.
    """
    report = report_from_bytes(content)
    if report is None or step > 2:
        return None
    match report.WhichOneof("body"):
        case "run":
            report.run.evidence.clear()
            report.run.evidence[LEFT_OUT] = f"{why}: its texts are left out"
            report.run.error = cut(report.run.error, MOST_SENTENCE_BYTES // 4)
            if step == 2:
                del report.run.samples[:]
                report.run.status = common_pb2.RUN_STATUS_INFRASTRUCTURE
                report.run.error = f"{why}: what was measured is left out"
        case "outcome":
            report.outcome.detail = f"{why}: why it ended so is left out" if step == 2 else report.outcome.detail[:100]
        case "kernel_log":
            for record in report.kernel_log.records:
                record.text = record.text[:100]
            if step == 2:
                report.kernel_log.lost_records += len(report.kernel_log.records)
                del report.kernel_log.records[:]
        case _:
            return None
    return report.SerializeToString()


def _run(run: results.WorkloadRun) -> common_pb2.WorkloadRun:
    return common_pb2.WorkloadRun(
        workload=run.workload,
        index=run.index,
        warmup=run.warmup,
        status=_RUN_STATUSES[run.status],
        error=run.error,
        samples=[common_pb2.Sample(metric=each.metric, value=each.value, unit=each.unit) for each in run.samples],
        evidence=run.evidence,
        duration_s=run.duration_s,
        kernel_release=run.kernel_release,
    )
