"""The report in the form of a cover letter: each test with its command, then a line Before and a line After."""

from collections.abc import Iterator, Sequence

from controller.views.report.blocks import Block, Bullets, Heading, Paragraph, Table
from controller.views.report.compared import by_design, change_text, compared_cells, counted, left_out_text
from controller.views.report.conditions import conditions
from controller.views.report.model import FreeTable, PerformanceResult, Report
from controller.words import count_text, names_text, number_text, signed_text

# Metrics of a test that stand side by side, and what their columns are called.
_BUILD = (("system_time", "System time"), ("user_time", "User time"), ("elapsed", "Elapsed"))
_READS = (("valkey.get_rate", "no persistence"), ("valkey.get_rate_bgsave", "with BGSAVE"))
_BUILDS = (("kernel_build", "Kernel build"), ("kernel_build_subset", "Build of a few kernel objects"))


def letter(reports: Sequence[Report]) -> Iterator[Block]:
    """Yield every test that was measured on both kernels; what is missing is not mentioned.

    Of several reports, each with tests of its own, one letter is made: an idle device is told once a stratum, by the
    first report that has it, and tests that differ only in a metric (reads with and without BGSAVE) stand side by side.
    """
    yield Heading(1, f"{names_text([report.rollout for report in reports])}: test results")
    told = set()
    for report in reports:
        for table in report.free_tables:
            if table.stratum not in told:
                told.add(table.stratum)
                yield from _mounted(table)
    for stratum in sorted({row.stratum for report in reports for row in report.performance}):
        for title, wanted in _tests():
            groups = list(_side_by_side(reports, stratum, [metric for metric, _ in wanted]))
            for group in groups:
                rows = [row for report in group for row in report.performance if row.stratum == stratum]
                # The same test under other conditions.
                whose = f" ({group[0].rollout})" if len(groups) > 1 else ""
                yield from _test(f"{title}{whose}, {stratum}", group, rows, wanted)
                for report in group:
                    yield from _compared(report, rows, wanted)


def _side_by_side(reports: Sequence[Report], stratum: str, wanted: Sequence[str]) -> Iterator[Sequence[Report]]:
    """Yield groups of reports whose values of a test fit into one table: no metric is in two of them."""
    having = []
    for report in reports:
        found = [row.metric for row in report.performance if row.stratum == stratum and row.metric in wanted]
        if found:
            having.append((report, found))
    metrics = [metric for _, found in having for metric in found]
    if len(metrics) == len(set(metrics)):
        yield [report for report, _ in having]
    else:
        yield from ([report] for report, _ in having)


def _tests() -> Iterator[tuple[str, Sequence[tuple[str, str]]]]:
    """Yield the tests in a cover letter's order: title, then metrics that stand side by side."""
    for name, title in _BUILDS:
        yield title, tuple((f"{name}.{metric}", text) for metric, text in _BUILD)
    yield "Valkey GET", _READS
    yield "Anonymous memory", (("anonymous_sweep.throughput", "Throughput"),)
    yield "Swap metadata when filled", (("swap_fill.cost", "Per TiB"),)
    yield "stress-ng", (("stress.bogo_rate", "Rate"),)


def _compared(report: Report, rows: Sequence[PerformanceResult], wanted: Sequence[tuple[str, str]]) -> Iterator[Block]:
    """Yield what a design found out about the metrics of a test: interval, number, hosts outside."""
    measured = {(row.stratum, row.metric) for row in rows}
    words = dict(wanted)
    items = []
    for cell in compared_cells(report):
        if (cell.stratum, cell.metric) not in measured or cell.metric not in words:
            continue
        outside = f"; far outside the others: {names_text(cell.outliers)}" if cell.outliers else ""
        items.append(f"{words[cell.metric]}: {change_text(cell)}, {counted(report, cell)}{outside}. {cell.verdict}.")
    if items:
        yield Paragraph(f"{by_design(report)}, which takes out what the hour did:")
        yield Bullets((*items, *filter(None, [left_out_text(report)])))


def _mounted(table: FreeTable) -> Iterator[Block]:
    yield Heading(2, f"Idle swap of {table.device_tib:g} TiB, free -m, {table.stratum}")
    yield Paragraph(f"{table.host}, {table.old_release} and {table.new_release}.")
    rows = [
        (word, *next(numbers for name, numbers in output.lines if name == "Mem"))
        for word, output in (("Before", table.old_after), ("After", table.new_after))
    ]
    yield Table(titles=("", *table.old_after.columns), rows=tuple(rows), numbers=frozenset(range(1, len(rows[0]))))


def _test(
    title: str, reports: Sequence[Report], rows: Sequence[PerformanceResult], wanted: Sequence[tuple[str, str]]
) -> Iterator[Block]:
    found = [(text, row) for metric, text in wanted for row in rows if row.metric == metric]
    if not found:
        return
    yield Heading(2, title)
    # Columns under the same conditions and counts are told of together.
    texts: dict[str, list[str]] = {}
    for text, row in found:
        texts.setdefault(_how(reports, row), []).append(text)
    for how, columns in texts.items():
        yield Paragraph(how if len(texts) == 1 else f"{names_text(columns)}: {how}")
    before = tuple(_value(row.old, row) for _, row in found)
    after = tuple(f"{_value(row.new, row)}{_change(row)}" for _, row in found)
    yield Table(
        titles=("", *(text for text, _ in found)),
        rows=(("Before", *before), ("After", *after)),
    )


def _how(reports: Sequence[Report], row: PerformanceResult) -> str:
    """Return machine, conditions and counts of a row in sentences."""
    hosts = [host for report in reports for host in report.hosts if host.stratum == row.stratum and host.memory_bytes]
    machine = ""
    if hosts:
        cpus = count_text(hosts[0].cpu_count, "processor")
        machine = f"{cpus}, {hosts[0].memory_bytes / 2**20:.0f} MiB of memory"
    counts = f"mean of {row.old_runs} + {row.new_runs} runs on {count_text(row.hosts, 'host')}"
    sentences = [machine, *conditions(dict(row.told)), counts]
    return ". ".join(each[0].upper() + each[1:] if each is counts else each for each in sentences if each) + "."


def _value(value: float, row: PerformanceResult) -> str:
    return f"{number_text(value, 2)} {row.unit}"


def _change(row: PerformanceResult) -> str:
    return "" if row.change is None else f" ({signed_text(row.change)} %)"
