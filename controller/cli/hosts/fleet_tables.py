"""How the fleet's freeze, quarantines and denied kernels look on a terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from controller.cli.output import cells, plain_table
from controller.views.hosts.fleet import DenialView, FleetView, InventoryDiffView
from controller.words import count_text, names_text, time_text

_DIGEST_CHARACTERS = 12


def fleet_parts(fleet: FleetView) -> list[RenderableType]:
    """Return everything that holds now."""
    parts: list[RenderableType] = [f"{count_text(fleet.enrolled, 'host')} enrolled, {fleet.connected} connected."]
    freeze = fleet.freeze
    if freeze is None:
        parts.append("Not frozen: rollouts admit hosts.")
    else:
        end = "until it is thawed" if freeze.until is None else f"until {time_text(freeze.until)}"
        parts.append(f"FROZEN {end}, by {freeze.by} since {time_text(freeze.at)}: {freeze.remark}")
    if fleet.quarantined:
        table = plain_table("QUARANTINED", "SINCE", "BY", "REMARK")
        for one in fleet.quarantined:
            table.add_row(*cells(one.host, time_text(one.at), one.by, one.remark))
        parts += ["", table]
    if fleet.denials:
        parts += ["", denials_table(fleet.denials)]
    if fleet.missing:
        names = names_text([one.host for one in fleet.missing])
        parts += ["", f"Expected by an inventory and not enrolled: {names}."]
    return parts


def denials_table(denials: Sequence[DenialView]) -> Table:
    """Return one line per rule; a whole digest is shortened to what identifies it."""
    table = plain_table("DENIED KERNEL", "ON", "SINCE", "BY", "REASON")
    for one in denials:
        where = one.where or "all hosts"
        table.add_row(*cells(short_kernel(one.kernel), where, time_text(one.at), one.by, one.reason))
    return table


def short_kernel(kernel: str) -> str:
    """Return a digest's beginning; anything else as it is."""
    digest = len(kernel) == 64 and all(digit in "0123456789abcdef" for digit in kernel)
    return kernel[:_DIGEST_CHARACTERS] if digest else kernel


def diff_lines(diff: InventoryDiffView, *, dry_run: bool) -> Iterator[str]:
    """Yield one line per host that an import changes, then what it comes to."""
    counts = Counter(one.what for one in diff.changes)
    missing = set(diff.missing)
    for one in diff.changes:
        parts = [f"{key}={value}" for key, value in one.labels.items()]
        parts += [f"{key} taken back" for key in one.removed]
        absent = " (not enrolled)" if one.host in missing else ""
        yield f"{_SIGNS[one.what]} {one.host}{absent}: {', '.join(parts) or 'no label'}"
    told = ", ".join(f"{counts[what]} {what}" for what in _SIGNS)
    yield f"{diff.inventory}: {told}, {diff.unchanged} unchanged."
    if diff.missing:
        verb = "is expected and has" if len(diff.missing) == 1 else "are expected and have"
        yield f"{names_text(diff.missing)} {verb} not enrolled."
    if dry_run and diff.changes:
        yield "Nothing was changed: this was a dry run."


_SIGNS = {"added": "+", "changed": "~", "removed": "-"}
