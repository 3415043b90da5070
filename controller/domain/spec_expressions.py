"""How a rollout file writes an expression over hosts."""

from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from controller.domain.expressions import MAX_CHARACTERS, checked

Where = Annotated[
    str,
    Field(max_length=MAX_CHARACTERS),
    AfterValidator(checked),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": MAX_CHARACTERS,
            "description": "A condition in the Common Expression Language over the facts of `kernroll hosts facts`.",
            "examples": ['arch == "arm64" && swap_total >= TiB(1)', 'zone == "a"'],
        }
    ),
]
