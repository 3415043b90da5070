"""Simulated worlds: reproducible to the last bit, no rule broken, and every file's mistakes told with their line."""

import os
import subprocess
import sys

import pytest
from sim_cases import EXAMPLES, HEAD, case

from controller.domain.errors import InvalidInput
from controller.sim.cases import drawn
from controller.sim.drawn import drawn_case
from controller.sim.faults.parse import parse_faults
from controller.sim.operators import VERBS
from controller.sim.run import simulate
from controller.views.simulation import SimulationView


def unbroken(faults: str = "", *, hosts: int = 6, seed: str = "1", then: str = "", more: str = "") -> SimulationView:
    """Run one case in which no rule may break."""
    view = simulate(case(faults, hosts=hosts, seed=seed, then=then, more=more))
    assert view.breaches == ()
    return view


@pytest.mark.parametrize("number", range(16))
def test_no_rule_breaks_in_a_drawn_world(number: int) -> None:
    """Each has another spec, another fleet and other faults; `make sim` runs thousands."""
    assert simulate(drawn_case(number, 8)).breaches == ()


def test_the_same_seed_gives_the_same_run_in_any_process() -> None:
    """Also where Python orders its sets otherwise."""
    script = "from controller.sim.drawn import drawn_case\nfrom controller.sim.run import simulate\n"
    script += "print([simulate(drawn_case(number, 8)) for number in (3, 6, 40)])"

    def run(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", script]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=120, env=environment, cwd=EXAMPLES.parents[1]
        ).stdout

    assert run("1") == run("2")


def test_nothing_goes_wrong_without_faults() -> None:
    view = unbroken()
    assert (view.state, view.steps, view.boots) == ("promoted", {"done": 6}, 6)
    assert [wave.decision for wave in view.waves] == ["promote", "promote"]


def test_a_kernel_that_panics_is_taken_back() -> None:
    view = unbroken("  new_kernel: {panics_at_boot: {share: 100 %}}\n")
    assert view.state == "reverted"
    assert "Kernel panic" in view.reason
    assert set(view.steps) == {"reverted", "skipped"}


def test_a_fault_can_be_limited_to_a_stratum() -> None:
    view = unbroken("  new_kernel: {panics_at_boot: {share: 100 %, strata: arm64/vm}}\n")
    assert view.state == "reverted"
    assert view.broken_hosts == 3


def test_a_refuted_claim_is_not_promoted() -> None:
    view = unbroken("  effects:\n    - {metric: swap_mount.cost, strata: arm64/vm, change: -1 %}\n")
    assert (view.state, view.waves[0].decision) == ("reverted", "revert")
    assert view.true_regressions == (("arm64/vm", "swap_mount.cost"),)
    assert view.bad_kernel_host_s > 0


def test_hosts_that_never_return_are_told() -> None:
    faults = "  new_kernel: {resets_at_boot: {share: 100 %}}\n  hosts: {never_return: {share: 100 %}}\n"
    view = unbroken(faults)
    assert view.state == "revert_incomplete"
    assert view.steps["lost"] >= 1


STUCK = "  new_kernel: {resets_at_boot: {share: 100 %}}\n  hosts: {never_return: {share: 100 %}MORE}\n"


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ("", "reverted"),
        # It is done, and nobody says so.
        (", mute_management: {share: 100 %}", "reverted"),
        (", management_away: {share: 100 %, every: 20s, down_for: 5s}", "reverted"),
        (", unmanaged: {share: 100 %}", "revert_incomplete"),
    ],
)
def test_hosts_that_never_return_by_themselves_have_their_power_cut(more: str, state: str) -> None:
    view = unbroken(STUCK.replace("MORE", more), more="    power_cycle: once\n")
    assert view.state == state, view.reason
    assert (view.steps.get("lost", 0) == 0) is (state == "reverted")


@pytest.mark.parametrize("moment", range(1, 40, 3))
def test_power_is_cut_once_wherever_the_controller_dies(moment: int) -> None:
    """Every rule is checked at every event, and how often power was really cut at the end."""
    faults = STUCK.replace("MORE", "") + "  controller: {crashes: {per_rollout: 40, down_for: 30s}}\n"
    view = unbroken(faults, seed=str(moment), more="    power_cycle: once\n")
    assert view.state in ("reverted", "revert_incomplete"), view.reason


