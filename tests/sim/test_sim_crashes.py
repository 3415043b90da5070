"""The controller is killed at every commit and at every effect of a small rollout: each end is the same."""

import pytest
from killed_everywhere import cut_and_killed, kill_everywhere
from sim_cases import case

# What else goes wrong, and on how many hosts. Where a failure of one host stops the others, only one host has but one
# possible end: how far the others have come by then is chance.
CASES = {
    "nothing": ("", 2),
    "the kernel panics": ("  new_kernel: {panics_at_boot: {share: 100 %}}\n", 1),
    "hosts are nodes": ("  cluster: {nodes: {share: 100 %}}\n", 2),
    "a node is never empty": ("  cluster: {nodes: {share: 100 %}, never_empty: {share: 100 %}}\n", 1),
    "the claim is refuted": ("  effects:\n    - {metric: swap_mount.cost, change: -1 %}\n", 1),
}


@pytest.mark.parametrize("more", ["", ", mute_management: {share: 100 %}"])
def test_a_kill_anywhere_never_cuts_power_twice(more: str) -> None:
    """What ends in between is told as unknown, and the host is waited for: its power may have been cut, or not."""
    runs = cut_and_killed(more)
    view, world = next(runs)
    assert (view.state, world.outlets.cuts) == ("reverted", {"host-00001": 1})
    told: dict[str, int] = {}
    for view, killed in runs:
        power = killed.witness.seen.attempts[killed.uid]["host-00001"].power
        assert view.breaches == ()
        assert power is not None
        assert power.outcome is not None
        assert (view.state == "reverted") is (killed.outlets.cuts.total() == 1)
        told[power.outcome] = told.get(power.outcome, 0) + 1
    assert told["unknown"] >= 2


@pytest.mark.parametrize(("faults", "hosts"), CASES.values(), ids=CASES)
def test_a_kill_anywhere_changes_no_end_and_boots_nobody_twice(faults: str, hosts: int) -> None:
    runs = list(kill_everywhere(case(faults, hosts=hosts)))
    # A host that is never drained ends early; the others walk their whole way.
    assert len(runs) > (30 if "never_empty" in faults else 40)
    assert [(run.point, run.difference) for run in runs if run.difference] == []
