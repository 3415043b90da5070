"""How hosts look on a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from controller.cli.output import cells
from controller.domain.hosts.facts import FACTS, Fact
from controller.domain.hosts.host import HostFacts, SwapDevice
from controller.views.models import HostView
from controller.words import bytes_text, count_text, duration_text, time_text


def host_rows(hosts: Sequence[HostView], now: float, width: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return titles and one row per host; a narrow terminal gets fewer columns."""
    titles = tuple(title for title in _COLUMNS if width >= _NEEDED_WIDTHS.get(title, 0))
    rows = []
    for host in hosts:
        found = {
            "HOST": host.name,
            "STRATUM": host.stratum,
            "KERNEL": host.facts.kernel_release,
            "MEMORY": bytes_text(host.facts.memory_bytes),
            "CONNECTED": heard(host, now),
            "ROLLOUT": host.rollout or ("in quarantine" if host.quarantine else ""),
            "STEP": host.step,
        }
        rows.append(cells(*(found[title] for title in titles)))
    return titles, rows


# Columns of numbers.
RIGHT = frozenset({"MEMORY"})
_COLUMNS = ("HOST", "STRATUM", "KERNEL", "MEMORY", "CONNECTED", "ROLLOUT", "STEP")
# Columns that are left out of a terminal with fewer characters a line; `hosts show` has them all.
_NEEDED_WIDTHS = {"MEMORY": 110, "STRATUM": 100}


def heard(host: HostView, now: float) -> str:
    """Say whether the host is connected, and since when it is not."""
    if host.connected:
        return "yes"
    if host.last_seen is None:
        return "never"
    return f"no, heard {duration_text(now - host.last_seen)} ago"


def host_details(host: HostView, now: float) -> Table:
    """Return one line per fact."""
    facts = host.facts
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    swap = [_swap_text(device) for device in facts.swap_devices]
    rows = {
        "Host": host.name,
        "Stratum": host.stratum,
        "Connected": heard(host, now),
        "Last heard": None if host.last_seen is None else time_text(host.last_seen),
        "Rollout": f"{host.rollout}, {host.step}" if host.rollout else "none",
        **{fact.heading: _fact(facts, fact) for fact in FACTS.values() if fact.heading},
        "Boot": facts.boot_id,
        "Swap": "; ".join(swap) or "none",
        "Labels": ", ".join(f"{key}={value}" for key, value in host.labels.items()) or "none",
        "Quarantine": host.quarantine or "none",
        "Attention": host.attention or "none",
        "Unacknowledged": count_text(host.spooled_reports, "report"),
    }
    for title, value in rows.items():
        table.add_row(title, *cells(value))
    return table


def _fact(facts: HostFacts, fact: Fact) -> Any:
    value = getattr(facts, fact.field)
    return bytes_text(value) if fact.is_size else value


def _swap_text(device: SwapDevice) -> str:
    backend = f", {device.backend}" if device.backend else ""
    return f"{device.path}{backend} {bytes_text(device.size_bytes)}, {bytes_text(device.used_bytes)} used"
