"""Worlds drawn from a seed: another spec, another fleet and other faults for every number."""

import re
from collections.abc import Iterator
from typing import Any, Final

from controller.domain.spec.parse import parse_spec
from controller.sim.case import Case
from controller.sim.faults.parse import Faults, parse_faults
from controller.sim.operators import VERBS
from controller.sim.universe import chance

FILE_NAME: Final = "drawn.yaml"

_SPEC: Final = """\
apiVersion: kernroll/v1
kind: Rollout
metadata: {{name: drawn}}
spec:
  kernels:
    x86_64: {{debian: {{version: "7.1.13"}}}}
    arm64: {{debian: {{version: "7.1.13"}}}}
  waves: [{waves}]
  workloads:
    swap_mount: {{device: {{brd_size: 1TiB}}, repetitions: {repetitions}, warmups: {warmups}, timeout: 5m}}
{more}  claim: [{{metric: swap_mount.cost, saves_at_least: 230.4, unit: MiB/TiB, on_refuted: {on_refuted}}}]
  on_stratum_failure: {on_failure}
{drill}{windows}{checks}{design}  limits:
    {budget}
    error_budget: {error_budget}
    approval_timeout: 2h
    boot_timeout: 4m
    probation_timeout: {measured}
    baseline_timeout: {measured}
    stage_timeout: 4m
    heartbeat_timeout: 90s
    revert_timeout: 10m
    power_cycle: {power_cycle}
    infrastructure_retries: {rig_retries}
    died_retries: {died_retries}
"""
# Worlds begin on a Friday at eight in the morning, UTC.
_WINDOWS: Final = (
    '  windows: [{from: "09:30", to: "11:00", zone: Europe/Berlin}]\n',
    '  windows: [{from: "22:00", to: "02:00", zone: America/New_York, days: [fri, sat, mon]}]\n',
)
_WEBHOOK: Final = "{name: orders, webhook: {url: 'http://orders.invalid'}, every: 60s, deadline: 20m"
_ALERTS: Final = "{name: told, alerts: {url: 'http://alerts.invalid'}, dry_run: true}"
_CHECKS: Final = (
    f"  checks: [{_WEBHOOK}, on_fail: revert}}]\n",
    f"  checks: [{_WEBHOOK}}}, {{name: dba, manual: true, deadline: 30m}}]\n",
    f"  checks: [{_WEBHOOK}, on_timeout: revert}}, {_ALERTS}]\n",
)
# What is compared, and how: hosts with themselves in any fleet, with others where there are enough of them.
_DESIGNS: Final = (
    "  design: abba\n  abba: {per_stratum: 2, cycles: 4}\n",
    "  design: abba\n  abba: {per_stratum: 4, cycles: 3}\n",
    "  design: matched_pairs\n  pairs: {per_stratum: 10}\n",
    "  design: two_arms\n  controls: {per_stratum: 10}\n",
)
_WITH_ITSELF: Final = 2
_ENOUGH_HOSTS: Final = 100
# What may be wrong in a drawn world: (field, how likely it is there, what it says).
_FAULTS: Final[tuple[tuple[str, float, str], ...]] = (
    ("new_kernel.panics_at_boot", 0.12, "{share: 4 %}"),
    ("new_kernel.resets_at_boot", 0.10, "{share: 4 %}"),
    ("new_kernel.hangs_at_boot", 0.10, "{share: 4 %}"),
    ("new_kernel.boots_slowly", 0.15, "{share: 10 %, takes: 225s}"),
    ("new_kernel.dies_later", 0.12, "{share: 5 %, after: 20m}"),
    ("new_kernel.hangs_later", 0.15, "{share: 8 %, after: 20m}"),
    ("new_kernel.oopses_later", 0.12, "{share: 5 %, after: 20m}"),
    ("new_kernel.warns_later", 0.10, "{share: 5 %, after: 10m}"),
    ("new_kernel.kills_workloads", 0.10, "{share: 5 %}"),
    ("hosts.never_return", 0.15, "{share: 10 %}"),
    ("hosts.unmanaged", 0.15, "{share: 20 %}"),
    ("hosts.mute_management", 0.15, "{share: 20 %}"),
    ("hosts.management_away", 0.15, "{share: 20 %, every: 5m, down_for: 60s}"),
    ("hosts.dead_disk", 0.08, "{share: 3 %}"),
    ("hosts.refuse_a_verb", 0.12, "{share: 8 %}"),
    ("hosts.ignore_new_kernel", 0.08, "{share: 5 %}"),
    ("hosts.odd_outcomes", 0.12, "{share: 6 %}"),
    ("hosts.deaf_supervisor", 0.25, "{share: 20 %, every: 20m, down_for: 60s}"),
    ("hosts.lying_clock", 0.20, "{share: 15 %, off_by: 2h}"),
    ("hosts.noisy_rig", 0.20, "{share: 10 %, factor: 4}"),
    ("hosts.broken_rig", 0.20, "{share: 10 %, times: 2}"),
    ("hosts.reboot_unasked", 0.10, "{share: 5 %, after: 40m}"),
    ("network.flaps", 0.30, "{share: 20 %, every: 15m, down_for: 40s}"),
    ("network.lost", 0.30, "{share: 1 %}"),
    ("network.duplicated", 0.30, "{share: 3 %}"),
    ("network.reordered", 0.20, "{share: 1 %}"),
    ("controller.crashes", 0.45, "{per_rollout: 2.5, down_for: 60s}"),
    ("controller.leader_changes", 0.35, "{per_rollout: 2, down_for: 60s}"),
    ("controller.store_fails", 0.30, "{per_rollout: 4, down_for: 20s}"),
    ("monitoring.fails", 0.30, "{share: 15 %}"),
    ("monitoring.silent", 0.30, "{share: 10 %}"),
    ("monitoring.errors", 0.35, "{share: 30 %}"),
    ("monitoring.waits", 0.35, "{share: 40 %}"),
    ("cluster.nodes", 0.25, "{share: 60 %}"),
    ("cluster.never_empty", 0.20, "{share: 5 %}"),
    ("cluster.may_not_drain", 0.15, "{share: 5 %}"),
    ("cluster.away", 0.30, "{share: 40 %, every: 20m, down_for: 40s}"),
    ("controller.clock_jumps", 0.08, "{per_rollout: 0.5, by: 10m}"),
)
_VERB_IS_USED: Final = 0.12
# In some worlds every share is so much smaller: a large fleet comes to its later waves only where little goes wrong.
_SEVERITIES: Final = (1.0, 1.0, 0.2, 0.05)
_SHARE: Final = re.compile(r"share: ([\d.]+) %")
_BUDGETS: Final = (
    "max_in_flight: 1",
    "max_in_flight: 2",
    "max_in_flight: 5",
    "max_in_flight: 15",
    "max_unavailable: {zone: 1}",
    "max_unavailable: {zone: 2, fleet: 5}",
    "max_unavailable: {rack: 1, fleet: 30 %}",
    "max_unavailable: {zone: 50 %}",
)
_WAVES: Final = (
    "{per_stratum: 1, bake: BAKE}, {rest: true, bake: BAKE}",
    "{per_stratum: 1, bake: BAKE}, {percent: 30, bake: BAKE}, {rest: true, bake: BAKE}",
    "{per_stratum: 2, bake: BAKE}, {percent: 50, bake: BAKE}",
    "{per_stratum: 1, bake: BAKE, max_duration: 3h}, {rest: true, bake: BAKE, approvals: 1}",
    "{per_stratum: 1, bake: BAKE, approvals: 1}, {percent: 60, bake: BAKE, approvals: 2}, {rest: true, bake: BAKE}",
    "{rest: true, bake: BAKE}",
)


