"""What a host that starts from its own disk says of its boot, as operators see it."""

from typing import Final

from controller.domain.delivery import BootRecord
from controller.domain.hosts.loaders import HostBoot
from controller.views.models import BootKernelView, Epoch, HostBootRecordView, HostBootView

# Enough for a trial, its fallback and what was before; a fleet's worth of all that hosts keep fills no message.
NEWEST_BOOTS: Final = 5


def host_boot_view(boot: HostBoot, boots: int = NEWEST_BOOTS) -> HostBootView:
    """Return the boot side of a host with its newest `boots`."""
    status = boot.delivery
    records = status.boots[-boots:] if boots else ()
    return HostBootView(
        loader=boot.loader,
        default_kernel=_kernel(boot, status.default),
        running_kernel=_kernel(boot, status.running or ""),
        armed_kernel=_kernel(boot, status.armed or ""),
        pinned=boot.pinned,
        proven_at=None if boot.proven_at is None else Epoch(boot.proven_at),
        boots_by=boot.boots_by,
        rehearsal_failed=boot.rehearsal_failed,
        refusals=boot.refusals,
        withdrawn=boot.withdrawn,
        watchdog=boot.watchdog,
        boots=tuple(_record(boot, one) for one in records),
    )


def _kernel(boot: HostBoot, digest: str) -> BootKernelView | None:
    return BootKernelView(digest=digest, release=boot.releases.get(digest, "")) if digest else None


def _record(boot: HostBoot, record: BootRecord) -> HostBootRecordView:
    return HostBootRecordView(
        number=record.number,
        kernel=BootKernelView(digest=record.kernel, release=boot.releases.get(record.kernel, "")),
        cause=record.cause.value,
        end=record.end.value if record.end else "",
        line=record.console_line,
        command_id=record.command_id,
        started_at=Epoch(record.started_at),
        ended_at=None if record.ended_at is None else Epoch(record.ended_at),
    )
