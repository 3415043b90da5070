"""Where everything reliable goes: stamped, spooled on disk, and from there sent by whatever session is open."""

from collections.abc import Callable
from dataclasses import replace

from agent.adapters.state.spool import ReportSpool
from agent.domain.results import KernelLog, Report, ReportBody, kernel_log_report_id
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
        if self.spool.add(report):
            self.on_news()

    def report_kernel_log(self, log: KernelLog) -> None:
        """Make a batch of kernel log records durable, together with the count of those dropped for want of room."""
        lost, self.spool.lost_records = self.spool.lost_records, 0
        log = replace(log, lost_records=log.lost_records + lost)
        self.report(kernel_log_report_id(self.host, self.boot_id, log), "", log)
