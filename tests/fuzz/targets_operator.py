"""Files and words that operators give: specs, plans, samples, inventories, expressions, durations, requests."""

import atexit
import json
import math
import shutil
import tempfile
from pathlib import Path

from drawing import Draw, all_printable, as_text
from promised import Target

from controller.adapters.imports import ansible_inventory
from controller.adapters.imports.benchstat import plan_of, read_benchmarks
from controller.adapters.imports.inventory_size import check_size
from controller.adapters.rpc.messages import from_message, to_message
from controller.cli.gate.files import claims_of, margins_of
from controller.domain.errors import InvalidInput
from controller.domain.fleet.inventory import inventory_labels
from controller.domain.hosts.expressions import ExpressionError, Undecided, expression, pointed
from controller.domain.hosts.facts import Subject
from controller.domain.hosts.host import Host, SwapDevice
from controller.domain.hosts.matching import decide
from controller.domain.hosts.releases import checked_release, compared
from controller.domain.printable import printable, printable_lines
from controller.domain.samples.parse import parse_plan, parse_samples, sample_line
from controller.domain.spec.parse import parse_spec
from controller.domain.spec.units import count_or_share, duration_s, percent_share, percent_share_or_zero, size_bytes
from controller.gate.trial.judge import judge_trial
from controller.services.operating.hosts import condition, find_hosts
from controller.services.state.world import World
from controller.sim.faults.parse import parse_faults
from controller.sim.operators import VERBS
from controller.views.gate.forest import forest_of_trial
from controller.views.gate.replayed import ReplayView
from controller.views.hosts.fleet import FleetView
from controller.views.json import view_data
from controller.views.models import ExplanationView, HostView, LedgerView, ReportView, RolloutView
from controller.views.plan_models import PlanView
from protos.kernroll.v1 import fleet_pb2, operator_pb2

