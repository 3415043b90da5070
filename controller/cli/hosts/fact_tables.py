"""What expressions over hosts may ask for, on a terminal and for programs."""

from rich.console import RenderableType

from controller.cli.output import cells, plain_table
from controller.domain.hosts.expressions import FUNCTIONS
from controller.domain.hosts.facts import FACTS


def facts_view() -> dict[str, list[dict[str, str]]]:
    """Return facts and functions as plain data."""
    return {
        "facts": [{"name": name, "type": fact.kind.value, "meaning": fact.meaning} for name, fact in FACTS.items()],
        "functions": [{"name": name, "meaning": meaning} for name, meaning in FUNCTIONS.items()],
    }


def facts_parts() -> list[RenderableType]:
    """Return facts and functions as two tables."""
    facts = plain_table("FACT", "TYPE", "MEANING")
    for name, fact in FACTS.items():
        facts.add_row(*cells(name, fact.kind.value, fact.meaning))
    functions = plain_table("FUNCTION", "MEANING")
    for name, meaning in FUNCTIONS.items():
        functions.add_row(*cells(name, meaning))
    language = "Operators: == != < <= > >= in && || ! + - * / % ?: and parentheses. The language is CEL."
    return [facts, "", functions, "", language]
