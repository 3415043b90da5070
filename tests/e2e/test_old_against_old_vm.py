"""A real machine measures its own kernel, reboots into it and measures again; the ledger knows its noise afterwards."""

from pathlib import Path

import pytest
from real_fleet import HOST, OLD, ROLLOUT, real_fleet, spec

pytestmark = pytest.mark.e2e

# Old against old nothing changes; this is what a reading of used memory may still move.
LARGEST_CHANGE_MIB = 4.0


def test_a_host_keeps_its_kernel_and_teaches_the_ledger(tmp_path: Path) -> None:
    with real_fleet(tmp_path) as fleet:
        fleet.start(spec(repetitions=4), aa=True)
        ended = fleet.ended(name=f"{ROLLOUT}-aa")
        assert ended.state == "completed", ended.blocking_reason
        (host,) = ended.waves[0].hosts
        assert (host.host, host.role, host.step, host.boots) == (HOST, "control", "done", 2)
        assert host.kernel_release.startswith(f"{OLD}+")
        cost = next(one for one in ended.verdicts if one.metric == "swap_mount.cost")
        assert cost.verdict == "PASS", cost.sentence
        assert cost.interval is not None
        assert abs(cost.interval.estimate) < LARGEST_CHANGE_MIB
        with fleet.client() as client:
            cells = {cell.metric: cell for cell in client.get_ledger().cells}
            planned = client.plan_rollout(spec(), "test.yaml")
        assert (cells["swap_mount.cost"].boots, cells["swap_mount.cost"].hosts) == (2, 1)
        assert cells["swap_mount.cost"].judgements == 1
        assert cells["swap_mount.swapoff_time"].boots == 2
        assert {cell.metric for cell in planned.cells} == {"swap_mount.swapon_time", "swap_mount.swapoff_time"}