_PLAN = parse_plan(
    '{"design": "matched_pairs", "metrics": {"m": {"unit": "s", "margin": "3 %", "better": "low"}}}', "plan.json"
)
_HOST = Host(
    name="a",
    architecture="x86_64",
    platform="vm",
    page_size_bytes=4096,
    memory_bytes=1 << 31,
    cpu_count=2,
    kernel_release="7.0.13",
    kernel_version="#1",
    boot_id="b",
    swap_devices=(SwapDevice(path="/dev/zram0", size_bytes=1 << 40, used_bytes=0, backend="zram"),),
)
_SUBJECTS = (Subject(host=_HOST), Subject(host=_HOST, labels={"zone": "a", "tier": "db\x1b[2J"}, rollout="r"))
_VIEWS = (
    (operator_pb2.Rollout, RolloutView),
    (operator_pb2.Host, HostView),
    (operator_pb2.Plan, PlanView),
    (operator_pb2.Explanation, ExplanationView),
    (operator_pb2.RolloutReport, ReportView),
    (operator_pb2.Ledger, LedgerView),
    (operator_pb2.Replay, ReplayView),
    (fleet_pb2.Fleet, FleetView),
)
_FOLDER = Path(tempfile.mkdtemp(prefix="kernroll-fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


def _lines_name_the_file(refused: InvalidInput, name: str) -> None:
    for line in str(refused).splitlines():
        assert line.startswith(f"{name}:"), line[:200]
        assert int(line.split(":")[1]) >= 1, line[:200]


def _spec(data: bytes) -> None:
    try:
        parse_spec(as_text(data), "f.yaml")
    except InvalidInput as refused:
        _lines_name_the_file(refused, "f.yaml")
        raise


def _faults(data: bytes) -> None:
    try:
        parse_faults(as_text(data), "f.yaml", VERBS)
    except InvalidInput as refused:
        _lines_name_the_file(refused, "f.yaml")
        raise


def _plan(data: bytes) -> None:
    try:
        parse_plan(as_text(data), "plan.json")
    except InvalidInput as refused:
        _lines_name_the_file(refused, "plan.json")
        raise


def _samples(data: bytes) -> None:
    """Read and judge samples; a first line that is a plan is taken for the plan."""
    plan, lines = _PLAN, as_text(data).split("\n")
    if lines[0].startswith('{"design"'):
        plan = parse_plan(lines[0], "plan.json")
        lines = lines[1:]
    try:
        samples = parse_samples(lines, "s.jsonl", plan)
    except InvalidInput as refused:
        _lines_name_the_file(refused, "s.jsonl")
        raise
    forest = forest_of_trial(judge_trial(plan, samples.measurements), "s.jsonl", samples.remarks)
    json.dumps(view_data(forest), allow_nan=False)
    all_printable(*samples.remarks)


def _benchmarks(data: bytes) -> None:
    old, _, new = as_text(data).partition("===\n")
    imported = read_benchmarks(old.split("\n"), new.split("\n"), ("old.txt", "new.txt"))
    for sample in imported.samples:
        sample_line(sample)
    json.dumps(plan_of(imported, "3 %"), allow_nan=False)


def _benchmarks_judged(data: bytes) -> None:
    old, _, new = as_text(data).partition("===\n")
    imported = read_benchmarks(old.split("\n"), new.split("\n"), ("old.txt", "new.txt"))
    if imported.metrics:
        plan = parse_plan(json.dumps(plan_of(imported, "3 %")), "plan.json")
        samples = parse_samples(map(sample_line, imported.samples), "s.jsonl", plan)
        judge_trial(plan, samples.measurements)


def _listing(data: bytes) -> None:
    read = inventory_labels(ansible_inventory._parsed(data, "f.json"), "f.json")
    for own in read.hosts.values():
        all_printable(*own, *own.values())
    all_printable(*read.refused.values(), *read.remarks)


def _inventory_size(data: bytes) -> None:
    path = _FOLDER / ("hosts.yaml" if data[:1] == b"y" else "hosts.ini" if data[:1] == b"i" else "hosts")
    path.write_bytes(data[1:])
    check_size(path)


def _expression(data: bytes) -> None:
    text = as_text(data)
    try:
        found = expression(text)
    except ExpressionError as error:
        str(pointed(text, error))
        # What a person is shown of it.
        condition(text, "where")
    for subject in _SUBJECTS:
        answer = decide(found, subject)
        if isinstance(answer, Undecided):
            all_printable(answer.why)


def _selector(data: bytes) -> None:
    find_hosts(World(hosts={_HOST.name: _HOST}), as_text(data), "")


def _units(data: bytes) -> None:
    text = as_text(data)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    refused = None
    for one in {type(value): value, str: text}.values():
        for read in (duration_s, size_bytes, percent_share, percent_share_or_zero, count_or_share):
            try:
                number = read(one)
            except ValueError as error:
                refused = error
            else:
                assert math.isfinite(number) and number >= 0
    if refused is not None:
        raise refused


def _assignments(data: bytes) -> None:
    written = as_text(data).split("\n")
    for read in (claims_of, margins_of):
        assert all(map(math.isfinite, read(written).values()))


def _releases(data: bytes) -> None:
    one, _, other = as_text(data).partition("\n")
    first, second = compared(one, other), compared(other, one)
    assert (first is None) == (second is None)
    assert first is None or second is None or (first > 0) == (second < 0)
    checked_release(one, "here")


def _operator_views(data: bytes) -> None:
    """Whatever a controller answers can be shown; whatever is shown can be sent."""
    draw = Draw(data[1:])
    kind, view = _VIEWS[(data[0] if data else 0) % len(_VIEWS)]
    shown = from_message(draw.message(kind), view)
    told = json.dumps(view_data(shown), allow_nan=False, ensure_ascii=False)
    all_printable(told)
    to_message(shown, kind)


def _printable(data: bytes) -> None:
    text = data[1:].decode("utf-8", "surrogateescape")
    most = data[0] + 1 if data else 512
    line = printable(text, most)
    assert line.isprintable() and len(line) <= most
    assert printable(line, most) == line
    lines = printable_lines(text, most, 5)
    all_printable(lines, lines=True)
    assert len(lines) <= most and lines.count("\n") <= 5
    assert printable_lines(lines, most, 6) == lines
    for one in (line, lines):
        one.encode()


_SPEC_WORDS = (
    *("apiVersion: kernroll/v1", "kind: Rollout", "metadata: {name: a}", "spec:", "kernels:", "x86_64:", "debian:"),
    *("version:", "image:", "path:", "waves:", "per_stratum:", "percent:", "rest: true", "bake:", "workloads:"),
    *("swap_mount:", "device:", "brd_size: 1TiB", "claim:", "metric:", "saves_at_least:", "unit:", "design:"),
    *("limits:", "max_in_flight:", "max_unavailable:", "windows:", "checks:", "prometheus:", "webhook:", "query:"),
    *("selector:", "where:", "match:", "strata:", "drill:", "controls:", "margins:", "&a", "*a", "!!int", "|", "---"),
)
_SAMPLE_WORDS = (
    *('{"design": "before_after", ', '"metrics": {"m": {', '"unit": "s"', '"margin": "3 %"', '"better": "low"'),
    *('"host": "a"', '"metric": "m"', '"value": 1.5', '"position": "first"', '"second"', '"stratum": "x86_64/vm"'),
    *('"run": 1', '"block": 1', '"arm": "new"', '"status": "lost"', '"kernel_log": "', '"looks": [', '"sigma": '),
    *('"claim": {', '"saves_at_least": ', '"boot": ', '"time": ', "1e308", "-0.0", "NaN", "9" * 19),
)

TARGETS = (
    Target(name="spec", run=_spec, errors=(InvalidInput,), stretched_bytes=1 << 14, words=_SPEC_WORDS),
    Target(name="faults", run=_faults, errors=(InvalidInput,), stretched_bytes=1 << 14, words=_SPEC_WORDS[:4]),
    Target(name="gate-plan", run=_plan, errors=(InvalidInput,), stretched_bytes=1 << 14, words=_SAMPLE_WORDS),
    Target(name="gate-samples", run=_samples, errors=(InvalidInput,), words=_SAMPLE_WORDS),
    Target(
        name="benchstat",
        run=_benchmarks,
        errors=(InvalidInput,),
        words=("Benchmark", "Get-8 1000 123 ns/op", "goos: linux", "===\n", "\t", " 0 B/op", "1e308", "goarch: arm64"),
    ),
    Target(
        name="benchstat-judged",
        run=_benchmarks_judged,
        errors=(InvalidInput,),
        stretched_bytes=1 << 14,
        words=("Benchmark", "Get-8 1000 123 ns/op", "goos: linux", "===\n", "\t", " 0 B/op", "1e308", "goarch: arm64"),
    ),
    Target(
        name="inventory-listing",
        run=_listing,
        errors=(InvalidInput,),
        words=(
            '"_meta": {"hostvars": {',
            '"hosts": [',
            '"children": [',
            '"zone": "a"',
            '"kernroll_labels": {',
            '"all"',
        ),
    ),
    Target(
        name="inventory-size",
        run=_inventory_size,
        errors=(InvalidInput,),
        stretched_bytes=1 << 15,
        words=("[a:vars]", "h[1:9]", "[a:z:2]", "&a", "*a", "all:", "hosts:", "- ", "? ", "<<: *a", "!!set"),
    ),
    Target(
        name="expression",
        run=_expression,
        errors=(InvalidInput,),
        most_bytes=1200,
        stretched_bytes=1200,
        words=(
            *(
                "arch",
                "labels.zone",
                'has(labels["a/b"])',
                "swap_total",
                "TiB(1)",
                "compare_releases(",
                "host.matches(",
            ),
            *(
                "size(",
                " in ",
                "[",
                "]",
                "&&",
                "||",
                "!",
                "==",
                "?",
                ":",
                "0x",
                "1u",
                '"""',
                "r'",
                ".startsWith(",
                "\\u",
            ),
        ),
    ),
    Target(name="selector", run=_selector, errors=(InvalidInput,), words=("architecture=", "zone=a", ",", "host=")),
    Target(name="units", run=_units, errors=(ValueError,), words=("1h30m", "1TiB", "3 %", "1.03", "²", "1e999")),
    Target(name="gate-options", run=_assignments, errors=(InvalidInput,), words=("m=", "3%", "1.5", "\n")),
    Target(name="releases", run=_releases, errors=(InvalidInput,), words=("7.1.13", "-rc1", "+", "~", "\n", "generic")),
    Target(name="operator-views", run=_operator_views),
    Target(name="printable", run=_printable, stretched_bytes=1 << 18),
)
