"""`kernroll gate`: the judge as a tool, on measurements from anywhere."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.cli.exit_codes import ExitCode
from controller.cli.session import ROLLOUT_NAME, Session, calls, examples

if TYPE_CHECKING:
    from controller.views.gate.forest import ForestView

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def gate() -> None:
    """Judge measurements from anywhere; replay a rollout's judgement."""


@gate.command(
    "judge",
    epilog=examples(
        """
kernroll gate judge --plan plan.json --samples runs.jsonl
kernroll gate judge --plan plan.json --samples runs.jsonl --plot forest.svg --output json
kernroll gate judge --plan plan.json --samples - < runs.jsonl
kernroll gate judge --plan plan.json --samples runs.jsonl --margin kernel_build.system_time=0.5%
"""
    ),
)
@click.option("--plan", "plan_file", metavar="FILE", required=True, help="What was fixed beforehand, JSON or YAML.")
@click.option(
    "--samples", "samples_file", metavar="FILE", required=True, help='One JSON object a line; "-" reads stdin.'
)
@click.option("--plot", metavar="FILE", type=_FILE, help="Write the forest plot to FILE.svg or FILE.png.")
@click.option(
    "--margin", "margins", metavar="METRIC=PERCENT", multiple=True, help="What if: another margin, such as 0.5%."
)
@click.option("--claim", "claims", metavar="METRIC=SAVING", multiple=True, help="What if: another claim.")
@click.option("--final/--not-final", default=None, help="Whether no more data will come.  [default: as the plan says]")
@calls
@click.pass_context
def judge(
    ctx: click.Context,
    session: Session,
    /,
    *,
    plan_file: str,
    samples_file: str,
    plot: Path | None,
    margins: tuple[str, ...],
    claims: tuple[str, ...],
    final: bool | None,
) -> None:
    """Judge samples by a plan. Code 0: PASS; 7: FAIL; 9: not decided; 3: a file is wrong, with line and field.

    The order of the samples changes nothing.
    """
    from controller.cli.gate.files import WhatIf, judge_files

    view = judge_files(plan_file, samples_file, WhatIf(margins=margins, claims=claims, final=final))
    _show(session, view, plot)
    ctx.exit(code_of(view.verdict))


@gate.command("plan", epilog=examples("kernroll gate plan plan.json"))
@click.argument("file")
@calls
def plan(session: Session, file: str) -> None:
    """Say what a plan can decide before anything is measured: blocks, looks, errors."""
    from controller.cli import output
    from controller.cli.session import read_spec
    from controller.domain.samples.parse import parse_plan
    from controller.gate.trial.plans import plan_sentences

    text, name = read_spec(file)
    told = tuple(plan_sentences(parse_plan(text, name)))
    if session.output == "json":
        output.show_json({"plan": name, "sentences": told})
    else:
        output.show(*told)


@gate.command("schema", epilog=examples("kernroll gate schema samples > samples.schema.json"))
@click.argument("which", type=click.Choice(["plan", "samples"]))
def schema(which: str) -> None:
    """Print the JSON Schema of a plan, or of one line of samples."""
    from controller.cli import output
    from controller.domain.samples.parse import plan_json_schema, samples_json_schema

    output.show_json(plan_json_schema() if which == "plan" else samples_json_schema())


@gate.group("import")
def imports() -> None:
    """Turn other tools' output into samples."""


@imports.command(
    "benchstat",
    epilog=examples(
        """
kernroll gate import benchstat old.txt new.txt
kernroll gate import benchstat old.txt new.txt --output-samples runs.jsonl --output-plan plan.json
"""
    ),
)
@click.argument("old")
@click.argument("new")
@click.option(
    "--output-samples", metavar="FILE", type=_FILE, help="Write samples to a file.  [default: standard output]"
)
@click.option("--output-plan", metavar="FILE", type=_FILE, help="Write a plan that fits them.")
@click.option("--margin", default="3 %", show_default=True, help="The margin of every metric in that plan.")
def benchstat(*, old: str, new: str, output_samples: Path | None, output_plan: Path | None, margin: str) -> None:
    """Read Go benchmark output of an old and a new state.

    Two files measured one after the other are plain before and after: what changed with the hour cannot be told from
    what changed with the code, so the gate never decides on them. Interleave the runs and write a design into the plan.
    """
    from controller.cli.gate.files import import_benchmarks

    for line in import_benchmarks(old, new, samples=output_samples, plan=output_plan, margin=margin):
        click.echo(line, err=True)


