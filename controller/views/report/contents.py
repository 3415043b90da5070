"""The report's order: verdict, the cover letter's table, costs, hosts, fleet, failures, environment, timeline."""

from collections.abc import Iterator, Sequence

from controller.gate.trial.changes import CONFOUNDED
from controller.views.models import IntervalView
from controller.views.report.blocks import Block, Bullets, Heading, Paragraph, Table
from controller.views.report.compared import compared
from controller.views.report.model import FreeOutput, FreeTable, HostResult, Moment, Report
from controller.words import (
    bytes_text,
    count_text,
    duration_text,
    names_text,
    number_text,
    offset_text,
    signed_text,
    time_text,
)

# The timeline of a large fleet is in the JSON report; people read this many lines.
_TIMELINE_LINES = 200


def contents(report: Report) -> Iterator[Block]:
    """Yield the document."""
    yield Heading(1, f"{report.rollout}: {report.state.replace('_', ' ')}")
    yield Paragraph(_summary(report))
    if report.reason:
        word = report.state.replace("_", " ")
        told = report.reason if report.reason.startswith(f"{word} ") else f"{word}: {report.reason}"
        yield Paragraph(told[:1].upper() + told[1:])
    yield from _failures(report)
    yield from _free(report)
    yield from _costs(report)
    yield from _performance(report)
    yield from compared(report)
    yield from _verdicts(report)
    yield from _checks(report)
    yield from _hosts(report)
    if report.confounders:
        yield Heading(2, "Beside the kernel")
        yield Bullets(report.confounders)
    yield from _environment(report)
    yield from _timeline(report.timeline)


def _summary(report: Report) -> str:
    kernels = ", ".join(f"{kernel.release} ({kernel.architecture})" for kernel in report.kernels)
    old = names_text(sorted({host.old_release for host in report.hosts if host.old_release}))
    hosts = count_text(len(report.hosts), "host")
    began = f"started {time_text(report.started_at)}" if report.started_at is not None else "not started"
    took = ""
    if report.started_at is not None and report.ended_at is not None:
        took = f", took {duration_text(report.ended_at - report.started_at)}"
    what = f"Old against old: {old or 'nothing yet'}" if report.aa else f"{f'From {old} to' if old else 'To'} {kernels}"
    return f"{what} on {hosts}; {began}{took}."


def _failures(report: Report) -> Iterator[Block]:
    if not report.failures and not report.lost:
        return
    yield Heading(2, "What went wrong")
    items: list[str] = []
    for failure in report.failures:
        line = f": “{failure.line}”" if failure.line else ""
        back = "; it is not back on its old kernel"
        if failure.back_after_s is not None:
            back = f"; back on its old kernel after {duration_text(failure.back_after_s)}"
        elif failure.step == "skipped":
            back = "; its kernel was not touched"
        rig = "" if failure.condemns_kernel else " (this does not speak against the kernel)"
        items.append(f"{failure.host} ({failure.stratum}): {failure.sentence}{line}{back}{rig}.")
    if report.lost:
        items.append(f"Not back: {names_text(report.lost)}.")
    yield Bullets(tuple(items))


def _free(report: Report) -> Iterator[Block]:
    if not report.free_tables:
        return
    yield Heading(2, "free -m, used, before and after swapon (MiB)")
    rows: list[tuple[str, ...]] = []
    for table in report.free_tables:
        for release, before, after in (
            (table.old_release, table.old_before, table.old_after),
            (table.new_release, table.new_before, table.new_after),
        ):
            added = signed_text(after.used_mib - before.used_mib, 0)
            rows.append((table.stratum, release, f"{before.used_mib:.0f}", f"{after.used_mib:.0f}", added))
        before_change = table.new_before.used_mib - table.old_before.used_mib
        after_change = table.new_after.used_mib - table.old_after.used_mib
        changes = (before_change, after_change, after_change - before_change)
        rows.append((table.stratum, "change", *(signed_text(change, 0) for change in changes)))
    yield Table(
        titles=("Stratum", "Kernel", "Before", "After", "Added"), rows=tuple(rows), numbers=frozenset({2, 3, 4})
    )
    for table in report.free_tables:
        yield Paragraph(
            f"{table.stratum}: host {table.host}, {bytes_text(table.device_tib * 2**40)} of swap, mounted and "
            "idle; of each kernel the run whose cost is the median."
        )
        yield _free_output(table)