class _Draw:
    """Choices by name, so that one more of them changes no other."""

    def __init__(self, seed: str) -> None:
        self._seed = seed

    def happens(self, share: float, *names: object) -> bool:
        return chance(self._seed, "drawn", *names) < share

    def one_of(self, name: str, *choices: Any) -> Any:
        return choices[int(len(choices) * chance(self._seed, "drawn", name))]


def drawn_case(number: int, hosts: int) -> Case:
    """Return the world of one seed."""
    seed = str(number)
    draw = _Draw(seed)
    text = _spec_text(draw, hosts)
    return Case(
        seed=seed,
        hosts=hosts,
        spec_yaml=text,
        file_name=FILE_NAME,
        spec=parse_spec(text, FILE_NAME),
        faults=_faults(draw),
        then=draw.one_of("then", "", "revert", "abort", "resume", "promote", "retry"),
    )


def _spec_text(draw: _Draw, hosts: int) -> str:
    bake = draw.one_of("bake", "0s", "60s", "20m")
    designs = _DESIGNS if hosts >= _ENOUGH_HOSTS else _DESIGNS[:_WITH_ITSELF]
    design = draw.one_of("design", *designs) if draw.happens(0.12, "designed") else ""
    # What is compared is measured four times at least.
    runs = 4 if design else 2
    more = f"    kernel_build: {{preset: small, repetitions: {runs}, warmups: 0, timeout: 5m}}\n"
    return _SPEC.format(
        waves=draw.one_of("waves", *_WAVES).replace("BAKE", bake),
        repetitions=runs if design else draw.one_of("repetitions", 1, 2),
        warmups=draw.one_of("warmups", 0, 1),
        more=more if design or draw.happens(0.15, "more") else "",
        on_refuted=draw.one_of("on_refuted", "pause", "revert"),
        drill="  drill: {per_stratum: 1, revert_slo: 10m}\n" if draw.happens(0.2, "drill") else "",
        windows=draw.one_of("which windows", *_WINDOWS) if draw.happens(0.12, "windows") else "",
        checks=draw.one_of("which checks", *_CHECKS) if draw.happens(0.3, "checks") else "",
        design=design,
        measured="40m" if design else "15m",
        on_failure=draw.one_of("on_failure", "revert", "revert", "revert", "hold"),
        # A control host reboots beside the host it is compared with.
        budget=draw.one_of("budget", *(_BUDGETS[1:] if design else _BUDGETS)),
        error_budget=draw.one_of("error_budget", "{hosts: 0, share: 0 %}", "{hosts: 1}", "{hosts: 3, share: 10 %}"),
        power_cycle="once" if draw.happens(0.4, "power_cycle") else "never",
        rig_retries=draw.one_of("rig_retries", 0, 1, 3),
        died_retries=draw.one_of("died_retries", 0, 1),
    )


