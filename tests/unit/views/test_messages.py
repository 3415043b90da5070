"""View models and protobuf messages carry the same fields, and nothing is lost between them."""

from dataclasses import fields, replace

import pytest
from google.protobuf.message import Message
from rollout_story import Story
from simulated_fleet import Faults

from controller.adapters.rpc.messages import epoch, from_message, timestamp, to_message
from controller.domain.delivery import BootEnd
from controller.domain.errors import InvalidInput
from controller.domain.hosts.facts import Subject
from controller.domain.hosts.host import Host, SwapDevice
from controller.domain.hosts.loaders import BootRefusal
from controller.domain.kernels import Kernel
from controller.domain.planning.selection import HostCandidate, plan_waves
from controller.domain.record.journey import Step
from controller.domain.spec.parse import parse_spec
from controller.services.operating.hosts import find_hosts
from controller.services.state.world import World
from controller.views import models, plan_models
from controller.views.hosts.listing import host_view
from controller.views.json import view_data
from controller.views.plans.plan import plan_view
from controller.views.report import report
from controller.views.rollouts.explain import explain
from controller.views.rollouts.status import rollout_view
from protos.kernroll.v1 import common_pb2, operator_pb2

HOST = Host(
    name="x86-a",
    architecture="x86_64",
    platform="emulated",
    page_size_bytes=4096,
    memory_bytes=1536 * 2**20,
    cpu_count=1,
    kernel_release="7.0.13+deb13-cloud-amd64",
    kernel_version="#1 SMP",
    boot_id="b",
    labels={"zone": "a"},
    swap_devices=(SwapDevice(path="/dev/vda2", size_bytes=2**40, used_bytes=1, backend="disk"),),
    connected=True,
    last_seen=1_772_366_405.25,
)
SPEC = """
apiVersion: kernroll/v1
kind: Rollout
metadata: {name: trial}
spec:
  kernels:
    x86_64: {debian: {version: "7.1.13"}}
  workloads:
    swap_mount: {device: {block_device: /dev/swap}}
  claim: [{metric: swap_mount.cost, saves_at_least: 230.4, unit: MiB/TiB}]
"""
PAIRS: list[tuple[type, type[Message]]] = [
    (models.RolloutView, operator_pb2.Rollout),
    (models.WaveView, operator_pb2.Wave),
    (models.HostProgressView, operator_pb2.HostProgress),
    (models.VerdictView, operator_pb2.Verdict),
    (models.IntervalView, operator_pb2.Interval),
    (models.KernelView, operator_pb2.PlannedKernel),
    (plan_models.PlanView, operator_pb2.Plan),
    (plan_models.PlannedWaveView, operator_pb2.PlannedWave),
    (plan_models.PlannedClaimView, operator_pb2.PlannedClaim),
    (models.HostView, operator_pb2.Host),
    (models.HostFactsView, common_pb2.HostFacts),
    (models.HostBootView, operator_pb2.HostBoot),
    (models.HostBootRecordView, operator_pb2.HostBootRecord),
    (models.BootKernelView, operator_pb2.BootKernel),
    (BootRefusal, operator_pb2.BootRefusal),
    (SwapDevice, common_pb2.SwapDevice),
    (models.ExplanationView, operator_pb2.Explanation),
    (models.ReportView, operator_pb2.RolloutReport),
    (models.JoinTokenView, operator_pb2.JoinToken),
    (models.RolloutLogView, operator_pb2.RolloutLog),
    (models.LogLineView, operator_pb2.RolloutLogLine),
]


@pytest.mark.parametrize(("view", "message"), PAIRS, ids=lambda one: one.__name__)
def test_a_view_has_the_fields_of_its_message(view: type, message: type[Message]) -> None:
    assert {field.name for field in fields(view)} == {field.name for field in message.DESCRIPTOR.fields}


