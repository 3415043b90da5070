"""`kernroll gate`: the judge as a tool, on measurements from anywhere."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.cli.exit_codes import ExitCode
from controller.cli.session import Session, calls, examples

if TYPE_CHECKING:
    from controller.views.forest import ForestView

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
"""
    ),
)
@click.option("--plan", "plan_file", metavar="FILE", required=True, help="What was fixed beforehand, JSON or YAML.")
@click.option(
    "--samples", "samples_file", metavar="FILE", required=True, help='One JSON object a line; "-" reads stdin.'
)
@click.option("--plot", metavar="FILE", type=_FILE, help="Write the forest plot to FILE.svg or FILE.png.")
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
    final: bool | None,
) -> None:
    """Judge samples by a plan. Code 0: PASS; 7: FAIL; 9: not decided; 3: a file is wrong, with line and field.

    The order of the samples changes nothing.
    """
    from controller.cli.gate_files import judge_files

    view = judge_files(plan_file, samples_file, final=final)
    _show(session, view, plot)
    ctx.exit(code_of(view.verdict))


@gate.command("schema", epilog=examples("kernroll gate schema samples > samples.schema.json"))
@click.argument("which", type=click.Choice(["plan", "samples"]))
def schema(which: str) -> None:
    """Print the JSON Schema of a plan, or of one line of samples."""
    from controller.cli import output
    from controller.domain.samples import plan_json_schema, samples_json_schema

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
    from controller.cli.gate_files import import_benchmarks

    for line in import_benchmarks(old, new, samples=output_samples, plan=output_plan, margin=margin):
        click.echo(line, err=True)


def code_of(verdict: str) -> ExitCode:
    """Return the exit code of a judgement."""
    if verdict in ("PASS", "MARGINAL"):
        return ExitCode.OK
    return ExitCode.UNSUCCESSFUL if verdict in ("FAIL", "FATAL") else ExitCode.UNDECIDED


def _show(session: Session, view: "ForestView", plot: Path | None) -> None:
    from controller.cli import output
    from controller.cli.gate_tables import forest_parts

    if plot is not None:
        from controller.adapters.plots import write_forest

        write_forest(view, plot)
        click.echo(f"{plot}: forest plot of {view.title}", err=True)
    if session.output == "json":
        output.show_json(view)
    else:
        output.show(*forest_parts(view))
