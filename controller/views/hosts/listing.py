"""Enrolled hosts as operators see them."""

from dataclasses import fields

from controller.domain.fleet.decided import Fleet
from controller.domain.hosts.host import Host, HostFacts
from controller.domain.state.attempt import Attempt
from controller.views.hosts.booting import NEWEST_BOOTS, host_boot_view
from controller.views.models import Epoch, HostFactsView, HostView

_NO_DECISIONS = Fleet()


def host_view(
    host: Host, attempt: Attempt | None = None, fleet: Fleet = _NO_DECISIONS, *, boots: int = NEWEST_BOOTS
) -> HostView:
    """Return one host with its newest `boots`; `attempt` is its part in an active rollout, None when it is free."""
    quarantine = fleet.quarantined.get(host.name)
    told = {field.name: getattr(host, field.name) for field in fields(HostFacts)}
    told["labels"] = dict(sorted(host.labels.items()))
    return HostView(
        name=host.name,
        stratum=host.stratum,
        connected=host.connected,
        last_seen=Epoch(host.last_seen) if host.last_seen else None,
        facts=HostFactsView(hostname=host.name, **told),
        rollout="" if attempt is None else attempt.rollout,
        step="" if attempt is None else attempt.step.value,
        labels=dict(sorted(fleet.labels_of(host).items())),
        quarantine="" if quarantine is None else f"by {quarantine.by}: {quarantine.remark}",
        boot=None if host.boot is None else host_boot_view(host.boot, boots),
    )