def views() -> list[tuple[object, type[Message]]]:
    running = Story([["a"], ["b"]])
    running.run(until=lambda: running.step("a") is Step.BAKE)
    ended = Story([["a"], ["b"]], {"a": Faults(trial_end=BootEnd.PANIC)})
    ended.run()
    good = Story([["a"]])
    good.run()
    spec = parse_spec(SPEC, "rollout.yaml")
    away = HostCandidate(subject=Subject(host=replace(HOST, connected=False)))
    kernel = Kernel(digest="d", release="7.1.13", architecture="x86_64", source="test")
    plan = plan_view(spec, plan_waves(spec, [away], "s"), {"x86_64": kernel}, blockers=("one more.",))
    return [
        *(
            (rollout_view(story.rollout, story.attempts, {}, story.now), operator_pb2.Rollout)
            for story in (running, ended, good)
        ),
        (plan, operator_pb2.Plan),
        (host_view(HOST, running.attempts["a"]), operator_pb2.Host),
        (explain(ended.rollout, ended.attempts, "trial"), operator_pb2.Explanation),
        (report(good.rollout, good.attempts, good.events, good.world.hosts), operator_pb2.RolloutReport),
    ]


def test_views_survive_the_way_over_the_wire() -> None:
    for view, kind in views():
        sent = to_message(view, kind).SerializeToString()
        assert from_message(kind.FromString(sent), type(view)) == view


def test_an_unset_time_and_interval_are_none() -> None:
    view = from_message(operator_pb2.Rollout(name="x"), models.RolloutView)
    assert (view.started_at, view.next_deadline, view.waves) == (None, None, ())
    assert from_message(operator_pb2.HostProgress(), models.HostProgressView).saving is None


def test_an_interval_of_zeroes_is_not_lost() -> None:
    zero = models.IntervalView(low=0.0, estimate=0.0, high=0.0)
    verdict = models.VerdictView(
        stratum="s",
        metric="m",
        verdict="PASS",
        claim="",
        sentence="",
        interval=zero,
        bound=0.0,
        hosts=1,
        unit="",
    )
    sent = to_message(verdict, operator_pb2.Verdict).SerializeToString()
    assert from_message(operator_pb2.Verdict.FromString(sent), models.VerdictView).interval == zero


def test_platforms_are_words() -> None:
    message = to_message(host_view(HOST), operator_pb2.Host)
    assert message.facts.platform == common_pb2.PLATFORM_EMULATED
    message.facts.platform = 77  # type: ignore[assignment]  # a platform of a newer agent
    assert from_message(message, models.HostView).facts.platform == "unknown"


@pytest.mark.parametrize("seconds", [0.0, 1.0, 1_772_366_405.25, 1_772_366_405.999_999_9, -1.5])
def test_timestamps_keep_the_microsecond(seconds: float) -> None:
    assert epoch(timestamp(seconds)) == pytest.approx(seconds, abs=1e-6)


def test_json_writes_times_for_programs() -> None:
    data = view_data(host_view(HOST))
    assert data["last_seen"] == "2026-03-01T12:00:05.250Z"
    device = {"path": "/dev/vda2", "size_bytes": 2**40, "used_bytes": 1, "backend": "disk"}
    assert data["facts"]["swap_devices"] == [device]
    assert data["facts"]["labels"] == {"zone": "a"}


def test_hosts_are_selected_by_facts_and_labels() -> None:
    world = World(hosts={HOST.name: HOST})
    for selector in (
        "",
        "architecture=x86_64",
        "zone=a, platform=emulated",
        "connected=yes",
        "stratum=x86_64/emulated",
        "arch=x86_64, memory=1610612736, swap_backends=disk",
        "quarantined=no, page_size_bytes=4096",
    ):
        assert find_hosts(world, selector, "").hosts == (host_view(HOST),)
    for selector in ("zone=b", "rack=1", "memory_bytes=1", "firmware=bios"):
        assert find_hosts(world, selector, "").hosts == ()
    with pytest.raises(InvalidInput, match="'zone' must be name=value"):
        find_hosts(world, "zone", "")


def test_a_plan_tells_claims_and_blockers() -> None:
    plan = next(view for view, _ in views() if isinstance(view, plan_models.PlanView))
    assert plan.claims[0].sentence == (
        "swap_mount.cost must fall by at least 230.4 MiB/TiB on every stratum, with 99 % confidence; "
        "a refuted claim pauses the rollout, an open one pauses it."
    )
    assert plan.blockers == ("x86-a is not connected.", "one more.")
    assert (plan.host_count, plan.seed, plan.waves[0].hosts) == (1, "s", ("x86-a",))