def _free_output(table: FreeTable) -> Table:
    """Return the whole output of the four readings under one another."""
    readings: tuple[tuple[str, FreeOutput], ...] = (
        ("old, before", table.old_before),
        ("old, after", table.old_after),
        ("new, before", table.new_before),
        ("new, after", table.new_after),
    )
    columns = max((output.columns for _, output in readings), key=len)
    rows: list[tuple[str, ...]] = []
    for title, output in readings:
        for name, numbers in output.lines:
            if name == "Mem":
                rows.append((title, *numbers, *[""] * (len(columns) - len(numbers))))
    return Table(titles=("Mem:", *columns), rows=tuple(rows), numbers=frozenset(range(1, len(columns) + 1)))


def _costs(report: Report) -> Iterator[Block]:
    if not report.costs:
        return
    first = report.costs[0]
    yield Heading(2, f"{first.metric}: {first.title} ({first.unit})")
    rows = []
    for cost in report.costs:
        share = f" ({signed_text((cost.new - cost.old) / cost.old * 100)} %)" if cost.old else ""
        rows.append(
            (
                cost.stratum,
                number_text(cost.old),
                number_text(cost.new),
                f"{signed_text(cost.new - cost.old)}{share}",
                _change(cost.old_swapon_s, cost.new_swapon_s, 2),
                str(cost.hosts),
                f"{cost.old_runs} + {cost.new_runs}",
            )
        )
    titles = ("Stratum", "Old", "New", "Change", "swapon, s", "Hosts", "Runs")
    yield Table(titles=titles, rows=tuple(rows), numbers=frozenset({1, 2, 3, 4, 5}))
    if report.structure_sizes:
        yield Paragraph("Against the sizes of the kernel's own structures:")
        yield Bullets(report.structure_sizes)


def _performance(report: Report) -> Iterator[Block]:
    """Yield a table a stratum: means of all runs, and their coefficients of variation."""
    sides = ("First boot", "Second boot") if report.aa else ("Old", "New")
    for stratum in sorted({one.stratum for one in report.performance}):
        yield Heading(2, f"Performance, {stratum}")
        rows = [
            (
                f"{one.metric}, {one.unit}",
                number_text(one.old, 2),
                number_text(one.new, 2),
                "-" if one.change is None else f"{signed_text(one.change)} %",
                f"{_cv_text(one.old_cv)}, {_cv_text(one.new_cv)}",
                f"{one.old_runs} + {one.new_runs}",
            )
            for one in report.performance
            if one.stratum == stratum
        ]
        titles = ("Metric", *sides, "Change", "CV, %", "Runs")
        yield Table(titles=titles, rows=tuple(rows), numbers=frozenset({1, 2, 3}))
        unfit = tuple(
            f"{host} for {one.metric}: {why}."
            for one in report.performance
            if one.stratum == stratum
            for host, why in one.unqualified
        )
        if unfit:
            yield Paragraph("Not qualified to be measured on, and left out where others are:")
            yield Bullets(unfit)


def _cv_text(cv: float | None) -> str:
    return "-" if cv is None else number_text(cv)


def _verdicts(report: Report) -> Iterator[Block]:
    if not report.verdicts and not report.fleet:
        return
    yield Heading(2, "Verdicts")
    # What no design stands behind is told once and not metric by metric.
    confounded = [one for one in report.verdicts if not one.worth_a_line and CONFOUNDED in one.sentence]
    items = [verdict.sentence for verdict in report.verdicts if verdict not in confounded]
    if confounded:
        names = names_text(sorted({verdict.metric for verdict in confounded}))
        items.append(f"{names}: {CONFOUNDED}: before and after alone cannot tell the kernel from the hour.")
    yield Bullets((*items, *(total.sentence for total in report.fleet)))


def _checks(report: Report) -> Iterator[Block]:
    """Yield what else had to pass, wave by wave."""
    if not report.checks:
        return
    yield Heading(2, "Checks")
    rows = []
    for check in report.checks:
        name = f"{check.name} (only reported)" if check.dry_run else check.name
        value = "-" if check.value is None else f"{check.value:.6g}"
        rows.append((str(check.wave), name, check.state.replace("_", " "), value, check.bound or "-"))
    yield Table(titles=("Wave", "Check", "State", "Value", "Bound"), rows=tuple(rows), numbers=frozenset({0, 3}))
    yield Bullets(tuple(f"{one.sentence[:1].upper()}{one.sentence[1:]}." for one in report.checks))


