"""Simulated rollouts for people: one run wave by wave, many runs as shares."""

from collections.abc import Iterator, Mapping
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from controller.cli.output import cells, plain_table
from controller.views.simulation import DistributionView, SimulationView
from controller.words import count_text, duration_text

_STYLES: Final[Mapping[str, str]] = {
    "promoted": "green",
    "completed": "green",
    "paused": "yellow",
    "aborted": "yellow",
    "reverted": "red",
    "revert_incomplete": "bold red",
}
_SYMBOLS: Final[Mapping[str, str]] = {"promoted": "✓", "completed": "✓", "paused": "‖", "aborted": "↩", "reverted": "↩"}
_HOUR_S: Final = 3600.0


def run_parts(view: SimulationView, *, took_s: float | None = None) -> tuple[RenderableType, ...]:
    """Return one run: how it ended, its waves, its hosts, and what it cost."""
    style = _STYLES.get(view.state, "")
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{_SYMBOLS.get(view.state, '✗')} {view.state}", style), f" after {duration_text(view.duration_s)}"
        ),
        Text(view.reason),
        "",
        _waves(view),
        "",
    ]
    steps = ", ".join(f"{count} {step}" for step, count in sorted(view.steps.items(), key=lambda one: -one[1]))
    parts.append(f"{count_text(view.hosts, 'host')}: {steps}")
    parts.append(f"{count_text(view.boots, 'boot')}; at worst {count_text(view.most_unavailable, 'host')} down at once")
    parts += [Text(line) for line in _truth(view)]
    if view.incidents:
        parts.append("Incidents: " + ", ".join(f"{count} × {_plain(kind)}" for kind, count in view.incidents.items()))
    parts += [Text(f"✗ {breach}", style="bold red") for breach in view.breaches]
    took = "" if took_s is None else f", in {took_s:.1f} s ({1 / took_s:.2g} seeds/s)"
    parts.append(Text(f"Seed {view.seed}, {view.events} events{took}", style="dim"))
    return tuple(parts)


def _plain(kind: str) -> str:
    return kind.replace("_", " ")


def _waves(view: SimulationView) -> RenderableType:
    table = plain_table("Wave", "Hosts", "Opened", "Judged", "Gate", right=frozenset({"Wave", "Hosts"}))
    for number, wave in enumerate(view.waves, start=1):
        judged = None if wave.judged_s is None else duration_text(wave.judged_s)
        table.add_row(*cells(number, wave.hosts, duration_text(wave.opened_s), judged, wave.decision))
    return table


def _truth(view: SimulationView) -> Iterator[str]:
    """Yield what was really wrong with the kernel, which only a simulation can tell."""
    if view.true_regressions:
        named = ", ".join(f"{metric} in {stratum}" for stratum, metric in view.true_regressions[:5])
        yield f"In truth the kernel is worse than allowed: {named}"
    if view.broken_hosts:
        yield f"In truth the kernel is broken on {count_text(view.broken_hosts, 'host')}"
    if not view.kernel_is_bad:
        yield "In truth nothing is wrong with the kernel"
        return
    yield f"Host-hours on a bad kernel: {view.bad_kernel_host_s / _HOUR_S:.1f}"


def distribution_parts(view: DistributionView, *, seeds_per_s: float) -> tuple[RenderableType, ...]:
    """Return many runs as shares."""
    table = plain_table("Ended", "Runs", "Share", right=frozenset({"Runs", "Share"}))
    for state, runs in view.states.items():
        table.add_row(
            Text(f"{_SYMBOLS.get(state, '✗')} {state}", style=_STYLES.get(state, "")), *_share(runs, view.runs)
        )
    parts: list[RenderableType] = [table]
    if view.reasons:
        why = plain_table("Not promoted because", "Runs", "Share", right=frozenset({"Runs", "Share"}))
        for one in view.reasons:
            why.add_row(f"{one.state}: {one.reason}", *_share(one.runs, view.runs))
        parts += ["", why]
    parts.append("")
    if view.good_kernels:
        turned = f"{view.good_kernels_turned_down} of {view.good_kernels}"
        parts.append(f"Turned down although nothing is wrong with the kernel: {turned}")
    if view.bad_kernels:
        promoted = f"{view.bad_kernels_promoted} of {view.bad_kernels}"
        parts.append(f"Promoted although the kernel is broken or worse than allowed: {promoted}")
        median, most = view.bad_kernel_host_median_s / _HOUR_S, view.bad_kernel_host_most_s / _HOUR_S
        parts.append(f"Host-hours on a bad kernel: median {median:.1f}, at most {most:.1f}")
    took = f"median {duration_text(view.duration_median_s)}, at most {duration_text(view.duration_longest_s)}"
    parts.append(f"Duration: {took}; at worst {count_text(view.most_unavailable, 'host')} down at once")
    parts += [Text(f"✗ seed {seed}: {text}", style="bold red") for seed, text in view.breaches.items()]
    parts.append(Text(f"{count_text(view.runs, 'seed')}, {view.events} events, {seeds_per_s:.2g} seeds/s", style="dim"))
    return tuple(parts)


def _share(part: int, whole: int) -> tuple[str, str]:
    return str(part), f"{100 * part / whole:.1f} %"
