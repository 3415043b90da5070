"""Who is compared with whom: alike, in the same wave, by lot, and no more than the waves have room for."""

import pytest
from candidates import candidate, changed
from rich.console import Console

from controller.adapters.rpc.messages import from_message, to_message
from controller.cli.rollouts.tables import plan_parts
from controller.domain.planning.candidates import HostCandidate
from controller.domain.planning.design import calendars, design_notes, needed_comparisons, refusals
from controller.domain.planning.selection import WavePlan, hosts_by_stratum, plan_waves
from controller.domain.record.events import PlannedHost
from controller.domain.record.journey import Role
from controller.domain.spec.document import RolloutSpec
from controller.domain.spec.parse import parse_spec
from controller.gate.ledger import Boot, Ledger
from controller.views.plan_models import PlanView
from controller.views.plans.plan import plan_view
from protos.kernroll.v1 import operator_pb2 as pb

SPEC = """\
apiVersion: kernroll/v1
kind: Rollout
metadata: {{name: test}}
spec:
  kernels: {{x86_64: {{debian: {{version: "7.1.13"}}}}, arm64: {{debian: {{version: "7.1.13"}}}}}}
  waves: [{{per_stratum: 1}}, {{percent: 25}}, {{rest: true}}]
  workloads: {{kernel_build: {{preset: series-arm64-zram}}}}
  {extra}
"""
SYSTEM_TIME = "kernel_build.system_time"


def spec(extra: str) -> RolloutSpec:
    return parse_spec(SPEC.format(extra=extra), "test.yaml")


def hosts(count: int, architecture: str = "x86_64", *, kinds: int = 3) -> list[HostCandidate]:
    """Hosts of several kinds, whose memory differs a little within each."""
    return [
        candidate(
            f"{architecture.replace('_', '-')}-{index:03}",
            f"{architecture}/vm",
            page_size_bytes=4096 if index % kinds else 65536,
            memory_bytes=2 ** (30 + index % kinds) + index * 2**16,
            cpu_count=2 + index % kinds,
        )
        for index in range(count)
    ]


def planned(chosen: RolloutSpec, fleet: list[HostCandidate], seed: str = "s", ledger: Ledger | None = None) -> WavePlan:
    strata = sorted(hosts_by_stratum(chosen, fleet))
    return plan_waves(chosen, fleet, seed, needed_comparisons(chosen, strata, ledger or Ledger()))


def members(plan: WavePlan) -> list[PlannedHost]:
    return [host for wave in plan.waves for host in wave.hosts]


def test_pairs_are_alike_stand_beside_one_another_and_are_dealt_by_lot() -> None:
    fleet = hosts(60)
    by_name = {host.name: host.subject.host for host in fleet}
    plan = planned(spec("design: matched_pairs\n  pairs: {per_stratum: 20}"), fleet)
    compared = [[host for host in wave.hosts if host.compared] for wave in plan.waves]
    assert [len(own) for own in compared] == [2, 18, 20]
    for own in compared:
        for treated, control in zip(own[::2], own[1::2], strict=True):
            assert (treated.role, control.role) == (Role.TREATED, Role.CONTROL)
            assert treated.pair == control.pair == treated.host
            one, other = by_name[treated.host], by_name[control.host]
            assert (one.page_size_bytes, one.cpu_count) == (other.page_size_bytes, other.cpu_count)
            assert abs(one.memory_bytes - other.memory_bytes) < 2**24
    assert len({host.host for host in members(plan)}) == 60
    turned = [pair[0].host < pair[1].host for own in compared for pair in zip(own[::2], own[1::2], strict=True)]
    assert 4 < sum(turned) < 16, "the lot decides who changes kernel"


def test_the_same_seed_gives_the_same_pairs_and_another_others() -> None:
    chosen, fleet = spec("design: matched_pairs"), hosts(60)
    assert planned(chosen, fleet[::-1]) == planned(chosen, fleet)
    assert planned(chosen, fleet, "another").waves != planned(chosen, fleet).waves


