"""How rollouts and plans look on a terminal: words and signs first, colour only on top."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from controller.cli.output import cells, plain_table
from controller.cli.power_tables import power_parts
from controller.views.models import CheckView, HostProgressView, RolloutView, VerdictView, WaveView
from controller.views.plan_models import PlannedMemberView, PlanView
from controller.words import count_text, duration_text, number_text, time_text

_BAR_CELLS = 10
# sign, style: what a step, wave or rollout looks like beside its word.
_SIGNS: dict[str, tuple[str, str]] = {
    "pending": ("·", "dim"),
    "waiting": ("·", "dim"),
    "planned": ("·", "dim"),
    "skipped": ("-", "dim"),
    "done": ("✓", "green"),
    "passed": ("✓", "green"),
    "promoted": ("✓", "green"),
    "completed": ("✓", "green"),
    "bake": ("◐", "cyan"),
    "baking": ("◐", "cyan"),
    "paused": ("‖", "yellow"),
    "awaiting_approval": ("‖", "yellow"),
    "fallback": ("↩", "yellow"),
    "reverting": ("↩", "yellow"),
    "aborting": ("↩", "yellow"),
    "reverted": ("↩", "red"),
    "aborted": ("■", "red"),
    "failed": ("✗", "red"),
    "lost": ("✗", "bold red"),
    "revert_incomplete": ("✗", "bold red"),
}
_VERDICTS = {"PASS": ("✓", "green"), "MARGINAL": ("~", "yellow"), "FAIL": ("✗", "red"), "FATAL": ("✗", "bold red")}
_CHECKS = {
    "awaited": ("▶", "cyan"),
    "passed": ("✓", "green"),
    "failed": ("✗", "red"),
    "timed_out": ("✗", "red"),
    "skipped": ("~", "yellow"),
    "unanswered": ("-", "dim"),
}
# Hosts that a shortened list shows first.
_CALM = {"pending": 2, "skipped": 2, "done": 1}


def signed(word: str) -> Text:
    """Return a state's word with its sign and colour."""
    sign, style = _SIGNS.get(word, ("▶", "cyan"))
    return Text(f"{sign} {word}", style=style)


def status_parts(view: RolloutView, now: float, *, max_hosts: int | None, width: int) -> tuple[RenderableType, ...]:
    """Return the whole status; a list of more than `max_hosts` hosts is shortened to those where something happens."""
    head = Text.assemble((view.name, "bold"), " is ", signed(view.state))
    if view.started_at is not None:
        until = now if view.ended_at is None else view.ended_at
        verb = "running for" if view.ended_at is None else "took"
        head.append(f", {verb} {duration_text(until - view.started_at)}")
    parts: list[RenderableType] = [head]
    if view.kernels:
        parts.append("to " + ", ".join(f"{kernel.release} ({kernel.architecture})" for kernel in view.kernels))
    parts += ["", hosts_in_waves(view, now, max_hosts, width)]
    hidden = hidden_hosts(view, max_hosts)
    if hidden:
        parts.append(hidden)
    parts.append("")
    parts += [verdict_line(verdict) for verdict in view.verdicts if verdict.worth_a_line]
    parts += [check_line(check) for check in view.checks if _worth_a_line(check, view)]
    if view.power_cycles:
        parts.append(f"Power cut and given again: {count_text(view.power_cycles, 'host')}")
    # Every other state's reason begins with the state's word.
    label = "Waits: " if view.state in ("planned", "running", "awaiting_approval") else ""
    parts.append(Text.assemble((label, "bold"), view.blocking_reason))
    if view.next_deadline is not None:
        left = _left(view.next_deadline, now, by_then=" must " in view.next_deadline_name)
        parts.append(Text.assemble(("Next: ", "bold"), f"{view.next_deadline_name} {left}"))
    return tuple(parts)


