"""What changed between two states of a rollout, as lines for a log."""

from collections.abc import Iterator
from dataclasses import dataclass

from controller.views.models import HostProgressView, RolloutView
from controller.words import count_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line: who, and what is new."""

    # Host name, "wave 1", "verdict", "check", "power" or the rollout's name.
    subject: str
    text: str
    # Seconds since the Unix epoch; None when only the reader knows when it came.
    at: float | None = None


def changes(before: RolloutView | None, after: RolloutView) -> Iterator[Change]:
    """Yield what is new in `after`: hosts first, then waves, verdicts and checks, the rollout's own state last.

    Without a state before, only what differs from a rollout in which nothing has happened is new.
    """
    old_hosts = {host.host: host for wave in before.waves for host in wave.hosts} if before else {}
    for wave in after.waves:
        for host in wave.hosts:
            yield from _host(old_hosts.get(host.host), host)
    old_waves = {wave.number: wave.state for wave in before.waves} if before else {}
    for wave in after.waves:
        if wave.state != old_waves.get(wave.number, "waiting"):
            yield Change(subject=f"wave {wave.number}", text=wave.state)
    known = set(before.verdicts) if before else set()
    for verdict in after.verdicts:
        if verdict not in known and verdict.worth_a_line:
            yield Change(subject="verdict", text=verdict.sentence)
    said = {(check.wave, check.name): check.sentence for check in before.checks} if before else {}
    for check in after.checks:
        if check.sentence != said.get((check.wave, check.name)):
            yield Change(subject="check", text=check.sentence.removeprefix("check "), at=check.reported_at)
    if after.power_cycles > (before.power_cycles if before else 0):
        yield Change(subject="power", text=f"cut and given again: {count_text(after.power_cycles, 'host')} by now")
    if before is None or after.state != before.state:
        reason = f": {after.blocking_reason}" if after.terminal or after.state == "paused" else ""
        at = after.ended_at if after.terminal else after.started_at if after.state == "running" else None
        yield Change(subject=after.name, text=f"{after.state}{_without_state(after, reason)}", at=at)


def _without_state(view: RolloutView, reason: str) -> str:
    """Drop the state's word where the reason begins with it as well."""
    repeated = f": {view.state.replace('_', ' ')}"
    return reason.removeprefix(repeated) if reason.startswith(repeated) else reason


def _host(before: HostProgressView | None, after: HostProgressView) -> Iterator[Change]:
    step = before.step if before is not None else "pending"
    if after.step != step:
        kernel = f", {after.kernel_release}" if after.kernel_release and after.kernel_release != _kernel(before) else ""
        detail = f": {after.detail}" if after.detail else ""
        yield Change(subject=after.host, text=f"{step} → {after.step}{kernel}{detail}", at=after.step_since)
    if after.saving is not None and (before is None or before.saving is None):
        saving = after.saving
        text = f"saves {saving.estimate:.1f} ({saving.low:.1f} … {saving.high:.1f}) {after.saving_unit}"
        yield Change(subject=after.host, text=text)


def _kernel(host: HostProgressView | None) -> str:
    return "" if host is None else host.kernel_release
