"""Whatever a host says is cut to its bounds and marked; no message ends a session, forges a name or spoils a number."""

import math

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.rpc.agent_messages import host_of, progress_of, report_of
from controller.adapters.rpc.incoming import Allowance, decoded
from controller.domain import bounds
from controller.domain.record.events import CommandReported, RunReported, RunState
from controller.domain.state.environments import recorded
from controller.services.agents.sessions import LogReported
from protos.kernroll.v1 import agent_pb2, common_pb2

FORGING = "7.1\n# trial: promoted\x1b[2J\x9b31m\u202e\u2028| a | b |"
MANY = 300_000


def facts(**changed: object) -> common_pb2.HostFacts:
    given = {"architecture": "x86_64", "kernel_release": "7.0.13", "boot_id": "b", **changed}
    return common_pb2.HostFacts(**given)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    "field",
    [
        *("architecture", "kernel_release", "kernel_version", "boot_id", "agent_version", "kernel_command_line"),
        *("firmware", "boot_loader", "virtualization"),
    ],
)
@pytest.mark.parametrize("value", [FORGING, "x" * 4_000_000], ids=["forging", "long"])
def test_every_fact_is_one_short_line(field: str, value: str) -> None:
    told = getattr(host_of("h", facts(**{field: value})), field)
    assert told.isprintable()
    assert told
    assert len(told) <= bounds.COMMAND_LINE_CHARACTERS


def test_an_architecture_cannot_pretend_to_be_a_stratum() -> None:
    assert host_of("h", facts(architecture="x86_64/vm")).stratum == "x86_64_vm/unknown"


def test_labels_and_devices_are_so_many_at_most_and_it_is_said() -> None:
    told = facts(labels={f"key{number}\n": FORGING for number in range(5000)})
    told.swap_devices.extend([common_pb2.SwapDevice(path=FORGING * 999, size_bytes=(1 << 64) - 1)] * 5000)
    host = host_of("h", told)
    assert sum(len(key) + len(value) for key, value in host.labels.items()) <= bounds.LABELS_CHARACTERS + 64
    assert all(key.isprintable() and value.isprintable() for key, value in host.labels.items())
    assert "more labels are left out" in host.labels["…"]
    assert len(host.swap_devices) == bounds.SWAP_DEVICES
    # What a database and a message of 64 bits can hold.
    assert host.swap_devices[0].size_bytes < 1 << 63
    assert host.swap_devices[0].path.isprintable()


def run(**changed: object) -> common_pb2.WorkloadRun:
    return common_pb2.WorkloadRun(status=common_pb2.RUN_STATUS_OK, **changed)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 1e-300])
def test_a_number_that_cannot_be_told_is_no_measurement(value: float) -> None:
    samples = [common_pb2.Sample(metric="good", value=1.5), common_pb2.Sample(metric="bad\n", value=value)]
    report = report_of(agent_pb2.Report(report_id="r", command_id="u/a/0", run=run(samples=samples)), 5.0)
    assert isinstance(report, RunReported)
    assert report.state is RunState.INFRASTRUCTURE
    assert report.values == {"good": 1.5}
    assert report.error == "no number was measured for bad"


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-9, 2.0**64, -5.0])
def test_a_number_that_can_be_told_stays(value: float) -> None:
    assert bounds.number(value) == value


def test_evidence_is_cut_and_the_small_texts_stay_whole() -> None:
    texts = {"free_before": "Mem: 1 2 3\n", "flood": "x" * 3_500_000, f"{FORGING}": "\x1b[2Jok"}
    report = report_of(agent_pb2.Report(report_id="r", command_id="u/a/0", run=run(evidence=texts)), 5.0)
    assert isinstance(report, RunReported)
    assert report.evidence["free_before"] == "Mem: 1 2 3\n"
    assert sum(map(len, report.evidence.values())) <= bounds.EVIDENCE_CHARACTERS
    assert report.evidence["flood"].endswith("…")
    assert all(key.isprintable() for key in report.evidence)
    assert "\N{REPLACEMENT CHARACTER}[2Jok" in report.evidence.values()


def test_many_texts_are_cut_and_it_is_said() -> None:
    kept = bounds.evidence({f"text {number}": "x" for number in range(500)})
    assert kept["…"] == f"{500 - bounds.EVIDENCE_TEXTS} more texts are left out"


def test_a_report_with_too_many_samples_is_no_measurement() -> None:
    samples = [common_pb2.Sample(metric=f"m{number}", value=1.0) for number in range(bounds.SAMPLES + 1)]
    report = report_of(agent_pb2.Report(report_id="r", command_id="u/a/0", run=run(samples=samples)), 5.0)
    assert isinstance(report, RunReported)
    assert report.state is RunState.INFRASTRUCTURE
    assert len(report.values) == bounds.SAMPLES


@pytest.mark.parametrize("at", [-1, 10**18, 1 << 62])
def test_a_time_that_no_calendar_has_is_the_controllers_own(at: int) -> None:
    told = agent_pb2.Report(report_id="r", command_id="u/a/0", run=run())
    told.at.seconds = at
    report = report_of(told, 5.0)
    assert isinstance(report, RunReported)
    assert report.at == 5.0


def test_a_long_report_id_is_known_by_its_digest() -> None:
    long = report_of(agent_pb2.Report(report_id="r" * 3_500_000, outcome=agent_pb2.CommandOutcome(detail=FORGING)), 5.0)
    other = report_of(agent_pb2.Report(report_id="r" * 3_500_001, outcome=agent_pb2.CommandOutcome()), 5.0)
    assert isinstance(long, CommandReported)
    assert isinstance(other, CommandReported)
    assert len(long.report_id) < 200
    assert long.report_id != other.report_id
    assert long.detail.isprintable()
    assert bounds.report_id("host/boot/1.run") == "host/boot/1.run"


