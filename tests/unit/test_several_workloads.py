"""Rollouts of several workloads: read from a file, ordered one after the other, measured, judged and remembered."""

from dataclasses import replace
from typing import get_args

import pytest
from engine_parts import TEXT
from simulated_fleet import SPEC, UID, Simulation
from simulated_host import Faults

from agent.adapters.order_messages import order_of
from agent.domain.orders import KernelBuildOrder, Order, SwapMountOrder, ValkeyGetOrder
from controller.adapters.rpc.agent_messages import command_message
from controller.adapters.rpc.workload_messages import workload_message
from controller.domain.effects import RunWorkload
from controller.domain.errors import InvalidInput
from controller.domain.events import CommandState, RunReported, WaveJudged
from controller.domain.evidence import host_evidence
from controller.domain.journey import Step, Trigger
from controller.domain.ledger import learnt
from controller.domain.policy import policy_of
from controller.domain.rollout import State
from controller.domain.spec import parse_spec
from controller.domain.spec_workloads import Workload, Workloads
from controller.gate.evidence import HostEvidence, Outcome, Run, Side
from controller.gate.survival import unresolved
from protos.kernroll.v1 import agent_pb2

BUILD = "kernel_build: {preset: small, pressure: {memory_limit: 64MiB}, repetitions: 3, warmups: 0, timeout: 10m}"
TWO = SPEC.replace("timeout: 100s}\n", f"timeout: 100s}}\n    {BUILD}\n")
# What a message and a file say of how and how often, and not of what.
RUNNING = {"preset", "repetitions", "warmups", "timeout_s"}


def tasks(workloads: str) -> tuple[tuple[str, dict[str, object]], ...]:
    text = TEXT.replace(
        "    swap_mount: {device: {block_device: /dev/swap}, repetitions: 2, warmups: 1, timeout: 100s}\n", workloads
    )
    assert text != TEXT
    policy = policy_of(parse_spec(text, "trial.yaml"), (60.0,))
    return tuple((task.workload, dict(task.parameters)) for task in policy.tasks)


def test_every_workload_has_the_fields_of_its_message() -> None:
    body = agent_pb2.RunWorkload.DESCRIPTOR
    named = {field.name: field.message_type for field in body.oneofs_by_name["workload"].fields}
    assert set(Workloads.model_fields) == set(named) == {order.workload for order in get_args(Order)}
    for name, message in named.items():
        (model,) = (kind for kind in get_args(Workloads.model_fields[name].annotation) if kind is not type(None))
        assert issubclass(model, Workload)
        fields = set(model.model_fields) - RUNNING
        if name == "swap_mount":
            # Its device and how it settles have older forms.
            assert fields == {"device", "swap"}
            continue
        # How memory settles is the agent's business.
        assert fields == {field.name for field in message.fields if not field.name.startswith("settle_")}