def _hosts(report: Report) -> Iterator[Block]:
    hosts = report.hosts
    if not hosts:
        return
    yield Heading(2, f"Hosts ({hosts[0].metric}, {hosts[0].unit})")
    rows = []
    for host in hosts:
        ended = ", ".join(f"{count} {word}" for word, count in host.runs) or "none"
        role = "" if host.role == "treated" or report.aa else f" ({host.role})"
        rows.append(
            (
                f"{host.host}{role}",
                host.step,
                _mean_text(host.old_values),
                _mean_text(host.new_values),
                _interval(host.saving),
                str(host.boots),
                ended,
            )
        )
    sides = ("First boot", "Second boot") if report.aa else ("Old", "New")
    titles = ("Host", "Step", *sides, f"Saves ({report.confidence * 100:g} % interval)", "Boots heard", "Runs")
    yield Table(titles=titles, rows=tuple(rows), numbers=frozenset({2, 3, 5}))
    strange = [f"{host.host}, {outlier}." for host in hosts for outlier in host.outliers]
    if strange:
        yield Paragraph("Runs far from the others of their kernel on their host; they are counted in:")
        yield Bullets(tuple(strange))


def _environment(report: Report) -> Iterator[Block]:
    yield Heading(2, "Environment")
    items = []
    added = dict(report.command_lines)
    for kernel in report.kernels:
        line = f"; command line “… {added[kernel.architecture]}”" if added.get(kernel.architecture) else ""
        word = "Staged and not booted" if report.aa else "New"
        release = f"{kernel.release}, {kernel.source}, sha256 {kernel.digest}"
        items.append(f"{word}, {kernel.architecture}: {release}{line}.")
    olds = sorted(
        {(h.stratum.split("/")[0], h.old_release, h.old_kernel_digest) for h in report.hosts if h.old_release}
    )
    for architecture, release, digest in olds:
        items.append(f"Old, {architecture}: {release}{f', sha256 {digest}' if digest else ''}.")
    machines: dict[str, list[str]] = {}
    for host in report.hosts:
        machines.setdefault(_machine(host), []).append(host.host)
    items += [f"{names_text(names)}: {machine}." for machine, names in machines.items()]
    items.append(f"Planned by {report.planned_by or 'an operator'} with seed {report.seed}.")
    yield Bullets(tuple(items))


def _machine(host: HostResult) -> str:
    if not host.memory_bytes:
        return host.stratum
    # What a kernel takes for itself differs by a few MiB; it is the same machine.
    memory = f"{host.memory_bytes / 2**30:.1f} GiB of memory"
    line = f", command line “{host.kernel_command_line}”" if host.kernel_command_line else ""
    return (
        f"{host.stratum}, {count_text(host.cpu_count, 'processor')}, {memory}, "
        f"{bytes_text(host.page_size_bytes)} pages, agent {host.agent_version or 'of unknown version'}{line}"
    )


def _timeline(moments: Sequence[Moment]) -> Iterator[Block]:
    if not moments:
        return
    yield Heading(2, "Timeline")
    shown = moments
    if len(moments) > _TIMELINE_LINES:
        shown = [moment for moment in moments if not moment.host][:_TIMELINE_LINES]
        yield Paragraph(f"{len(moments) - len(shown)} lines about single hosts are in the JSON report only.")
    rows = tuple((offset_text(moment.offset_s), moment.host or "-", moment.text) for moment in shown)
    yield Table(titles=("Time", "Host", "What"), rows=rows)


def _interval(interval: IntervalView | None) -> str:
    if interval is None:
        return "-"
    return f"{number_text(interval.estimate)} ({number_text(interval.low)} … {number_text(interval.high)})"


def _mean_text(values: Sequence[float]) -> str:
    return number_text(sum(values) / len(values)) if values else "-"


def _change(old: float | None, new: float | None, digits: int) -> str:
    before = "-" if old is None else number_text(old, digits)
    after = "-" if new is None else number_text(new, digits)
    return f"{before} → {after}"
