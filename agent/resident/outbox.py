"""Where everything reliable goes: stamped, spooled on disk, and from there sent by whatever session is open."""

from collections.abc import Callable

from agent.adapters.state.spool import ReportSpool
from agent.domain.results import KernelLog, Report, ReportBody, kernel_log_report_id, lost_records_report_id
from agent.domain.session.report_size import fitted


class Outbox:
    """Turns results into reports."""

    def __init__(self, *, host: str, boot_id: str, spool: ReportSpool, now: Callable[[], float]) -> None:
        self.host = host
        self.boot_id = boot_id
        self.spool = spool
        self._now = now
        # Called after every new report; the open session replaces it.
        self.on_news: Callable[[], None] = lambda: None

    def report(self, report_id: str, command_id: str, body: ReportBody, *, boot_id: str = "") -> None:
        """Make one result of this boot, or of `boot_id`, durable; a second telling of an id changes nothing."""
        report = Report(
            report_id=report_id,
            command_id=command_id,
            boot_id=boot_id or self.boot_id,
            at=self._now(),
            body=fitted(body),
        )
        if self.spool.make_room(report):
            # Before what takes their place: nothing may be decided upon it by someone who does not know of the hole.
            self.tell_losses()
        self._add(report)
        self.tell_losses()

    def report_kernel_log(self, log: KernelLog) -> None:
        """Make a batch of kernel log records durable; one that tells of lost records alone is told with all others."""
        if log.records or log.unreadable:
            self.report(kernel_log_report_id(self.host, self.boot_id, log), "", log)
            return
        self.spool.lost.count({self.boot_id: log.lost_records})
        self.tell_losses()

    def begin(self) -> None:
        """Take note of the boot, and tell what was lost since and before; what nobody knows the boot of, too."""
        self.spool.lost.begin(self.boot_id)
        self.tell_losses()

    def tell_losses(self) -> None:
        """Report of every boot how many records of its kernel log are lost; no two such reports of a boot wait."""
        for each in self.spool.lost.losses.untold:
            begins = lost_records_report_id(self.host, each.boot_id, "")
            if any(entry.report_id.startswith(begins) for entry in self.spool.queue.entries):
                continue
            self._add(
                Report(
                    report_id=lost_records_report_id(self.host, each.boot_id, each.lost),
                    command_id="",
                    boot_id=each.boot_id,
                    at=self._now(),
                    body=KernelLog(records=(), lost_records=each.untold),
                )
            )
            if self.spool.durable:
                # Else it is told once more, under the same name.
                self.spool.lost.told(each.boot_id, each.lost)

    def _add(self, report: Report) -> None:
        if self.spool.add(report):
            self.on_news()