def hosts_in_waves(view: RolloutView, now: float, max_hosts: int | None, width: int) -> Table:
    """Return one line per host, wave by wave; a narrow terminal gets fewer columns."""
    dropped = {title for title, needed in _NEEDED_WIDTHS.items() if width < needed}
    titles = [title for title in _COLUMNS if title not in dropped]
    table = plain_table(*titles, right=frozenset({"SINCE", "LEFT"}))
    kept = _kept(view, max_hosts)
    for wave in view.waves:
        label: Text = Text.assemble(f"{wave.number} ", signed(wave.state))
        for host in wave.hosts:
            if host.host in kept:
                found = {"WAVE": label, **_host_cells(host, view, now)}
                table.add_row(*(found[title] for title in titles))
                label = Text("")
    return table


_COLUMNS = ("WAVE", "HOST", "STRATUM", "STEP", "PROGRESS", "SINCE", "LEFT", "KERNEL", "SAVES")
# Columns that are left out of a terminal with fewer characters a line.
_NEEDED_WIDTHS = {"STRATUM": 140, "KERNEL": 120, "STARTED": 120, "SINCE": 100}


def _host_cells(host: HostProgressView, view: RolloutView, now: float) -> dict[str, Text]:
    saves = ""
    if host.saving is not None:
        spread = (host.saving.high - host.saving.low) / 2
        saves = f"{number_text(host.saving.estimate)} ± {number_text(spread)} {host.saving_unit}"
    texts = {
        "HOST": host.host if host.role == "treated" else f"{host.host} ({host.role})",
        "STRATUM": host.stratum,
        "SINCE": "" if host.step_since is None or view.terminal else duration_text(now - host.step_since),
        "LEFT": "" if host.deadline is None else duration_text(host.deadline - now),
        "KERNEL": host.kernel_release,
        "SAVES": saves,
    }
    plain = dict(zip(texts, (Text(text) for text in cells(*texts.values())), strict=True))
    return {**plain, "STEP": signed(host.step), "PROGRESS": _progress(host)}


def _progress(host: HostProgressView) -> Text:
    if host.step in _CALM:
        return Text("")
    filled = round(host.fraction * _BAR_CELLS)
    text = Text()
    if 0 < host.fraction < 1:
        text.append("█" * filled + "░" * (_BAR_CELLS - filled), style="cyan")
        text.append(f" {host.fraction:4.0%} ")
    return text.append(host.detail)


def _kept(view: RolloutView, max_hosts: int | None) -> set[str]:
    """Choose the hosts to list: those where something happens or went wrong first."""
    everyone = [host for wave in view.waves for host in wave.hosts]
    if max_hosts is None or len(everyone) <= max_hosts:
        return {host.host for host in everyone}
    return {host.host for host in sorted(everyone, key=lambda host: _CALM.get(host.step, 0))[: max(1, max_hosts)]}


def hidden_hosts(view: RolloutView, max_hosts: int | None) -> str:
    """Count the hosts that a shortened list leaves out, by step; empty when it leaves none out."""
    kept = _kept(view, max_hosts)
    left: dict[str, int] = {}
    for wave in view.waves:
        for host in wave.hosts:
            if host.host not in kept:
                left[host.step] = left.get(host.step, 0) + 1
    parts = ", ".join(f"{count} {step}" for step, count in sorted(left.items()))
    return f"and {count_text(sum(left.values()), 'more host')}: {parts}" if left else ""


def verdict_line(verdict: VerdictView) -> Text:
    """Return one verdict: the gate's own sentence, which ends in the word for it, after a sign."""
    sign, style = _VERDICTS.get(verdict.verdict, ("?", "yellow"))
    return Text.assemble((f"{sign} ", style), verdict.sentence)


def check_line(check: CheckView) -> Text:
    """Return one check: its sentence after a sign."""
    sign, style = _CHECKS.get(check.state, ("?", "yellow"))
    return Text.assemble((f"{sign} ", style), check.sentence)