def test_an_operator_may_act_at_any_moment() -> None:
    view = unbroken("  operator: {revert: {per_rollout: 4}}\n", hosts=10)
    assert view.incidents["operator revert"] == 1
    assert view.state == "reverted"


CHECKS = """\
  checks:
    - {name: orders, webhook: {url: "http://orders.invalid"}, every: 60s, deadline: 10m, on_fail: revert}
    - {name: dba, manual: true, deadline: 20m}
"""


@pytest.mark.parametrize(
    ("fault", "state", "told"),
    [
        ("", "promoted", "PROMOTE"),
        ("fails: {share: 100 %}", "reverted", "check orders"),
        ("silent: {share: 100 %}", "paused", "check orders of wave 1 is inconclusive: 4 errors"),
        ("errors: {share: 100 %}", "paused", "answers with what is no answer"),
        ("waits: {share: 100 %}", "paused", "check orders of wave 1 ran out of time"),
        # Whoever is asked often enough gets an answer in the end.
        ("errors: {share: 30 %}, waits: {share: 30 %}", "promoted", "PROMOTE"),
    ],
)
def test_checks_are_asked_and_no_wave_is_left_without_their_pass(fault: str, state: str, told: str) -> None:
    view = unbroken(f"  monitoring: {{{fault}}}\n" if fault else "", more=CHECKS, seed="4")
    assert (view.state, told in view.reason) == (state, True), view.reason


def test_drawn_worlds_have_checks_persons_and_designs() -> None:
    texts = [drawn_case(number, 20).spec_yaml for number in range(150)] + [drawn_case(3, 200).spec_yaml]
    for part in (
        "webhook:",
        "manual:",
        "dry_run:",
        "on_timeout: revert",
        "design: abba",
        "zone: Europe",
        "zone: America",
    ):
        assert any(part in text for text in texts), part
    large = [drawn_case(number, 200).spec_yaml for number in range(150)]
    for part in ("design: matched_pairs", "design: two_arms"):
        assert any(part in text for text in large), part


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("  hosts: {dead_disk: {share: 5}}\n", "faults.yaml:5: spec.hosts.dead_disk.share: must be"),
        ("  hosts: {dead_disc: {share: 5 %}}\n", "faults.yaml:5: spec.hosts.dead_disc: is not a known field"),
        ("  operator: {reboot: {per_rollout: 1}}\n", "faults.yaml:5: spec.operator.reboot: is no verb of an operator"),
        ("  effects:\n    - {metric: swap, change: -1 %}\n", "faults.yaml:6: spec.effects[0].metric: is no metric"),
        ("  effects:\n    - {metric: swap_mount.cost, change: 5}\n", "faults.yaml:6: spec.effects[0].change: must be"),
        ("  fleet:\n    - {architecture: arm64, share: 50 %}\n", "faults.yaml:5: spec.fleet: has shares of 50 %"),
        (
            "  monitoring: {fails: {share: 60 %}, waits: {share: 50 %}}\n",
            "faults.yaml:5: spec.monitoring: has shares of 110 %",
        ),
        ("  controller: {crashes: {per_rollout: 0}}\n", "faults.yaml:5: spec.controller.crashes.per_rollout: must be"),
    ],
)
def test_a_wrong_fault_file_is_refused_with_its_line(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_faults(HEAD + text, "faults.yaml", VERBS)
    assert str(refused.value).startswith(told)


def test_the_example_is_a_valid_fault_file() -> None:
    faults = parse_faults((EXAMPLES / "faults.yaml").read_text(), "faults.yaml", VERBS)
    assert "controller.crashes" in faults.names()


def test_a_fault_can_be_left_out() -> None:
    faults = parse_faults((EXAMPLES / "faults.yaml").read_text(), "faults.yaml", VERBS)
    less = faults.without(("controller.crashes", "operator.abort"))
    assert set(faults.names()) - set(less.names()) == {"controller.crashes", "operator.abort"}
    with pytest.raises(InvalidInput, match=r"--without hosts\.dead_disk: no such fault"):
        less.without(("hosts.dead_disk",))


def test_what_a_kernel_writes_after_the_rollout_is_kept_with_the_host() -> None:
    # A host of this world tells of a fatal line when everything is decided.
    assert simulate(drawn("919", hosts=20)).breaches == ()
