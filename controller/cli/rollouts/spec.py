"""`kernroll spec`: rollout files, without a controller."""

import click

from controller.cli.session import ROLLOUT_FILE, Session, calls, examples, read_spec


@click.group()
def spec() -> None:
    """Check rollout files; print their JSON Schema."""


@spec.command(
    "schema",
    epilog=examples(
        """
kernroll spec schema > rollout.schema.json
"""
    ),
)
@click.option("-o", "--output", type=click.Choice(["json"]), default="json", help="It is JSON always.")
def schema(output: str) -> None:
    """Print the JSON Schema of a rollout file, for editors."""
    from controller.cli.output import show_json
    from controller.domain.spec.parse import spec_json_schema

    show_json(spec_json_schema())


@spec.command(
    "check",
    short_help="Check a rollout file; every problem is one line.",
    epilog=examples(
        """
kernroll spec check rollout.yaml
kernroll spec check - < rollout.yaml
"""
    ),
)
@click.argument("file", type=ROLLOUT_FILE)
@calls
def check(session: Session, file: str) -> None:
    """Check a rollout file; every problem is one line with file, line and field."""
    from controller.cli import output
    from controller.domain.spec.parse import parse_spec

    text, name = read_spec(file)
    parsed = parse_spec(text, name)
    if session.output == "json":
        output.show_json({"name": parsed.name, "valid": True, "architectures": sorted(parsed.kernels)})
    else:
        output.show(f"{name}: {parsed.name} is a valid rollout for {' and '.join(sorted(parsed.kernels))}.")
