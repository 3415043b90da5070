"""Around the simulator: many seeds that can be interrupted, and small cases from large ones."""

from pathlib import Path

import pytest

from controller.cli.sim.simulation import command
from controller.domain.deciding import waves as advance_rollout
from controller.sim.cases import drawn
from controller.sim.run import simulate
from controller.sim.searching.campaign import Finished, run_all
from controller.sim.searching.shrink import broken_rule, shrink
from controller.views.simulation import SimulationView, distribution


def small(key: str) -> object:
    return drawn(key, hosts=4)


def test_what_is_finished_is_read_again_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "finished.jsonl"
    views = {key: simulate(drawn(key, hosts=4)) for key in ("1", "2")}
    for key, view in views.items():
        Finished(path).append(key, view)
    with path.open("a") as file:
        file.write('{"key": "3", "seed"')
    assert Finished(path).load() == views
    Finished(path).append("4", views["1"])
    assert Finished(path).load() == {**views, "4": views["1"]}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_campaign_gives_the_same_on_any_number_of_processes(jobs: int) -> None:
    found: dict[str, SimulationView] = {}
    run_all(["1", "2", "3"], small, jobs=jobs, done=found.__setitem__)  # type: ignore[arg-type]  # a Case
    assert found == {key: simulate(drawn(key, hosts=4)) for key in ("1", "2", "3")}


def test_a_breach_shrinks_to_a_small_case_with_a_command_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    free = advance_rollout._free
    monkeypatch.setattr(advance_rollout, "_free", lambda rollout, moving: free(rollout, moving) + 1)
    seed = next(seed for seed in range(50) if simulate(drawn(str(seed), hosts=8)).breaches)
    case = drawn(str(seed), hosts=8)
    rule = broken_rule(simulate(case))
    assert rule == "the disruption budget is never exceeded"
    least = shrink(case, rule)
    assert broken_rule(simulate(least)) == rule
    assert least.hosts < case.hosts
    assert least.faults.names() == ()
    told = command(least, case, "")
    assert told.startswith(f"kernroll sim --hosts {least.hosts} --seed {seed}")
    assert all(f"--without {name}" in told for name in case.faults.names())


def run(seed: str, state: str, reason: str = "", **more: object) -> SimulationView:
    given: dict[str, object] = {"duration_s": 60.0, **more}
    return SimulationView(seed=seed, hosts=4, state=state, reason=reason, **given)  # type: ignore[arg-type]  # as given


def test_many_runs_become_shares_by_what_was_true_of_the_kernel() -> None:
    found = distribution(
        [
            run("1", "promoted"),
            run("2", "reverted", "a: the kernel panicked", broken_hosts=1, bad_kernel_host_s=120.0),
            run("3", "reverted", "b: the kernel panicked", broken_hosts=2),
            run("4", "promoted", true_regressions=(("x86_64/vm", "swap_mount.cost"),)),
            run("5", "paused", "c: the rig failed", breaches=("a rule: broken",), duration_s=600.0),
        ]
    )
    assert found.states == {"promoted": 2, "reverted": 2, "paused": 1}
    assert [(one.reason, one.runs) for one in found.reasons] == [("the kernel panicked", 2), ("the rig failed", 1)]
    assert (found.good_kernels, found.good_kernels_turned_down) == (2, 1)
    assert (found.bad_kernels, found.bad_kernels_promoted) == (3, 1)
    assert (found.duration_median_s, found.duration_longest_s) == (60.0, 600.0)
    assert found.breaches == {"5": "a rule: broken"}
    with pytest.raises(ValueError, match="no run"):
        distribution([])
