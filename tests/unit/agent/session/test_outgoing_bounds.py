"""An honest agent sends nothing that a controller would cut, and takes nothing from one that makes no sense."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.wire import messages
from agent.domain.errors import ConfigError, InvalidOrder, ProtocolViolation
from agent.domain.host.facts import HostFacts, Platform, SwapArea
from agent.domain.orders.presets import order_from
from agent.domain.results import RunStatus, Sample, WorkloadRun
from agent.domain.session.commands import Command, CommandBook, RunWorkload, Unsupported, decide
from agent.domain.session.report_size import LEFT_OUT, MOST_LINES, MOST_SAMPLES, MOST_TEXTS, fitted
from agent.domain.session.session import (
    HIGHEST_EPOCH,
    MOST_RETRY_AFTER_S,
    CommandReceived,
    Goodbye,
    Phase,
    SessionState,
    Welcome,
    react,
)
from agent.settings import load
from agent.workloads.registry import KINDS
from protos.kernroll.v1 import agent_pb2

FACTS = HostFacts(
    hostname="h",
    architecture="x86_64",
    page_size_bytes=4096,
    memory_bytes=1 << 30,
    kernel_release="7.1.13",
    kernel_version="#1",
    boot_id="b",
    platform=Platform.VM,
    agent_version="0.1.0",
    kernel_command_line="quiet",
    cpu_count=2,
)
# As os.uname() gives bytes that are no UTF-8.
LONG = "\udcff" + "龍" * 100_000


def test_facts_of_any_size_make_a_hello_that_is_taken_whole() -> None:
    facts = replace(
        FACTS,
        **dict.fromkeys(("hostname", "kernel_release", "kernel_version", "kernel_command_line", "boot_loader"), LONG),
        swap_areas=tuple(SwapArea(path=LONG, size_bytes=1, used_bytes=0) for _ in range(1000)),
        labels={f"{number}{LONG}": LONG for number in range(1000)},
    )
    told = messages.hello("h", facts, active_command_ids=(), highest_epoch=0).hello.facts
    assert len(told.SerializeToString()) < 256 << 10
    assert (len(told.labels), len(told.swap_devices)) == (64, 64)
    assert len(told.kernel_release) <= 128
    assert len(told.kernel_command_line) == 4096
    small = messages.facts_to_message(FACTS)
    assert (small.kernel_release, small.kernel_command_line, dict(small.labels)) == ("7.1.13", "quiet", {})


def run_of(samples: tuple[Sample, ...] = (), evidence: dict[str, str] | None = None) -> WorkloadRun:
    return WorkloadRun(
        workload="w", index=0, warmup=False, status=RunStatus.OK, samples=samples, evidence=evidence or {}
    )


def fit(run: WorkloadRun) -> WorkloadRun:
    body = fitted(run)
    assert isinstance(body, WorkloadRun)
    return body


def test_a_run_within_the_bounds_is_told_as_it_is() -> None:
    samples = tuple(Sample(metric=f"m{number}", value=1.0, unit="s") for number in range(MOST_SAMPLES))
    run = run_of(samples, {f"text{number}": "a\n" * 100 for number in range(MOST_TEXTS)})
    assert fit(run) == run


def test_what_is_too_many_is_left_out_and_said() -> None:
    samples = tuple(Sample(metric=f"m{number}", value=1.0, unit="s") for number in range(MOST_SAMPLES + 3))
    run = fit(run_of(samples, {f"text{number}": "x" for number in range(MOST_TEXTS + 5)}))
    assert (len(run.samples), len(run.evidence)) == (MOST_SAMPLES, MOST_TEXTS)
    assert run.evidence[LEFT_OUT] == "of this run's report: 3 values, 5 texts"
    many = fit(run_of(evidence={"log": "line\n" * 100_000}))
    assert many.evidence["log"].count("\n") <= MOST_LINES
    assert "lines are left out" in many.evidence["log"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_sample(value: float) -> None:
    run = fit(run_of((Sample(metric="a", value=value, unit="s"), Sample(metric="b", value=1.0, unit="s"))))
    assert [each.metric for each in run.samples] == ["b"]
    assert run.evidence[LEFT_OUT] == "of this run's report: 1 values that are no numbers"


@pytest.mark.parametrize(
    ("told_s", "waited_s"),
    [
        (1e308, 300.0),
        (math.inf, MOST_RETRY_AFTER_S),
        (math.nan, 0.0),
        (-5.0, 0.0),
        (-math.inf, 0.0),
        (2.0, 2.0),
    ],
)
def test_no_controller_silences_an_agent(told_s: float, waited_s: float) -> None:
    state = react(SessionState(phase=Phase.OPEN), Goodbye(reason="x" * 10**6, retry_after_s=told_s)).state
    assert state.retry_after_s == waited_s
    assert len(state.reason) <= 1000


@pytest.mark.parametrize(
    ("told_s", "kept_s"),
    [(math.nan, 10.0), (math.inf, 300.0), (-1.0, 10.0), (0.0, 10.0), (1e-300, 0.1), (1e300, 300.0)],
)
def test_a_heartbeat_comes_neither_never_nor_all_the_time(told_s: float, kept_s: float) -> None:
    reaction = react(SessionState(), Welcome(protocol_version=1, epoch=1, heartbeat_interval_s=told_s))
    assert reaction.state.heartbeat_interval_s == kept_s


def test_an_epoch_beyond_all_counting_is_believed_of_nobody() -> None:
    with pytest.raises(ProtocolViolation, match="none counts beyond"):
        react(SessionState(), Welcome(protocol_version=1, epoch=HIGHEST_EPOCH + 1, heartbeat_interval_s=1.0))
    command = Command(command_id="c", epoch=HIGHEST_EPOCH + 1, timeout_s=1.0, body=Unsupported(why=""))
    with pytest.raises(ProtocolViolation, match="none counts beyond"):
        react(SessionState(phase=Phase.OPEN), CommandReceived(command=command))
    reaction = react(SessionState(), Welcome(protocol_version=1, epoch=HIGHEST_EPOCH, heartbeat_interval_s=1.0))
    assert reaction.state.epoch == HIGHEST_EPOCH


@pytest.mark.parametrize(("told_s", "kept_s"), [(math.inf, 7_776e3), (math.nan, 3600.0), (-1.0, 3600.0), (5.0, 5.0)])
def test_a_command_has_an_end(told_s: float, kept_s: float) -> None:
    assert messages.command(agent_pb2.Command(command_id="c", timeout_s=told_s)).timeout_s == kept_s


@pytest.mark.parametrize("workload", KINDS)
def test_no_order_holds_what_is_no_number_or_no_text(workload: str) -> None:
    """Try every number and text that the contract lets a controller send."""
    body = getattr(agent_pb2.RunWorkload(), workload)
    for field in body.DESCRIPTOR.fields:
        wrong: Any = {field.CPPTYPE_DOUBLE: math.nan, field.CPPTYPE_STRING: "a\0b"}.get(field.cpp_type)
        if wrong is None:
            continue
        value = [wrong] if field.is_repeated else wrong
        message = agent_pb2.RunWorkload(repetitions=1, **{workload: type(body)(**{field.name: value})})
        assert isinstance(messages.command(agent_pb2.Command(command_id="c", run_workload=message)).body, Unsupported)


def test_numbers_of_every_kind_are_refused_by_name() -> None:
    with pytest.raises(InvalidOrder, match=r"settle_timeout_s must be a number \(got inf\)"):
        order_from(KINDS["swap_mount"].order, "swap_mount", "", {"settle_timeout_s": math.inf})


_BODIES = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda **named: agent_pb2.ControllerMessage(command=agent_pb2.Command(**named)).SerializeToString(),
        command_id=st.text(max_size=20),
        epoch=st.integers(0, 2**64 - 1),
        timeout_s=st.floats(),
        run_workload=st.builds(
            agent_pb2.RunWorkload,
            repetitions=st.integers(0, 2**32 - 1),
            warmups=st.integers(0, 2**32 - 1),
            swap_mount=st.builds(
                agent_pb2.SwapMount,
                block_device=st.text(max_size=10),
                settle_tolerance_bytes=st.integers(0, 2**64 - 1),
                settle_timeout_s=st.floats(),
            ),
        ),
    ),
    st.builds(
        lambda **named: agent_pb2.ControllerMessage(welcome=agent_pb2.Welcome(**named)).SerializeToString(),
        protocol_version=st.integers(0, 2),
        epoch=st.integers(0, 2**64 - 1),
        heartbeat_interval_s=st.floats(),
    ),
)


@given(said=_BODIES, phase=st.sampled_from([Phase.GREETING, Phase.OPEN]))
def test_whatever_comes_is_understood_or_a_violation(said: bytes, phase: Phase) -> None:
    try:
        incoming = messages.incoming(agent_pb2.ControllerMessage.FromString(said))
        reaction = react(SessionState(phase=phase), incoming)
    except (DecodeError, ProtocolViolation):
        return
    state = reaction.state
    assert 0 <= state.heartbeat_interval_s <= 300
    assert 0 <= state.retry_after_s <= MOST_RETRY_AFTER_S
    if reaction.obey is not None:
        decision = decide(CommandBook(), reaction.obey, boot_id="b", kernel_release="r", unable="")
        assert 0 < reaction.obey.timeout_s < math.inf
        if isinstance(reaction.obey.body, RunWorkload):
            assert reaction.obey.body.repetitions <= 10_000
        assert decision.action is not None or decision.refused == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("".join(f'l{number} = "x"\n' for number in range(65)), "has 65 labels, a controller takes 64"),
        (f'a = "{"x" * 254}"\n', "one line of at most 253"),
        (f'{"k" * 254} = "x"\n', "one line of at most 253"),
        ('a = "\\u001b[2J"\n', "one line"),
        ('a = "\\u202e"\n', "one line"),
    ],
)
def test_labels_that_a_controller_would_cut_are_refused_where_they_are_written(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f'host = "h"\ntransport = "serial"\n[labels]\n{text}')
    with pytest.raises(ConfigError, match=f"labels: .*{words}"):
        load(path)


@pytest.mark.parametrize("port", ["٧٤٤٣", "²", "0", "65536", "7_443", " 7443", "+7443", ""])
def test_a_port_is_a_number_of_ascii_digits(tmp_path: Path, port: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f'host = "h"\ncontroller = "10.0.0.5:{port}"\n')
    with pytest.raises(ConfigError, match="is not HOST:PORT"):
        load(path)
