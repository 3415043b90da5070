"""How a checked rollout is read from a file's text."""

from typing import Any

from pydantic import ValidationError

from controller.domain.spec.document import RolloutDocument, RolloutSpec, problems_across
from controller.domain.spec.errors import problems_of
from controller.domain.spec.yaml import Problem, field_name, read_document, refuse


def parse_spec(text: str, file_name: str) -> RolloutSpec:
    """Return the rollout written in `text`.

    Raises InvalidInput whose text has one line per problem, "rollout.yaml:12: spec.waves[0].per_stratum: must be at
    least 1 (got 0)", in the order of the file.
    """
    document = read_document(text, file_name)
    if not isinstance(document.data, dict):
        raise refuse(file_name, [Problem(line=1, field="", text="is not a rollout: it must start with apiVersion")])
    problems = list(document.problems)
    try:
        parsed = RolloutDocument.model_validate(document.data)
    except ValidationError as error:
        raise refuse(file_name, problems + problems_of(error, document, RolloutDocument)) from error
    for place, sentence in problems_across(parsed.spec):
        path = ("spec", *place)
        problems.append(Problem(line=document.line_of(path), field=field_name(path), text=sentence))
    if problems:
        raise refuse(file_name, problems)
    return parsed.named


def spec_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a rollout file, for editors and other tools."""
    schema = RolloutDocument.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "kernroll Rollout"}
