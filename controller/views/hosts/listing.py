"""Enrolled hosts as operators see them, and the selector of `kernroll hosts list`."""

from collections.abc import Iterable

from controller.domain.errors import InvalidInput
from controller.domain.fleet.decided import Fleet
from controller.domain.hosts.host import Host
from controller.domain.state.attempt import Attempt
from controller.views.models import Epoch, HostFactsView, HostView, SwapDeviceView

_NO_DECISIONS = Fleet()


def host_view(host: Host, attempt: Attempt | None = None, fleet: Fleet = _NO_DECISIONS) -> HostView:
    """Return one host; `attempt` is its part in an active rollout, None when it is free."""
    quarantine = fleet.quarantined.get(host.name)
    return HostView(
        name=host.name,
        stratum=host.stratum,
        connected=host.connected,
        last_seen=Epoch(host.last_seen) if host.last_seen else None,
        facts=HostFactsView(
            hostname=host.name,
            architecture=host.architecture,
            page_size_bytes=host.page_size_bytes,
            memory_bytes=host.memory_bytes,
            kernel_release=host.kernel_release,
            kernel_version=host.kernel_version,
            boot_id=host.boot_id,
            platform=host.platform,
            swap_devices=tuple(
                SwapDeviceView(
                    path=device.path,
                    size_bytes=device.size_bytes,
                    used_bytes=device.used_bytes,
                    backend=device.backend,
                )
                for device in host.swap_devices
            ),
            labels=dict(sorted(host.labels.items())),
            agent_version=host.agent_version,
            kernel_command_line=host.kernel_command_line,
            cpu_count=host.cpu_count,
            firmware=host.firmware,
            boot_loader=host.boot_loader,
            virtualization=host.virtualization,
        ),
        rollout="" if attempt is None else attempt.rollout,
        step="" if attempt is None else attempt.step.value,
        labels=dict(sorted(fleet.labels_of(host).items())),
        quarantine="" if quarantine is None else f"by {quarantine.by}: {quarantine.remark}",
    )


def select_hosts(views: Iterable[HostView], selector: str) -> tuple[HostView, ...]:
    """Return the hosts that meet every "name=value" of a comma-separated selector, by name; empty selects all.

    Facts come before labels of the same name. Raises InvalidInput for a part without "=".
    """
    wanted = _parse(selector)
    chosen = (view for view in views if all(_value(view, key) == value for key, value in wanted))
    return tuple(sorted(chosen, key=lambda view: view.name))


def _parse(selector: str) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for part in filter(None, (part.strip() for part in selector.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InvalidInput(f"selector: {part!r} must be name=value, for example architecture=arm64")
        pairs.append((key.strip(), value.strip()))
    return tuple(pairs)


def _value(view: HostView, key: str) -> str | None:
    facts = {
        "host": view.name,
        "stratum": view.stratum,
        "architecture": view.facts.architecture,
        "platform": view.facts.platform,
        "kernel_release": view.facts.kernel_release,
        "connected": "yes" if view.connected else "no",
        "rollout": view.rollout,
        "step": view.step,
    }
    return facts.get(key, view.labels.get(key))