def test_two_arms_are_of_one_size_in_every_wave() -> None:
    plan = planned(spec("design: two_arms\n  controls: {per_stratum: 20}\n  verdict_by_wave: 3"), hosts(60))
    for wave in plan.waves:
        roles = [host.role for host in wave.hosts if host.compared]
        assert roles == [Role.TREATED, Role.CONTROL] * (len(roles) // 2)
    (calendar,) = calendars("two_arms", [wave.hosts for wave in plan.waves], {})
    assert (calendar.until, calendar.blocks, calendar.controls) == ((0.0, 1.0, 2.0), (1, 10, 20), (1, 10, 20))
    assert [host.compared for host in members(plan)].count(False) == 20
    assert any("20 control hosts stay on the old kernel" in note for note in notes(plan, "two_arms"))


def notes(plan: WavePlan, design: str) -> list[str]:
    return list(design_notes(spec(f"design: {design}"), plan, Ledger()))


def test_abba_hosts_come_first_and_make_a_block_a_cycle() -> None:
    plan = planned(spec("design: abba\n  abba: {per_stratum: 4, cycles: 3}"), hosts(40))
    assert [[host.cycles for host in wave.hosts if host.compared] for wave in plan.waves] == [[3], [3, 3, 3], []]
    assert {host.role for host in members(plan) if host.compared} == {Role.CROSSOVER}
    (calendar,) = calendars("abba", [wave.hosts for wave in plan.waves], {"x86_64/vm": {SYSTEM_TIME: 0.01}})
    assert (calendar.until, calendar.blocks, calendar.controls) == ((0.0, 1.0), (3, 12), ())
    assert calendar.sigmas == ((SYSTEM_TIME, 0.01),)


def test_comparisons_fit_into_the_waves_up_to_the_deciding_one() -> None:
    chosen = spec("design: matched_pairs\n  pairs: {per_stratum: 20}\n  verdict_by_wave: 2")
    plan = planned(chosen, hosts(60))
    own = plan.comparisons["x86_64/vm"]
    # 25 % of the hosts that change kernel are what the second wave ends with.
    assert (own.comparisons, own.missing, own.decided_after) == (12, 20, 2)
    told = list(design_notes(chosen, plan, Ledger()))
    assert told[0] == "x86_64/vm: 20 pairs were asked for, and there is room for 12 up to wave 2."
    assert told[1] == (f"x86_64/vm: 12 pairs can decide {SYSTEM_TIME} on a margin of 5.3 % at best, not on 3 %.")


def test_power_takes_what_the_margin_takes_and_the_ledger_knows_better() -> None:
    chosen, fleet = spec("design: matched_pairs"), hosts(60)
    by_prior = needed_comparisons(chosen, ["x86_64/vm"], Ledger())["x86_64/vm"]
    quiet = Ledger(
        boots=tuple(
            Boot(
                host=f"h{index}",
                stratum="x86_64/vm",
                metric=SYSTEM_TIME,
                rollout="u0",
                kernel="k",
                order="o",
                boot_id=f"h{index}-{at}",
                at=float(at),
                value=60.0 + 0.1 * ((index + at) % 3),
                runs=4,
            )
            for index in range(20)
            for at in (1, 2)
        )
    )
    by_ledger = needed_comparisons(chosen, ["x86_64/vm"], quiet)["x86_64/vm"]
    assert 8 <= by_ledger < by_prior / 2
    assert planned(chosen, fleet, ledger=quiet).comparisons["x86_64/vm"].comparisons == by_ledger


@pytest.mark.parametrize(
    ("extra", "count", "refusal"),
    [
        ("design: matched_pairs", 3, "1 pair can never decide"),
        ("design: two_arms", 9, "4 control hosts can never decide"),
        ("design: abba\n  abba: {cycles: 1}", 4, "4 hosts with 1 cycles can never decide"),
        ("design: matched_pairs", 1, "0 pairs can never decide"),
    ],
)
def test_too_few_hosts_for_the_design_are_refused_with_the_way_out(extra: str, count: int, refusal: str) -> None:
    chosen = spec(extra)
    (told,) = refusals(chosen, planned(chosen, hosts(count)), Ledger())
    assert told.startswith(f"x86_64/vm: {refusal} {SYSTEM_TIME}, which takes ")
    assert "design: before_after" in told


def test_enough_hosts_and_no_design_are_not_refused() -> None:
    for extra in ("design: matched_pairs", "design: before_after"):
        assert not list(refusals(spec(extra), planned(spec(extra), hosts(60)), Ledger()))


def test_a_stratum_that_is_decided_by_its_last_wave_is_told() -> None:
    plan = planned(spec("design: matched_pairs"), hosts(60))
    assert any(note.startswith("x86_64/vm is decided after wave 3, its last") for note in notes(plan, "matched_pairs"))


def test_unlike_hosts_are_paired_last() -> None:
    fleet = [changed(host, cpu_count=index) for index, host in enumerate(hosts(5, kinds=1))]
    alike = [changed(host, name=f"z{host.name}", cpu_count=64) for host in hosts(4, kinds=1)]
    plan = planned(spec("design: matched_pairs\n  pairs: {per_stratum: 3}"), fleet + alike)
    pairs = [host.host for host in members(plan) if host.compared]
    assert {name[0] for name in pairs[:4]} == {"z"}
    assert {name[0] for name in pairs[4:]} == {"x"}


def test_a_plan_shows_who_is_compared_and_when_it_is_looked_at() -> None:
    chosen = spec("design: matched_pairs\n  pairs: {per_stratum: 20}\n  verdict_by_wave: 2")
    view = plan_view(chosen, planned(chosen, hosts(100)), {})
    (own,) = view.comparisons
    assert (view.design, own.blocks, own.looks, own.decided_after) == ("matched_pairs", 20, (1, 20), 2)
    assert own.sentence == "x86_64/vm: 20 pairs; looks at 1 and 20, decided after wave 2."
    first = view.waves[0].compared
    assert [one.role for one in first] == ["treated", "control"]
    assert {one.pair for one in first} == {first[0].host}
    assert from_message(to_message(view, pb.Plan), PlanView) == view
    console = Console(width=200)
    with console.capture() as shown:
        console.print(*plan_parts(view), sep="\n")
    assert f"{first[1].host} (control of {first[0].host})" in shown.get()
    assert own.sentence in shown.get()
