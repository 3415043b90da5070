"""What a host that starts from its own disk says of its boot, on a terminal."""

from rich.console import RenderableType
from rich.table import Table

from controller.cli.output import cells, filled_table
from controller.views.models import BootKernelView, HostBootRecordView, HostBootView, HostView
from controller.words import time_text

# Enough of a digest to tell it from others.
_DIGEST_CHARACTERS = 12
_TITLES = ("BOOT", "KERNEL", "WHY", "STARTED", "ENDED", "HOW", "LAST LINE")


def boot_parts(host: HostView) -> list[RenderableType]:
    """Return the section; nothing for a host that tells nothing of its boot."""
    boot = host.boot
    if boot is None:
        return []
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        ("Loader", boot.loader),
        ("Default", kernel_text(boot.default_kernel)),
        ("Running", kernel_text(boot.running_kernel)),
        ("Armed", kernel_text(boot.armed_kernel) or _unarmed(boot)),
        ("Pinned", "yes" if boot.pinned else "no, a newly installed kernel may become the default"),
        ("Proven", proven_text(host.name, boot)),
        ("Watchdog", watchdog_text(boot)),
        *(("Refused", f"{one.code}: {one.cause}. {one.remedy}") for one in boot.refusals),
        *(("Hang", f"{one.cause}. {one.remedy}") for one in (boot.watchdog.gaps if boot.watchdog else ())),
    ]
    for title, value in rows:
        table.add_row(title, *cells(value))
    parts: list[RenderableType] = ["", "Boot", table]
    if boot.boots:
        parts += ["", filled_table(_TITLES, [_row(one) for one in reversed(boot.boots)], frozenset({"BOOT"}))]
    return parts


def proven_text(host: str, boot: HostBootView) -> str:
    """Say whether it is proven that the host comes back by itself, or what to do."""
    if boot.proven_at is not None:
        return f"{time_text(boot.proven_at)}, by {boot.boots_by}"
    if boot.rehearsal_failed:
        return f"no: {boot.rehearsal_failed}"
    return f"no: `kernroll hosts rehearse -i INVENTORY {host}`"


def watchdog_text(boot: HostBootView) -> str:
    """Say which watchdog systemd keeps open, of those that there are."""
    found = boot.watchdog
    if found is None:
        return "not told: `kernroll hosts enroll` brings a newer kernroll-boot there"
    if found.open:
        return f"{found.open}, which resets the machine after {found.timeout_s} s" if found.timeout_s else found.open
    return f"none is open, of {', '.join(found.devices)}" if found.devices else "none"


def kernel_text(kernel: BootKernelView | None) -> str:
    """Return a kernel's release and the beginning of its digest; empty for none."""
    if kernel is None:
        return ""
    digest = kernel.digest[:_DIGEST_CHARACTERS]
    return f"{kernel.release} ({digest})" if kernel.release else digest


def _unarmed(boot: HostBootView) -> str:
    return f"nothing any more: {boot.withdrawn}" if boot.withdrawn else "nothing"


def _row(boot: HostBootRecordView) -> tuple[str, ...]:
    ended = "" if boot.ended_at is None else time_text(boot.ended_at)
    end = boot.end.replace("_", " ") or "runs"
    return cells(boot.number, kernel_text(boot.kernel), boot.cause, time_text(boot.started_at), ended, end, boot.line)
