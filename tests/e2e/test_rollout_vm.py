"""The headline on real VMs: from 7.0.13 to 7.1.13 is promoted, with the numbers that the kernels' structures have."""

from pathlib import Path

import pytest
from real_fleet import ARM_HOST, HOST, NEW, OLD, ROLLOUT, real_fleet, spec

from controller.domain.delivery import BootCause, BootEnd

pytestmark = pytest.mark.vm

# MiB per TiB: the sizes of the kernels' own structures, and how far a measurement may be from them.
OLD_COST, NEW_COST, TOLERANCE = 819.0, 567.0, 0.03


def test_the_series_own_kernels_are_promoted_on_both_architectures(tmp_path: Path) -> None:
    hosts = {"x86_64": HOST, "arm64": ARM_HOST}
    with real_fleet(tmp_path, tuple(hosts)) as fleet:
        fleet.start(spec(tuple(hosts)))
        ended = fleet.ended()
        assert ended.state == "promoted", ended.blocking_reason
        report = fleet.report()
        with fleet.client() as client:
            text = client.report_rollout(ROLLOUT).text
        costs = {cost["stratum"].partition("/")[0]: cost for cost in report["costs"]}
        for architecture, host in hosts.items():
            assert costs[architecture]["old"] == pytest.approx(OLD_COST, rel=TOLERANCE)
            assert costs[architecture]["new"] == pytest.approx(NEW_COST, rel=TOLERANCE)
            found = next(one for one in report["hosts"] if one["host"] == host)
            assert (len(found["old_values"]), len(found["new_values"]), found["runs"]) == (1, 1, [["ok", 2]])
            assert found["saving"]["low"] > 230.4
            assert len(found["boot_ids"]) == 2
            assert [(boot.cause, boot.end) for boot in fleet.boots(host)] == [
                (BootCause.INITIAL, BootEnd.REPLACED),
                (BootCause.TRIAL, None),
            ]
        claims = [verdict["claim"] for verdict in report["verdicts"] if verdict["metric"] == "swap_mount.cost"]
        assert claims == ["confirmed", "confirmed"]
    rows = [line for line in text.splitlines() if line.lstrip().startswith(("x86_64/", "arm64/"))]
    for architecture in hosts:
        for version in (OLD, NEW):
            assert any(architecture in row and f"{version}+" in row for row in rows), text