def _faults(draw: _Draw) -> Faults:
    return parse_faults(_faults_text(draw), FILE_NAME, VERBS)


def _faults_text(draw: _Draw) -> str:
    """Return a fault file: a few of the faults, whatever the world needs to be unlike the one before."""
    parts: dict[str, list[str]] = {}
    severity = draw.one_of("severity", *_SEVERITIES)
    for path, likely, text in _FAULTS:
        part, _, name = path.partition(".")
        if draw.happens(likely, path):
            milder = _SHARE.sub(lambda found: f"share: {float(found[1]) * severity:g} %", text)
            parts.setdefault(part, []).append(f"    {name}: {milder}")
    for verb in VERBS:
        if draw.happens(_VERB_IS_USED, "operator", verb):
            often = draw.one_of(f"operator {verb} often", 1, 1, 4)
            parts.setdefault("operator", []).append(f"    {verb}: {{per_rollout: {often}}}")
    return "\n".join(("apiVersion: kernroll/v1", "kind: Faults", "metadata: {name: drawn}", *_body(draw, parts))) + "\n"


def _body(draw: _Draw, parts: dict[str, list[str]]) -> Iterator[str]:
    yield "spec:"
    yield "  fleet:"
    spread = draw.one_of("spread", "", ", spread: {zone: 3, rack: 7}", ", spread: {zone: 5, rack: 4}")
    yield f"    - {{architecture: x86_64, platform: vm, share: 60 %{spread}}}"
    yield f"    - {{architecture: arm64, platform: metal, share: 40 %{spread}}}"
    for part, lines in parts.items():
        yield f"  {part}:"
        yield from lines
    effects = list(_effects(draw))
    if effects:
        yield "  effects:"
        yield from effects


def _effects(draw: _Draw) -> Iterator[str]:
    if draw.happens(0.2, "effect"):
        strata = draw.one_of("effect strata", "x86_64/vm", "arm64/metal")
        change = draw.one_of("effect change", "-20 %", "+1 %", "-28.5 %")
        yield f"    - {{metric: swap_mount.cost, strata: {strata}, change: {change}}}"
    if draw.happens(0.3, "slower"):
        change = draw.one_of("slower by", "-10 %", "+2 %", "+40 %", "+90 %")
        yield f"    - {{metric: kernel_build_subset.system_time, change: {change}}}"