@gate.command(
    "replay",
    epilog=examples(
        """
kernroll gate replay swap-table-phase3
kernroll gate replay swap-table-phase3 --claim swap_mount.cost=250
kernroll gate replay swap-table-phase3 --claim swap_mount.cost=250 --plot what-if.svg
kernroll gate replay swap-table-phase3-aa --margin swap_mount.swapoff_time=0.5%
"""
    ),
)
@click.argument("name", type=ROLLOUT_NAME)
@click.option(
    "--claim", "claims", metavar="METRIC=SAVING", multiple=True, help="Another claim; may be given repeatedly."
)
@click.option("--margin", "margins", metavar="METRIC=PERCENT", multiple=True, help="Another margin, such as 0.5%.")
@click.option("--plot", metavar="FILE", type=_FILE, help="Write the forest plot to FILE.svg or FILE.png.")
@calls
@click.pass_context
def replay(
    ctx: click.Context,
    session: Session,
    /,
    *,
    name: str,
    claims: tuple[str, ...],
    margins: tuple[str, ...],
    plot: Path | None,
) -> None:
    """Judge a rollout's log again: as it was, or under other claims and margins. Changes nothing.

    The code says how the newest judgement ends: 0 promote, 7 revert, 9 hold.
    """
    from controller.cli import output
    from controller.cli.gate.files import claims_of, margins_of
    from controller.cli.gate.tables import replay_parts

    other_claims, other_margins = claims_of(claims), margins_of(margins)
    with session.client() as client:
        view = client.replay_gate(name, other_claims, other_margins)
    if plot is not None:
        from controller.adapters.local.plots import write_forest
        from controller.views.gate.forest import forest_of_replay

        write_forest(forest_of_replay(view), plot)
        click.echo(f"{plot}: forest plot of the replayed {name}", err=True)
    if session.output == "json":
        output.show_json(view)
    else:
        output.show(*replay_parts(view))
    decision = view.waves[-1].decision if view.waves else "hold"
    ctx.exit({"promote": ExitCode.OK, "revert": ExitCode.UNSUCCESSFUL}.get(decision, ExitCode.UNDECIDED))


@gate.command(
    "ledger",
    short_help="Show what is known of the noise of measurements.",
    epilog=examples(
        """
kernroll gate ledger
kernroll gate ledger --output json | jq '.cells[] | select(.suspended != "")'
"""
    ),
)
@calls
def ledger(session: Session) -> None:
    """Show how much hosts' measurements change between boots of one kernel, and how often the gate erred on that.

    Every baseline of a rollout adds to it, and `kernroll rollout start FILE --aa` most of all. A cell that was called
    worse more often than promised, old against old, is suspended: it decides nothing until newer judgements are clean.
    """
    from controller.cli import output
    from controller.cli.power_tables import ledger_parts

    with session.client() as client:
        view = client.get_ledger()
    if session.output == "json":
        output.show_json(view)
    else:
        output.show(*ledger_parts(view))


def code_of(verdict: str) -> ExitCode:
    """Return the exit code of a judgement."""
    if verdict in ("PASS", "MARGINAL"):
        return ExitCode.OK
    return ExitCode.UNSUCCESSFUL if verdict in ("FAIL", "FATAL") else ExitCode.UNDECIDED


def _show(session: Session, view: "ForestView", plot: Path | None) -> None:
    from controller.cli import output
    from controller.cli.gate.tables import forest_parts

    if plot is not None:
        from controller.adapters.local.plots import write_forest

        write_forest(view, plot)
        click.echo(f"{plot}: forest plot of {view.title}", err=True)
    if session.output == "json":
        output.show_json(view)
    else:
        output.show(*forest_parts(view))