def _worth_a_line(check: CheckView, view: RolloutView) -> bool:
    """Whether a status shows it: everything of the newest wave, and of others what did not simply pass."""
    return check.wave == max(one.wave for one in view.checks) or check.state != "passed"


def _left(deadline: float, now: float, *, by_then: bool) -> str:
    if deadline <= now:
        return "now"
    return f"{'within' if by_then else 'in'} {duration_text(deadline - now)}"


def rollouts_table(rollouts: Sequence[RolloutView], width: int) -> Table:
    """Return one line per rollout; a narrow terminal does without when it was started."""
    roomy = width >= _NEEDED_WIDTHS["STARTED"]
    table = plain_table("NAME", "STATE", "WAVE", "HOSTS", *(("STARTED",) if roomy else ()), "WAITS FOR OR ENDED WITH")
    for view in rollouts:
        hosts = [host for wave in view.waves for host in wave.hosts]
        done = sum(host.step == "done" for host in hosts)
        started = "" if view.started_at is None else time_text(view.started_at)
        facts = (_wave(view.waves), f"{done} of {len(hosts)} done", *((started,) if roomy else ()))
        table.add_row(view.name, signed(view.state), *cells(*facts, view.blocking_reason))
    return table


def _wave(waves: Sequence[WaveView]) -> str:
    current = next((wave.number for wave in waves if wave.state not in ("passed",)), len(waves))
    return f"{current} of {len(waves)}"


def _with_role(host: str, member: PlannedMemberView | None) -> str:
    """Return a host of a plan with its part in the comparison."""
    if member is None:
        return host
    match member.role:
        case "control":
            return f"{host} (control{f' of {member.pair}' if member.pair else ''})"
        case "crossover":
            return f"{host} ({count_text(member.cycles, 'cycle')})"
        case _:
            return host


def plan_parts(plan: PlanView) -> tuple[RenderableType, ...]:
    """Return the plan of a rollout."""
    kernels = plain_table("ARCHITECTURE", "KERNEL", "DIGEST", "SOURCE")
    for kernel in plan.kernels:
        kernels.add_row(*cells(kernel.architecture, kernel.release, kernel.digest[:12], kernel.source))
    waves = plain_table("WAVE", "HOSTS", "THEN BAKES", "WHO")
    for wave in plan.waves:
        compared = {member.host: member for member in wave.compared}
        named = [_with_role(host, compared.get(host)) for host in wave.hosts[:8]]
        names = ", ".join(named) + (f" and {len(wave.hosts) - 8} others" if len(wave.hosts) > 8 else "")
        waves.add_row(str(wave.number), str(len(wave.hosts)), duration_text(wave.bake_s), names)
    waved = f"{count_text(plan.host_count, 'host')} in {count_text(len(plan.waves), 'wave')}"
    parts: list[RenderableType] = [
        Text.assemble((plan.name, "bold"), f": {waved}; seed {plan.seed}"),
        "",
        *((kernels, "") if plan.kernels else ()),
        *((waves, "") if plan.waves else ()),
    ]
    parts += [Text.assemble(("Claim: ", "bold"), claim.sentence) for claim in plan.claims]
    parts += [Text.assemble(("Check: ", "bold"), f"{check.name}: {check.sentence}") for check in plan.checks]
    parts += [Text.assemble(("Compared: ", "bold"), one.sentence) for one in plan.comparisons]
    parts += power_parts(plan.cells, plan.design)
    parts += [Text.assemble(("Pace: ", "bold"), sentence) for sentence in plan.pace]
    parts += [Text.assemble(("Note: ", "bold"), note) for note in plan.notes]
    parts += [Text.assemble(("✗ Blocker: ", "bold red"), blocker) for blocker in plan.blockers]
    parts.append("It cannot start." if plan.blockers else "Nothing stands in the way. Nothing has been changed.")
    return tuple(parts)