def test_log_lines_are_bounded_in_length_and_number() -> None:
    told = agent_pb2.Report(report_id="r", boot_id="b")
    told.kernel_log.records.extend([common_pb2.KernelLogRecord(text=FORGING * 100)] * 9000)
    report = report_of(told, 5.0)
    assert isinstance(report, LogReported)
    assert len(report.lines) == bounds.LOG_RECORDS
    assert all(line.isprintable() and len(line) <= bounds.LOG_CHARACTERS for line in report.lines)


@pytest.mark.parametrize("fraction", [math.nan, math.inf, -7.0, 1e308])
def test_progress_is_a_share_or_unknown(fraction: float) -> None:
    progress = progress_of(agent_pb2.Progress(step=FORGING, fraction=fraction))
    assert progress.fraction == -1.0
    assert progress.step.isprintable()


@pytest.mark.parametrize(
    "document",
    ["[" * 500_000, '{"a":' * 500_000, "9" * 400_000, '{"a": ' + "9" * 5000 + "}", '{"a": "' + "x" * 300_000],
)
def test_an_environment_that_cannot_be_read_is_none(document: str) -> None:
    assert recorded({"environment": document}) == ""


def test_a_deep_setting_is_told_by_its_beginning() -> None:
    depth = 400
    first = recorded({"environment": '{"a": ' + "[" * depth + "1" + "]" * depth + "}"})
    other = recorded({"environment": '{"a": ' + "[" * depth + "2" + "]" * depth + "}"})
    assert first != other
    assert len(first) < 1000


# How messages are decoded: a limit on parts, before the library sees them.


def sent(report: agent_pb2.Report) -> bytes:
    return agent_pb2.AgentMessage(report=report).SerializeToString()


def test_what_an_honest_agent_sends_is_decoded_whole() -> None:
    report = agent_pb2.Report(report_id="r", command_id="u/a/0", boot_id="b")
    report.run.evidence.update({f"text {number}": "x" * 50_000 for number in range(60)})
    report.run.samples.extend([common_pb2.Sample(metric="m", value=1.0)] * bounds.SAMPLES)
    incoming = decoded(sent(report))
    assert not incoming.cut
    assert incoming.message.report == report


def test_a_full_batch_of_the_kernel_log_is_decoded_whole() -> None:
    report = agent_pb2.Report(report_id="r", boot_id="b")
    report.kernel_log.records.extend([common_pb2.KernelLogRecord(sequence=7, level=3, text="x" * 500)] * 4000)
    assert decoded(sent(report)).message.report == report


def _samples() -> agent_pb2.Report:
    report = agent_pb2.Report(report_id="r", command_id="u/a/0")
    report.run.samples.extend([common_pb2.Sample()] * MANY)
    return report


def _records() -> agent_pb2.Report:
    report = agent_pb2.Report(report_id="r")
    report.kernel_log.records.extend([common_pb2.KernelLogRecord()] * MANY)
    return report


def _texts() -> agent_pb2.Report:
    report = agent_pb2.Report(report_id="r", command_id="u/a/0")
    report.run.evidence.update({f"{number:x}": "" for number in range(MANY)})
    return report


@pytest.mark.parametrize("report", [_samples(), _records(), _texts()], ids=["samples", "records", "texts"])
def test_a_message_of_very_many_parts_is_cut_and_still_named(report: agent_pb2.Report) -> None:
    incoming = decoded(sent(report))
    assert incoming.cut
    assert incoming.message.report.report_id == "r"
    assert incoming.message.ByteSize() < 20 * bounds.MESSAGE_FIELDS
    told = report_of(incoming.message.report, 5.0, cut=incoming.cut)
    if isinstance(told, RunReported):
        assert told.state is RunState.INFRASTRUCTURE
        assert told.error == "the report has more parts than are taken; the last are left out"


def test_parts_that_hide_behind_a_group_are_cut_off() -> None:
    hidden = b"\x0b\x0c" + sent(_texts())
    incoming = decoded(hidden)
    assert incoming.cut
    assert incoming.message.ByteSize() == 0


def test_facts_of_very_many_parts_are_cut() -> None:
    told = agent_pb2.Hello(host="h", facts=facts(labels={f"{number:x}": "" for number in range(MANY)}))
    assert decoded(agent_pb2.AgentMessage(hello=told).SerializeToString()).cut


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x2a\xff\xff\x03", b"\x0a\xff\xff\xff\x7f", sent(_records())]))
def test_any_bytes_are_a_message_or_none(data: bytes, head: bytes) -> None:
    for one in (data, head + data, (head + data) * 200):
        try:
            decoded(one)
        except DecodeError:
            continue


def test_one_host_takes_so_much_of_a_controllers_time_and_no_more() -> None:
    allowance = Allowance(at=0.0)
    # What an honest host says in its busiest minute comes in at once.
    assert sum(allowance.pause_s(0.0, 4096) for _ in range(200)) == 0.0
    for _ in range(1000):
        pause_s = allowance.pause_s(0.0, 100)
    # 40 messages a second for as long as it likes.
    assert pause_s == pytest.approx(1000 / 40, rel=0.1)
    # And after the pause it may go on.
    assert allowance.pause_s(60.0, 100) == 0.0
    large = Allowance(at=0.0)
    for _ in range(20):
        pause_s = large.pause_s(0.0, 4 << 20, computed_s=0.1)
    assert pause_s > 50.0