def test_a_file_says_what_is_ordered() -> None:
    said = """\
    valkey_get:
      preset: series-arm64-zram
      swap: {kind: zram, size: 2GiB, algorithm: lzo-rle}
      bgsave: true
    kernel_build: {swap: {kind: file, size: 1GiB, zswap: true}, jobs: 4, objects: [mm/swapfile.o]}
    swap_mount: {swap: {kind: loop, size: 1TiB}}
"""
    assert tasks(said) == (
        ("swap_mount", {"swap": {"kind": "loop", "size_bytes": 2**40}}),
        (
            "kernel_build",
            {"swap": {"kind": "file", "size_bytes": 2**30, "zswap": True}, "jobs": 4, "objects": ["mm/swapfile.o"]},
        ),
        ("valkey_get", {"swap": {"kind": "zram", "size_bytes": 2**31, "algorithm": "lzo-rle"}, "bgsave": True}),
    )


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("    kernel_build: {jobs: 2}\n", "spec.workloads.kernel_build: needs a swap with its kind, or a preset"),
        ("    kernel_build: {preset: large}\n", "spec.workloads.kernel_build.preset: must be"),
        ("    swap_mount: {}\n", "spec.workloads.swap_mount: needs one of device or swap"),
        ("    swap_fill: {swap: {kind: block_device}}\n", "of kind block_device needs its path"),
        ("    swap_fill: {swap: {kind: zram, path: /dev/x}}\n", "of kind zram has no path"),
        ("    swap_fill: {swap: {kind: block_device, path: x}}\n", "must be an absolute path on the hosts"),
        ("    anon_sweep: {preset: small, memory: lots}\n", "anon_sweep.memory: must be a size with a binary unit"),
        ("    valkey_get: {preset: small, key: 3}\n", "spec.workloads.valkey_get.key: is not a known field"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(said: str, complaint: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        tasks(said)
    assert complaint in str(refused.value)


def test_an_agent_understands_what_a_controller_orders() -> None:
    policy = policy_of(parse_spec(TWO.replace("IN_FLIGHT", "1").replace("ON_REFUTED", "pause"), "t"), (60.0, 60.0))
    mount, build = (order_of(workload_message(task)) for task in policy.tasks)
    assert isinstance(mount, SwapMountOrder)
    assert (mount.swap.path, mount.settle_tolerance_bytes) == ("/dev/swap", 512 * 1024)
    assert isinstance(build, KernelBuildOrder)
    # What the file says wins over the preset, which wins over the agent's default.
    assert (build.pressure.memory_limit_bytes, build.config, build.jobs) == (64 << 20, "tinyconfig", 2)
    task = replace(policy.tasks[1], workload="valkey_get", preset="series-arm64-zram", parameters={"bgsave": True})
    valkey = order_of(workload_message(task))
    assert isinstance(valkey, ValkeyGetOrder)
    assert (valkey.bgsave, valkey.keys) == (True, 3_000_000)
    command = command_message(RunWorkload(command_id="c", host="h", task=task, timeout_s=7.0), 3).command
    assert (command.timeout_s, command.run_workload.repetitions, command.run_workload.warmups) == (7.0, 3, 0)


def test_every_kernel_runs_every_workload_in_turn() -> None:
    simulation = Simulation([["a"]], spec=TWO)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert {(Step.BASELINE, Trigger.NEXT_TASK), (Step.PROBATION, Trigger.NEXT_TASK)} <= simulation.taken
    ran = [(event.command_id, event.workload) for _, event in simulation.log if isinstance(event, RunReported)]
    assert sorted(set(ran)) == [
        ("u1/a/0.baseline-2.0", "kernel_build"),
        ("u1/a/0.baseline.0", "swap_mount"),
        ("u1/a/1.probation-2.0", "kernel_build"),
        ("u1/a/1.probation.0", "swap_mount"),
    ]
    (judged,) = (event for _, event in simulation.log if isinstance(event, WaveJudged))
    cells = {cell.metric: cell for cell in judged.cells}
    assert cells["swap_mount.cost"].claim == "confirmed"
    time = cells["kernel_build.system_time"]
    assert (time.role, time.verdict, time.hosts) == ("told", "INCONCLUSIVE", 1)
    assert time.estimate == pytest.approx((567.1 / 819.1 - 1) * 100, abs=0.1)


def test_only_the_workload_that_died_is_repeated() -> None:
    measured = [CommandState.COMPLETED, CommandState.DIED, CommandState.COMPLETED]
    simulation = Simulation([["a"]], {"a": Faults(measurements=measured)}, spec=TWO)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    commands = {event.command_id for _, event in simulation.log if isinstance(event, RunReported)}
    assert {"u1/a/0.baseline-2.0", "u1/a/0.baseline-2.1"} <= commands
    assert "u1/a/0.baseline.1" not in commands
    evidence = host_evidence(simulation.rollout, simulation.world.attempts[UID]["a"])
    assert unresolved(evidence, Side.OLD) == ()


def test_one_workload_does_not_make_up_for_another() -> None:
    def run(workload: str, attempt: int, outcome: Outcome) -> Run:
        name = f"{workload}{attempt}"
        return Run(run_id=name, side=Side.NEW, outcome=outcome, attempt=attempt, workload=workload)

    runs = (run("a", 0, Outcome.DIED), run("b", 0, Outcome.DIED), run("b", 1, Outcome.OK))
    left = unresolved(HostEvidence(host="h", stratum="s", runs=runs), Side.NEW)
    assert [one.run_id for one in left] == ["a0"]


def test_both_workloads_teach_the_ledger() -> None:
    story = Simulation([["a"]], spec=TWO)
    story.run()
    world = Simulation([["a"]], spec=TWO).world
    rows = []
    for key, event in story.log:
        if key.host:
            rows += learnt(world.attempts[UID]["a"], event)
        if key.host or type(event).__name__ not in ("RolloutPlanned", "RolloutStarted"):
            world.apply(key, event)
    assert {(row.metric, row.runs) for row in rows if "cost" in row.metric or "system" in row.metric} == {
        ("swap_mount.cost", 2),
        ("kernel_build.system_time", 3),
    }
