"""What expressions over hosts may ask for, on a terminal and for programs."""

from rich.console import RenderableType

from controller.cli.output import cells, plain_table
from controller.domain.hosts.expressions import FACTS, FUNCTIONS

_TYPES = {"string": "text", "int": "number", "bool": "condition", "list": "list of texts", "map": "texts by name"}


def facts_view() -> dict[str, list[dict[str, str]]]:
    """Return facts and functions as plain data."""
    return {
        "facts": [{"name": name, "type": _type(name), "meaning": meaning} for name, (_, meaning) in FACTS.items()],
        "functions": [{"name": name, "meaning": meaning} for name, meaning in FUNCTIONS.items()],
    }


def facts_parts() -> list[RenderableType]:
    """Return facts and functions as two tables."""
    facts = plain_table("FACT", "TYPE", "MEANING")
    for name, (_, meaning) in FACTS.items():
        facts.add_row(*cells(name, _type(name), meaning))
    functions = plain_table("FUNCTION", "MEANING")
    for name, meaning in FUNCTIONS.items():
        functions.add_row(*cells(name, meaning))
    language = "Operators: == != < <= > >= in && || ! + - * / % ?: and parentheses. The language is CEL."
    return [facts, "", functions, "", language]


def _type(name: str) -> str:
    return _TYPES[FACTS[name][0].name().lower().partition("<")[0]]
